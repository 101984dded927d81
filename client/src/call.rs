//! One call or stream, over all its tries.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request};

use crate::{
    client::Client,
    error::{Error, Origin},
    options::RetryNotice,
    retry::{Budget, Failure, Plan, Retries},
    token::Bearer,
};

/// What is known of a failed try, beside its error.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context {
    /// The request that follows asks for something else: whatever the error, it is worth a try.
    pub(crate) altered: bool,
    /// The stream had been alive for at least one heartbeat.
    pub(crate) alive: bool,
    /// What a stream resumes after.
    pub(crate) after_sequence: Option<i64>,
}

/// One call or stream, over all its tries: its deadline, its budgets, its token.
pub(crate) struct Call {
    client: Client,
    rpc: &'static str,
    deadline: Option<Instant>,
    retries: Retries,
    /// A connection that was there and is cut draws on the resume budget.
    resumes: bool,
    bearer: Option<Bearer>,
    /// The token was fetched anew since the last answer.
    renewed: bool,
}

impl Call {
    pub(crate) fn new(client: &Client, rpc: &'static str, budget: Budget) -> Self {
        Self {
            client: client.clone(),
            rpc,
            deadline: client.deadline(),
            retries: Retries::new(client.options(), budget),
            resumes: false,
            bearer: None,
            renewed: false,
        }
    }

    /// A part of something that goes on, such as a long wait. It has the patience of a stream that
    /// was cut, once the server has been there: before that, of a start.
    pub(crate) fn resumed(client: &Client, rpc: &'static str) -> Self {
        let answered = client.core().answered.load(Ordering::Relaxed);
        let budget = if answered { Budget::Resume } else { Budget::Start };
        Self { resumes: true, ..Self::new(client, rpc, budget) }
    }

    /// The same call, over at this time.
    #[must_use]
    pub(crate) fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn tries(&self) -> u32 {
        self.retries.tries()
    }

    /// Begins a try: the message with the token and the time that is left.
    pub(crate) async fn request<T>(&mut self, message: T) -> Result<Request<T>, Error> {
        let core = Arc::clone(self.client.core());
        let bearer = self.bounded(core.tokens.bearer()).await?;
        self.bearer = bearer.map_err(|error| self.no_token(error))?;
        self.retries.begin();
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.header.clone());
        }
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        Ok(request)
    }

    /// Does something before the deadline.
    pub(crate) async fn bounded<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let Some(deadline) = self.deadline else { return Ok(work.await) };
        timeout_at(deadline, work).await.map_err(|_| self.failed(Error::deadline()))
    }

    /// An error of this call.
    pub(crate) fn failed(&self, error: impl Into<Error>) -> Error {
        error.into().of(self.rpc, self.retries.tries())
    }

    fn no_token(&self, error: std::io::Error) -> Error {
        let message = format!("no token could be had: {error}");
        self.failed(Error::new(Origin::Token, Code::Unauthenticated, message).caused_by(error))
    }

    /// The first message of a stream has come.
    pub(crate) fn started(&mut self) {
        self.answered();
        self.retries.started();
        self.renewed = false;
    }

    /// The server has answered.
    pub(crate) fn answered(&self) {
        self.client.core().answered.store(true, Ordering::Relaxed);
    }

    /// Something new has come.
    pub(crate) fn progressed(&mut self) {
        self.retries.progressed();
    }

    /// Waits until the next try, or gives the error back when there is none.
    pub(crate) async fn recover(&mut self, error: Error, context: Context) -> Result<(), Error> {
        if self.renew(&error).await? {
            let plan = Plan { delay: Duration::ZERO, budget: None };
            self.notify(&error, plan, context.after_sequence);
            return Ok(());
        }
        if !error.passes() && !context.altered {
            return Err(error);
        }
        let was_there = error.origin() == Origin::Server || error.was_connected();
        if self.resumes && was_there {
            self.started();
        }
        let failure = Failure {
            retry_delay: error.retry_delay(),
            announced: context.alive && error.is_draining(),
        };
        let Some(plan) = self.retries.after(failure, rand::random()) else { return Err(error) };
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline - now <= plan.delay) {
            return Err(error);
        }
        self.notify(&error, plan, context.after_sequence);
        sleep(plan.delay).await;
        Ok(())
    }

    /// The server refused the token, for the first time since its last answer, and there is another.
    async fn renew(&mut self, error: &Error) -> Result<bool, Error> {
        let refused = error.origin() == Origin::Server && error.code() == Code::Unauthenticated;
        let Some(bearer) = self.bearer.clone().filter(|_| refused && !self.renewed) else {
            return Ok(false);
        };
        self.renewed = true;
        let core = Arc::clone(self.client.core());
        let renewed = self.bounded(core.tokens.renew(&bearer)).await?;
        renewed.map_err(|error| self.no_token(error))
    }

    fn notify(&self, error: &Error, plan: Plan, after_sequence: Option<i64>) {
        let Plan { delay, budget } = plan;
        let (rpc, tries) = (self.rpc, self.retries.tries());
        tracing::warn!(rpc, tries, ?budget, ?delay, after_sequence, %error, "trying again");
        if let Some(on_retry) = self.client.on_retry() {
            on_retry(&RetryNotice { rpc, tries, budget, delay, after_sequence, error });
        }
    }
}
