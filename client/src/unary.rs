//! Calls with one answer.

use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    call::{Call, Context},
    client::Client,
    error::Error,
    parked::RunOutcome,
    retry::Budget,
    v1,
};

/// Sends a request until it is answered, refused, or the budget is used up. Only for requests that
/// are safe to repeat: reads, and those with a `request_id`.
pub(crate) async fn send<Q, A, W>(
    mut call: Call,
    message: Q,
    rpc: impl Fn(&Client, Request<Q>) -> W,
) -> Result<A, Error>
where
    Q: Clone,
    W: Future<Output = Result<Response<A>, Status>>,
{
    loop {
        let request = call.request(message.clone()).await?;
        let answer = rpc(call.client(), request);
        match call.bounded(answer).await? {
            Ok(answer) => {
                call.answered();
                return Ok(answer.into_inner());
            }
            Err(status) => call.recover(call.failed(status), Context::default()).await?,
        }
    }
}

/// A request that may carry an id under which it can be repeated.
pub trait Identified {
    /// The id. Empty: none yet.
    fn request_id(&mut self) -> &mut String;
}

macro_rules! identified {
    ($($request:ident),* $(,)?) => {
        $(impl Identified for v1::$request {
            fn request_id(&mut self) -> &mut String {
                &mut self.request_id
            }
        })*
    };
}

identified!(
    AcknowledgeFollowUpRequest,
    CancelRequest,
    CloseSessionRequest,
    CreateSessionRequest,
    DeleteRequest,
    LeaseFollowUpsRequest,
    RetryFollowUpRequest,
    RunToolRequest,
    RunTurnRequest,
    UpdateSessionRequest,
    CancelTurnRequest,
);

impl Identified for v1::StartRequest {
    fn request_id(&mut self) -> &mut String {
        use v1::start_request::Work;
        let work = self.work.get_or_insert_with(|| Work::ToolCall(v1::RunToolRequest::default()));
        match work {
            Work::ToolCall(call) => &mut call.request_id,
            Work::Turn(turn) => &mut turn.request_id,
        }
    }
}

/// Gives a request an id, unless the caller gave it one.
pub(crate) fn identify<Q: Identified>(mut request: Q) -> Q {
    let id = request.request_id();
    if id.is_empty() {
        *id = new_request_id();
    }
    request
}

pub(crate) fn new_request_id() -> String {
    Uuid::new_v4().to_string()
}

/// One method for each RPC: `name(Request) -> Answer, Service.Method, client`. `once` marks those that
/// create or change, and therefore need an id.
macro_rules! rpcs {
    ($($(#[$doc:meta])* $(@$once:ident)? $name:ident($request:ident) -> $answer:ident, $rpc:literal, $client:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: v1::$request) -> Result<v1::$answer, Error> {
                    $(let request = $once(request);)?
                    let call = Call::new(self, $rpc, Budget::Start);
                    send(call, request, |client, request| {
                        let mut service = client.$client();
                        async move { service.$name(request).await }
                    })
                    .await
                }
            )*
        }
    };
}

