//! Calls that go on in the background.

use std::{sync::Arc, time::Duration};

use callpark_proto::v1::run_tool_response::Outcome;
use tokio::time::{Instant, sleep};

use crate::{
    call::Call,
    client::Client,
    error::Error,
    output::{OutputOptions, OutputReader},
    unary::send,
    v1,
};

/// The longest wait that the server grants at once.
const SERVER_WAIT_MAX: Duration = Duration::from_secs(540);
/// An answer that comes early, so shortly before the deadline, comes because of the deadline.
const DEADLINE_NEAR: Duration = Duration::from_secs(1);

/// What a call of a tool came to.
#[derive(Clone, Debug)]
pub enum RunOutcome {
    /// It ended within its budget. A tool's failure is here too: `result.is_error`.
    Finished(Box<FinishedCall>),
    /// It goes on as a background task.
    Parked(ParkedCall),
    /// The request said `dry_run`: it was checked, and nothing was started.
    Checked(Box<v1::RunToolResponse>),
}

/// A call that ended within its budget.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FinishedCall {
    /// The session of the call.
    pub session_id: String,
    /// The call's id.
    pub call_id: String,
    /// What the tool gave back.
    pub result: v1::ToolResult,
    /// An earlier request with the same `request_id` started the call.
    pub replayed: bool,
}

impl RunOutcome {
    /// `None`: the answer has no outcome, though something was started.
    pub(crate) fn new(client: &Client, mut answer: v1::RunToolResponse) -> Option<Self> {
        match answer.outcome.take() {
            Some(Outcome::Result(result)) => {
                let v1::RunToolResponse { session_id, call_id, replayed, .. } = answer;
                let call = FinishedCall { session_id, call_id, result, replayed };
                Some(Self::Finished(Box::new(call)))
            }
            Some(Outcome::Parked(parked)) => {
                let background_id = parked.background_id.clone();
                answer.outcome = Some(Outcome::Parked(parked));
                Some(Self::Parked(ParkedCall::new(client, background_id, Some(answer))))
            }
            None => answer.dry_run.then(|| Self::Checked(Box::new(answer))),
        }
    }
}

/// A handle on a background task. It owns nothing: dropping it leaves the task as it is.
///
/// Its waits and its reader of output are as patient as streams: they draw on
/// [`resume_attempts`](crate::ClientOptions::resume_attempts), and each answer resets the count.
#[derive(Clone, Debug)]
pub struct ParkedCall {
    client: Client,
    background_id: String,
    answer: Option<Arc<v1::RunToolResponse>>,
}

impl ParkedCall {
    pub(crate) fn new(
        client: &Client,
        background_id: String,
        answer: Option<v1::RunToolResponse>,
    ) -> Self {
        Self { client: client.clone(), background_id, answer: answer.map(Arc::new) }
    }

    /// The task's id: `bg-` and 32 hex digits.
    pub fn background_id(&self) -> &str {
        &self.background_id
    }

    /// What the server answered when it parked the call. `None`: the handle was made from an id.
    pub fn answer(&self) -> Option<&v1::RunToolResponse> {
        self.answer.as_deref()
    }

    /// What the server said of the parked call: the text for a model, the task at that moment, a
    /// sensible wait. `None`: the handle was made from an id.
    pub fn notice(&self) -> Option<&v1::ParkedCall> {
        match self.answer()?.outcome.as_ref()? {
            Outcome::Parked(parked) => Some(parked),
            Outcome::Result(_) => None,
        }
    }

