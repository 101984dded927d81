//! Turns of agents.

use callpark_proto::v1::run_turn_response::Outcome;

use crate::{
    error::Error,
    stream::{CallRequest, CallStream},
    task::{ParkedAnswer, TaskHandle},
    transport::{
        connection::Connection,
        handle::handle,
        request_id::identify,
        unary::{rpc, send},
    },
    v1,
};

handle! {
    /// The turns of agents: a turn is a prompt and everything that an agent does to answer it.
    /// [`Client::turns`](crate::Client::turns) returns it.
    ///
    /// ```no_run
    /// use callpark_client::{Client, Error, RunTurn, TurnOutcome};
    ///
    /// # async fn show(client: Client) -> Result<(), Error> {
    /// match client.turns().run(RunTurn::new("Which tests fail, and why?")).await? {
    ///     TurnOutcome::Finished(turn) => println!("{}", turn.result.final_text),
    ///     TurnOutcome::Parked(task) => println!("still running as {}", task.background_id()),
    ///     _ => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    Turns
}

impl Turns<'_> {
    /// Sends a prompt to an agent. Returns the result of its turn if the turn ends within its budget,
    /// and a handle to the parked turn otherwise. If the deadline of the client is shorter than the
    /// budget, the turn is parked before the deadline passes.
    ///
    /// A turn that fails is not an error but a result, with the `error` of the turn.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND` or `MODEL_NOT_FOUND`; ABORTED `SESSION_BUSY`; ALREADY_EXISTS
    /// `REQUEST_ID_REUSED`; FAILED_PRECONDITION `SESSION_CLOSED`; RESOURCE_EXHAUSTED `TASK_LIMIT` or
    /// `STORAGE_FULL`. After these errors no turn has been started.
    pub async fn run(self, request: impl Into<v1::RunTurnRequest>) -> Result<TurnOutcome, Error> {
        const RPC: &str = "ToolRunner.RunTurn";
        let attempts = self.attempts(RPC);
        let answer = send(attempts, identify(request.into()), rpc!(tool_runner.run_turn)).await?;
        TurnOutcome::new(self.connection, answer)
            .ok_or_else(|| Error::answer("the answer contains no outcome").of(RPC, 1))
    }

    /// Sends a prompt to an agent and streams the events of its turn, including those of its calls.
    /// The stream opens at the first poll.
    ///
    /// An interruption counts as a disconnect of the caller, for which
    /// [`on_disconnect`](crate::RunTurn::on_disconnect) is set: by default the turn is then parked,
    /// and the resumed stream delivers the rest of it. A turn that takes longer than its budget ends
    /// the stream with its `tool_call_parked`.
    ///
    /// # Errors
    /// An item may be one of the errors of [`run`](Self::run).
    pub fn stream(self, request: impl Into<v1::RunTurnRequest>) -> CallStream {
        CallStream::new(self.connection, CallRequest::Turn(request.into()))
    }

    /// Stops a turn and waits until it has ended.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`.
    pub async fn cancel(
        self,
        request: impl Into<v1::CancelTurnRequest>,
    ) -> Result<v1::CancelTurnResponse, Error> {
        let attempts = self.attempts("ToolRunner.CancelTurn");
        send(attempts, identify(request.into()), rpc!(tool_runner.cancel_turn)).await
    }
}

/// The outcome of a turn.
///
/// ```no_run
/// use callpark_client::{TurnOutcome, WaitLimit};
///
/// # async fn show(outcome: TurnOutcome) -> Result<(), callpark_client::Error> {
/// match outcome {
///     TurnOutcome::Finished(turn) => println!("{}", turn.result.final_text),
///     TurnOutcome::Parked(task) => {
///         task.wait(WaitLimit::Unbounded).await?;
///     }
///     _ => {}
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TurnOutcome {
    /// The turn ended within its budget. This includes failures: `result.error`.
    Finished(Box<FinishedTurn>),
    /// The turn continues as a background task.
    Parked(TaskHandle),
    /// The request was a dry run: it was checked, and nothing was started.
    Checked(Box<v1::RunTurnResponse>),
}

/// A turn that ended within its budget.
///
/// ```
/// use callpark_client::FinishedTurn;
///
/// fn has_failed(turn: &FinishedTurn) -> bool {
///     turn.result.error.is_some()
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FinishedTurn {
    /// The session of the turn.
    pub session_id: String,
    /// The id of the turn.
    pub turn_id: String,
    /// The id of the call that the turn is.
    pub call_id: String,
    /// The result of the turn.
    pub result: v1::TurnResult,
    /// An earlier request with the same `request_id` started the turn.
    pub replayed: bool,
}

impl TurnOutcome {
    /// Returns the outcome, or `None` if the answer lacks one although it is no dry run.
    fn new(connection: &Connection, mut answer: v1::RunTurnResponse) -> Option<Self> {
        let Some(outcome) = answer.outcome.take() else {
            return answer.dry_run.then(|| Self::Checked(Box::new(answer)));
        };
        let v1::RunTurnResponse { session_id, turn_id, call_id, replayed, .. } = answer;
        Some(match outcome {
            Outcome::Result(result) => Self::Finished(Box::new(FinishedTurn {
                session_id,
                turn_id,
                call_id,
                result,
                replayed,
            })),
            Outcome::Parked(notice) => {
                let turn_id = Some(turn_id);
                let answer = ParkedAnswer { session_id, call_id, turn_id, replayed, notice };
                Self::Parked(TaskHandle::parked(connection, answer))
            }
        })
    }
}