rpcs! {
    /// Lists the tools that the caller may use.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`.
    list_tools(ListToolsRequest) -> ListToolsResponse, "ToolRunner.ListTools", tool_runner;

    /// Creates a session.
    ///
    /// # Errors
    /// NOT_FOUND `TOOL_NOT_FOUND`; ALREADY_EXISTS `REQUEST_ID_REUSED`; RESOURCE_EXHAUSTED
    /// `SESSION_LIMIT` or `STORAGE_FULL`.
    @identify create_session(CreateSessionRequest) -> CreateSessionResponse, "ToolRunner.CreateSession", tool_runner;

    /// Sends a prompt to an agent and gives what its turn came to, well or not: a turn that fails is
    /// an answer with its error. A deadline or a cut parks the turn, which goes on; sent again it
    /// attaches to the same turn.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND` or `MODEL_NOT_FOUND`; ABORTED `SESSION_BUSY`; ALREADY_EXISTS
    /// `REQUEST_ID_REUSED`; FAILED_PRECONDITION `SESSION_CLOSED`; RESOURCE_EXHAUSTED `SESSION_LIMIT`,
    /// `TASK_LIMIT` or `STORAGE_FULL`.
    @identify run_turn(RunTurnRequest) -> RunTurnResponse, "ToolRunner.RunTurn", tool_runner;

    /// Stops a turn, and waits for its end.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`.
    @identify cancel_turn(CancelTurnRequest) -> CancelTurnResponse, "ToolRunner.CancelTurn", tool_runner;

    /// Reads a session.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`.
    get_session(GetSessionRequest) -> GetSessionResponse, "ToolRunner.GetSession", tool_runner;

    /// Lists the caller's sessions, newest first, in pages.
    ///
    /// # Errors
    /// INVALID_ARGUMENT `PAGE_TOKEN_INVALID`.
    list_sessions(ListSessionsRequest) -> ListSessionsResponse, "ToolRunner.ListSessions", tool_runner;

    /// Closes a session: it takes no new work, and its tasks that aren't detached are cancelled.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; ALREADY_EXISTS `REQUEST_ID_REUSED`.
    @identify close_session(CloseSessionRequest) -> CloseSessionResponse, "ToolRunner.CloseSession", tool_runner;

    /// Starts work straight in the background.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND` or `TOOL_NOT_FOUND`; INVALID_ARGUMENT `ARGUMENTS_INVALID`;
    /// ALREADY_EXISTS `REQUEST_ID_REUSED`; ABORTED `SESSION_BUSY`; FAILED_PRECONDITION
    /// `SESSION_CLOSED`; RESOURCE_EXHAUSTED `TASK_LIMIT`, `SESSION_LIMIT` or `STORAGE_FULL`. None of
    /// them starts the work.
    @identify start(StartRequest) -> StartResponse, "BackgroundTasks.Start", background_tasks;

    /// Reads a task.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    get(GetRequest) -> GetResponse, "BackgroundTasks.Get", background_tasks;

    /// Lists the caller's tasks, newest first, in pages.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; INVALID_ARGUMENT `PAGE_TOKEN_INVALID`.
    list(ListRequest) -> ListResponse, "BackgroundTasks.List", background_tasks;

    /// Waits for the end of a task, for up to 540 s. [`ParkedCall::wait`](crate::ParkedCall::wait)
    /// waits longer.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    wait(WaitRequest) -> WaitResponse, "BackgroundTasks.Wait", background_tasks;

    /// Waits for the end of one or all of up to 100 tasks, for up to 540 s.
    /// [`wait_any`](Self::wait_any) and [`wait_all`](Self::wait_all) take more tasks and wait longer.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND` when one of the ids is unknown.
    wait_many(WaitManyRequest) -> WaitManyResponse, "BackgroundTasks.WaitMany", background_tasks;

    /// Cancels a task: TERM to its processes, the grace, then KILL; with `force`, KILL at once.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`; ALREADY_EXISTS `REQUEST_ID_REUSED`.
    @identify cancel(CancelRequest) -> CancelResponse, "BackgroundTasks.Cancel", background_tasks;

    /// Forgets a finished task, with its output.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`; FAILED_PRECONDITION `TASK_RUNNING`; ALREADY_EXISTS
    /// `REQUEST_ID_REUSED`.
    @identify delete(DeleteRequest) -> DeleteResponse, "BackgroundTasks.Delete", background_tasks;

    /// Reads a part of a task's output. [`ParkedCall::output`](crate::ParkedCall::output) follows all
    /// of it.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    read_output(ReadOutputRequest) -> ReadOutputResponse, "BackgroundTasks.ReadOutput", background_tasks;

    /// Says what a model and a person should know of a session's tasks.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`.
    summarize(SummarizeRequest) -> SummarizeResponse, "BackgroundTasks.Summarize", background_tasks;

    /// Lists follow-ups, newest first, in pages.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; INVALID_ARGUMENT `PAGE_TOKEN_INVALID`.
    list_follow_ups(ListFollowUpsRequest) -> ListFollowUpsResponse, "BackgroundTasks.ListFollowUps", background_tasks;

    /// Leases follow-ups, and waits for one for up to 540 s when there is none. Sent again with the
    /// same `request_id` it renews its leases. [`follow_ups`](Self::follow_ups) leases, renews and
    /// acknowledges by itself.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; ALREADY_EXISTS `REQUEST_ID_REUSED`.
    @identify lease_follow_ups(LeaseFollowUpsRequest) -> LeaseFollowUpsResponse, "BackgroundTasks.LeaseFollowUps", background_tasks;

    /// Says how the delivery of a leased follow-up went.
    ///
    /// # Errors
    /// NOT_FOUND `FOLLOW_UP_NOT_FOUND`; FAILED_PRECONDITION `LEASE_EXPIRED`; ALREADY_EXISTS
    /// `REQUEST_ID_REUSED`.
    @identify acknowledge_follow_up(AcknowledgeFollowUpRequest) -> AcknowledgeFollowUpResponse, "BackgroundTasks.AcknowledgeFollowUp", background_tasks;

    /// Puts a dead-lettered follow-up back into the outbox.
    ///
    /// # Errors
    /// NOT_FOUND `FOLLOW_UP_NOT_FOUND`; FAILED_PRECONDITION `FOLLOW_UP_NOT_DEAD_LETTERED` or
    /// `SESSION_CLOSED`; ALREADY_EXISTS `REQUEST_ID_REUSED`.
    @identify retry_follow_up(RetryFollowUpRequest) -> RetryFollowUpResponse, "BackgroundTasks.RetryFollowUp", background_tasks;
}

impl Client {
    /// Runs one call of a tool. The outcome is the result when the call ends within its budget, else
    /// a handle on the parked call. With a deadline shorter than the budget, the call is parked in
    /// time. A tool's failure is a result.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND` or `TOOL_NOT_FOUND`; INVALID_ARGUMENT `ARGUMENTS_INVALID`;
    /// ALREADY_EXISTS `REQUEST_ID_REUSED`; FAILED_PRECONDITION `SESSION_CLOSED`; RESOURCE_EXHAUSTED
    /// `TASK_LIMIT`, `SESSION_LIMIT` or `STORAGE_FULL`. None of them starts the work.
    pub async fn run_tool(&self, request: v1::RunToolRequest) -> Result<RunOutcome, Error> {
        const RPC: &str = "ToolRunner.RunTool";
        let call = Call::new(self, RPC, Budget::Start);
        let answer = send(call, identify(request), |client, request| {
            let mut service = client.tool_runner();
            async move { service.run_tool(request).await }
        })
        .await?;
        RunOutcome::new(self, answer)
            .ok_or_else(|| Error::answer("the answer has no outcome").of(RPC, 1))
    }
}
