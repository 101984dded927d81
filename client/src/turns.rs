//! Turns of agents.

use crate::{
    error::Error,
    options::RetryBudget,
    stream::{CallRequest, CallStream},
    transport::{
        attempts::Attempts,
        connection::Connection,
        request_id::identify,
        unary::{rpc, send},
    },
    v1,
};

/// The turns of agents: a turn is a prompt and everything that an agent does to answer it.
/// [`Client::turns`](crate::Client::turns) returns it.
///
/// ```no_run
/// use callpark_client::{Client, Error, RunTurn, TurnOutcome};
///
/// # async fn show(client: Client) -> Result<(), Error> {
/// let outcome = client.turns().run(RunTurn::new("Which tests fail, and why?")).await?;
/// if let TurnOutcome::Finished(turn) = outcome {
///     println!("{}", turn.final_text);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Turns<'a> {
    connection: &'a Connection,
}

impl<'a> Turns<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// Sends a prompt to an agent and returns the outcome of its turn. A turn that fails is not an
    /// error but an outcome that contains the error of the turn.
    ///
    /// A deadline or an interruption parks the turn, which continues. The repeated request attaches
    /// to the same turn.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND` or `MODEL_NOT_FOUND`; ABORTED `SESSION_BUSY`; ALREADY_EXISTS
    /// `REQUEST_ID_REUSED`; FAILED_PRECONDITION `SESSION_CLOSED`; RESOURCE_EXHAUSTED `SESSION_LIMIT`,
    /// `TASK_LIMIT` or `STORAGE_FULL`.
    pub async fn run(self, request: impl Into<v1::RunTurnRequest>) -> Result<TurnOutcome, Error> {
        let attempts = Attempts::new(self.connection, "ToolRunner.RunTurn", RetryBudget::Start);
        let answer = send(attempts, identify(request.into()), rpc!(tool_runner.run_turn)).await?;
        Ok(TurnOutcome::Finished(Box::new(answer)))
    }

    /// Sends a prompt to an agent and streams the events of its turn, including those of its calls.
    /// The stream opens at the first poll.
    ///
    /// An interruption parks the turn, which continues. The resumed stream delivers the rest of it.
    ///
    /// # Errors
    /// An item may be one of the errors of [`run`](Self::run).
    pub fn stream(self, request: impl Into<v1::StreamTurnRequest>) -> CallStream {
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
        let attempts = Attempts::new(self.connection, "ToolRunner.CancelTurn", RetryBudget::Start);
        send(attempts, identify(request.into()), rpc!(tool_runner.cancel_turn)).await
    }
}

/// The outcome of a turn.
///
/// ```
/// use callpark_client::TurnOutcome;
///
/// fn print(outcome: &TurnOutcome) {
///     if let TurnOutcome::Finished(turn) = outcome {
///         println!("{}", turn.final_text);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TurnOutcome {
    /// The turn has ended. This includes failures: `error` is set then.
    Finished(Box<v1::RunTurnResponse>),
}
