//! The attempts of one call or stream.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request};

use crate::{
    error::{Error, Origin},
    options::{RetryBudget, RetryNotice},
    transport::{
        connection::Connection,
        pool::Route,
        retry::{Failure, Plan, Retries},
        token::Bearer,
    },
};

/// The number of connections in a row that may turn out to have ended before an attempt counts as failed.
const ENDED_MAX: u32 = 8;

/// The circumstances of a failed attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FailureContext {
    /// The next request differs from the failed one, so it is sent whatever the error was.
    pub(crate) request_changed: bool,
    /// The stream had received at least one heartbeat after its first message.
    pub(crate) was_alive: bool,
    /// The cursor after which a stream resumes.
    pub(crate) after_sequence: Option<i64>,
}

/// All attempts of one call or stream, with their common deadline, retry budgets and token.
pub(crate) struct Attempts {
    connection: Connection,
    rpc: &'static str,
    deadline: Option<Instant>,
    retries: Retries,
    route: Arc<Route>,
    /// The number of connections that had ended before the current attempt was sent.
    ended: u32,
    kind: Kind,
    bearer: Option<Bearer>,
    /// The token was fetched again since the last answer.
    token_renewed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A call or stream of its own.
    Separate,
    /// One request of a longer operation: once the server was reached, failures draw on the resume
    /// budget.
    PartOfOperation,
}

impl Attempts {
    pub(crate) fn new(connection: &Connection, rpc: &'static str, budget: RetryBudget) -> Self {
        Self {
            connection: connection.clone(),
            rpc,
            deadline: connection.deadline(),
            retries: Retries::new(connection.options(), budget),
            route: Arc::default(),
            ended: 0,
            kind: Kind::Separate,
            bearer: None,
            token_renewed: false,
        }
    }

    /// Creates the attempts of one request of a longer operation, such as a long wait. It is retried
    /// like a stream that was interrupted, or like a first call if the server has never answered.
    pub(crate) fn part_of_operation(connection: &Connection, rpc: &'static str) -> Self {
        let budget = match connection.was_answered() {
            true => RetryBudget::Resume,
            false => RetryBudget::Start,
        };
        Self { kind: Kind::PartOfOperation, ..Self::new(connection, rpc, budget) }
    }

    /// Replaces the deadline.
    #[must_use]
    pub(crate) fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn count(&self) -> u32 {
        self.retries.attempts()
    }

    /// Begins an attempt: returns the request with the token and the remaining time.
    pub(crate) async fn request<T>(&mut self, message: T) -> Result<Request<T>, Error> {
        let bearer = self.bounded(self.connection.tokens().bearer()).await?;
        self.bearer = bearer.map_err(|error| self.no_token(error))?;
        if self.ended == 0 {
            self.retries.begin();
        }
        let mut request = Request::new(message);
        request.extensions_mut().insert(Arc::clone(&self.route));
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.header.clone());
        }
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        Ok(request)
    }

    /// Runs `work` until the deadline.
    pub(crate) async fn bounded<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let Some(deadline) = self.deadline else { return Ok(work.await) };
        let expired = |_| self.last(self.failed(Error::deadline()));
        timeout_at(deadline, work).await.map_err(expired)
    }

    /// Returns `error` with the RPC and the number of attempts.
    pub(crate) fn failed(&self, error: impl Into<Error>) -> Error {
        error.into().of(self.rpc, self.count())
    }

    /// Returns the error of a call that is not tried again, with the failures of the endpoints.
    fn last(&self, error: Error) -> Error {
        error.at(self.route.failures())
    }

    fn no_token(&self, error: std::io::Error) -> Error {
        let message = format!("the token cannot be obtained: {error}");
        self.failed(Error::new(Origin::Token, Code::Unauthenticated, message).caused_by(error))
    }

    /// Records the first message of a stream.
    pub(crate) fn started(&mut self) {
        self.answered();
        self.retries.started();
        self.token_renewed = false;
    }

    /// Records an answer of the server.
    pub(crate) fn answered(&self) {
        self.connection.record_answer();
    }

    /// Records that the stream delivered something new.
    pub(crate) fn progressed(&mut self) {
        self.retries.progressed();
    }

    /// Waits until the next attempt may begin.
    ///
    /// # Errors
    /// `error`, if there is no further attempt.
    pub(crate) async fn recover(
        &mut self,
        error: Error,
        context: FailureContext,
    ) -> Result<(), Error> {
        if error.is_unsent() && self.ended < ENDED_MAX {
            self.ended += 1;
            return Ok(());
        }
        self.ended = 0;
        if self.renew_token(&error).await? {
            let plan = Plan { delay: Duration::ZERO, budget: None };
            self.notify(&error, plan, context.after_sequence);
            return Ok(());
        }
        if !error.is_transient() && !context.request_changed {
            return Err(error);
        }
        self.route.failed(&error);
        let server_was_reached = error.origin() == Origin::Server || error.was_connected();
        if self.kind == Kind::PartOfOperation && server_was_reached {
            self.started();
        }
        let failure = Failure {
            retry_delay: error.retry_delay(),
            announced: context.was_alive && error.is_draining(),
            moves_on: error.is_unprocessed() && self.route.has_other(),
        };
        let Some(plan) = self.retries.after(failure, rand::random()) else {
            return Err(self.last(error));
        };
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline - now <= plan.delay) {
            return Err(self.last(error));
        }
        self.notify(&error, plan, context.after_sequence);
        sleep(plan.delay).await;
        Ok(())
    }

    /// Fetches the token again after the server refused it, at most once between two answers.
    /// Returns whether there is another token to try.
    async fn renew_token(&mut self, error: &Error) -> Result<bool, Error> {
        let is_answer = matches!(error.origin(), Origin::Server | Origin::Proxy);
        let refused = is_answer && error.code() == Code::Unauthenticated;
        let Some(bearer) = self.bearer.clone().filter(|_| refused && !self.token_renewed) else {
            return Ok(false);
        };
        self.token_renewed = true;
        let renewed = self.bounded(self.connection.tokens().renew(&bearer)).await?;
        renewed.map_err(|error| self.no_token(error))
    }

    fn notify(&self, error: &Error, plan: Plan, after_sequence: Option<i64>) {
        let Plan { delay, budget } = plan;
        let (rpc, attempts) = (self.rpc, self.count());
        tracing::warn!(rpc, attempts, ?budget, ?delay, after_sequence, %error, "retrying");
        if let Some(on_retry) = self.connection.on_retry() {
            on_retry(&RetryNotice { rpc, attempts, budget, delay, after_sequence, error });
        }
    }
}