    /// Reads the task.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn get(&self) -> Result<v1::Task, Error> {
        let request = v1::GetRequest { background_id: self.background_id.clone() };
        let answer = self.client.get(request).await?;
        answer
            .task
            .ok_or_else(|| Error::answer("the answer has no task").of("BackgroundTasks.Get", 1))
    }

    /// Waits for the end of the task, for at most so long. `None`: for ever. When the task hasn't
    /// ended by then, the answer says `still_running`.
    ///
    /// A deadline of the client bounds the whole wait: the answer comes before it when the server
    /// can be reached.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn wait(&self, at_most: Option<Duration>) -> Result<v1::WaitResponse, Error> {
        self.wait_chain(at_most, false).await
    }

    /// As [`wait`](Self::wait), and takes note of the outcome: when the task has ended, its follow-up
    /// is suppressed.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn wait_and_acknowledge(
        &self,
        at_most: Option<Duration>,
    ) -> Result<v1::WaitResponse, Error> {
        self.wait_chain(at_most, true).await
    }

    async fn wait_chain(
        &self,
        at_most: Option<Duration>,
        acknowledge: bool,
    ) -> Result<v1::WaitResponse, Error> {
        let patience = Patience::new(&self.client, at_most);
        loop {
            let wait = patience.next();
            let request = v1::WaitRequest {
                background_id: self.background_id.clone(),
                wait: wait.field(),
                acknowledge,
            };
            let call = Call::resumed(&self.client, "BackgroundTasks.Wait");
            let mut answer = send(call.until(patience.over), request, |client, request| {
                let mut service = client.background_tasks();
                async move { service.wait(request).await }
            })
            .await?;
            if !answer.still_running || patience.ends_with(&wait).await {
                answer.waited = patience.waited();
                return Ok(answer);
            }
        }
    }

    /// Cancels the task: TERM to its processes, the grace, then KILL; with `force`, KILL at once. A
    /// task that has finished is answered with its real result. `reason` may be empty.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn cancel(
        &self,
        force: bool,
        reason: impl Into<String>,
    ) -> Result<v1::CancelResponse, Error> {
        let request = v1::CancelRequest {
            background_id: self.background_id.clone(),
            force,
            reason: reason.into(),
            ..v1::CancelRequest::default()
        };
        self.client.cancel(request).await
    }

    /// Reads the task's output until its end, from the start or from where the options say.
    pub fn output(&self, options: OutputOptions) -> OutputReader {
        OutputReader::new(&self.client, self.background_id.clone(), options)
    }
}

/// How long a chain of waits goes on.
pub(crate) struct Patience {
    began: Instant,
    /// When the caller wants an answer. `None`: only when it is there.
    until: Option<Instant>,
    /// When the chain is over, whatever the server does: time to arrive included.
    pub(crate) over: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(client: &Client, at_most: Option<Duration>) -> Self {
        let began = Instant::now();
        let until = at_most.and_then(|at_most| began.checked_add(at_most));
        let arrived = until.and_then(|until| until.checked_add(client.options().connect_timeout));
        let over = [client.deadline(), arrived].into_iter().flatten().min();
        Self { began, until, over, pause: client.options().backoff }
    }

    /// How long the server is to wait next.
    pub(crate) fn next(&self) -> Wait {
        let asked = Instant::now();
        let left = self.until.map(|until| until.saturating_duration_since(asked));
        Wait { asked, wait: left.map_or(SERVER_WAIT_MAX, |left| left.min(SERVER_WAIT_MAX)) }
    }

    /// An answer came that isn't the one hoped for: is it the last? A server that answers sooner than
    /// it was asked to does so because the deadline is near, or because it stops. It isn't asked
    /// again at once.
    pub(crate) async fn ends_with(&self, wait: &Wait) -> bool {
        let now = Instant::now();
        let early = now < wait.asked + wait.wait;
        let near = |over: Instant| over.saturating_duration_since(now) <= DEADLINE_NEAR;
        if self.until.is_some_and(|until| until <= now) || (early && self.over.is_some_and(near)) {
            return true;
        }
        if early {
            sleep(self.pause).await;
        }
        false
    }

    /// How long the chain has lasted.
    pub(crate) fn waited(&self) -> Option<prost_types::Duration> {
        prost_types::Duration::try_from(self.began.elapsed()).ok()
    }
}

/// One wait of a chain.
pub(crate) struct Wait {
    asked: Instant,
    wait: Duration,
}

impl Wait {
    /// Asks where things stand.
    pub(crate) fn none() -> Self {
        Self { asked: Instant::now(), wait: Duration::ZERO }
    }

    /// As a field of a request.
    pub(crate) fn field(&self) -> Option<prost_types::Duration> {
        prost_types::Duration::try_from(self.wait).ok()
    }
}
