//! Leases of follow-ups: taken, renewed, acknowledged, released.

use std::{
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Response, Status};

use crate::{
    error::{Error, Origin, Reason},
    google::rpc,
    options::RetryBudget,
    transport::{
        attempts::Attempts, connection::Connection, request_id::new_request_id, unary::send,
    },
    v1,
};

const LEASE: &str = "BackgroundTasks.LeaseFollowUps";
const ACKNOWLEDGE: &str = "BackgroundTasks.AcknowledgeFollowUp";
/// The time that the server waits for a follow-up before it sends an empty answer: less than the time
/// after which many proxies end a silent request.
const WAIT: Duration = Duration::from_secs(45);
/// The number of renewals in the duration of a lease: two of them may fail before it expires.
const RENEWALS_IN_A_LEASE: u32 = 3;
/// The time that the server may take to report the leases of an abandoned request.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(1);
/// The time that releasing a lease may take, over all its attempts.
pub(super) const RELEASE_TIME_MAX: Duration = Duration::from_secs(10);

/// The leases of one consumer.
pub(super) struct Leases {
    connection: Connection,
    /// The request of the consumer, without an id.
    template: v1::LeaseFollowUpsRequest,
    renew_every: Duration,
}

/// A lease that the server granted.
pub(super) struct Lease {
    /// The request that took the lease. Sent again, it renews the lease.
    request: v1::LeaseFollowUpsRequest,
    pub(super) follow_up_id: String,
    token: String,
    /// The server no longer knows the lease.
    lost: bool,
}

/// The current lease of a follow-up that is being handled. An expired lease may be replaced by another
/// one.
pub(super) struct LeaseHandle(Mutex<Lease>);

impl Leases {
    /// # Errors
    /// [`Origin::Request`] for a duration that does not fit into a message.
    pub(super) fn new(
        connection: &Connection,
        lease_duration: Duration,
        template: v1::LeaseFollowUpsRequest,
    ) -> Result<Self, Error> {
        let duration = prost_types::Duration::try_from(lease_duration).map_err(|_| {
            let message = format!("a lease of {lease_duration:?} is too long: use 1 h at most");
            Error::request(message).of(LEASE, 0)
        })?;
        let template = v1::LeaseFollowUpsRequest {
            max_follow_ups: 1,
            lease_duration: Some(duration),
            wait: prost_types::Duration::try_from(WAIT).ok(),
            ..template
        };
        // A deadline limits single calls, not a consumer that runs until it is stopped.
        let connection = connection.with_deadline(None);
        Ok(Self { connection, template, renew_every: lease_duration / RENEWALS_IN_A_LEASE })
    }

    /// Returns a request for a new lease.
    pub(super) fn request(&self) -> v1::LeaseFollowUpsRequest {
        v1::LeaseFollowUpsRequest { request_id: new_request_id(), ..self.template.clone() }
    }

    /// Waits for a follow-up. Returns `None` if there was none within the wait of one request.
    pub(super) async fn take(
        &self,
        request: v1::LeaseFollowUpsRequest,
    ) -> Result<Option<(Lease, v1::FollowUp)>, Error> {
        let start = Instant::now();
        let attempts = || Attempts::part_of_operation(&self.connection, LEASE);
        let answer = send_despite_rate_limits(attempts, request.clone(), lease_follow_ups).await?;
        let mut leased = answer.follow_ups.into_iter();
        match (leased.next(), leased.next()) {
            (None, _) => {
                // A server that is about to stop answers early: do not ask it again at once.
                if start.elapsed() < WAIT {
                    sleep(self.connection.options().backoff).await;
                }
                Ok(None)
            }
            (Some(v1::LeasedFollowUp { follow_up: Some(follow_up), lease_token }), None) => {
                let follow_up_id = follow_up.follow_up_id.clone();
                let lease = Lease { request, follow_up_id, token: lease_token, lost: false };
                Ok(Some((lease, follow_up)))
            }
            (Some(_), None) => {
                Err(answer_error("the answer contains a lease without its follow-up"))
            }
            (Some(_), Some(_)) => Err(answer_error("the answer contains more than one follow-up")),
        }
    }

    /// Releases the leases of an abandoned request: sent again with a short deadline, the request
    /// returns them. Returns the number of released leases.
    pub(super) async fn recover(&self, request: v1::LeaseFollowUpsRequest) -> u64 {
        let deadline = Instant::now().checked_add(RECOVERY_TIME_MAX);
        let attempts = Attempts::new(&self.connection, LEASE, RetryBudget::Start).until(deadline);
        match send(attempts, request, lease_follow_ups).await {
            Ok(answer) => self.release(answer.follow_ups).await,
            Err(error) => {
                tracing::debug!(%error, "unknown whether the last request leased a follow-up");
                0
            }
        }
    }

    /// Releases leases without a handler. Those that cannot be released expire.
    async fn release(&self, leased: Vec<v1::LeasedFollowUp>) -> u64 {
        let mut count = 0;
        for v1::LeasedFollowUp { follow_up, lease_token } in leased {
            let follow_up_id = follow_up.unwrap_or_default().follow_up_id;
            let request = v1::AcknowledgeFollowUpRequest {
                follow_up_id: follow_up_id.clone(),
                lease_token,
                error: Some(released()),
                ..v1::AcknowledgeFollowUpRequest::default()
            };
            let deadline = Instant::now().checked_add(RELEASE_TIME_MAX);
            let attempts =
                Attempts::part_of_operation(&self.connection, ACKNOWLEDGE).until(deadline);
            match send(attempts, request, acknowledge_follow_up).await {
                Ok(_) => count += 1,
                Err(error) => {
                    tracing::warn!(follow_up_id, %error, "a lease was not released and will expire");
                }
            }
        }
        count
    }

    /// Renews a lease again and again, until the future is dropped.
    pub(super) async fn keep(&self, handle: &LeaseHandle) -> Infallible {
        let mut pause = self.renew_every;
        loop {
            sleep(pause).await;
            pause = match self.renew(handle).await {
                Ok(()) => self.renew_every,
                // An error that stops the consumer is reported by taking and acknowledging.
                Err(error) => {
                    tracing::warn!(%error, "a lease was not renewed");
                    let pause =
                        error.retry_delay().unwrap_or(self.connection.options().backoff_max);
                    pause.min(self.renew_every)
                }
            };
        }
    }

    async fn renew(&self, handle: &LeaseHandle) -> Result<(), Error> {
        let Some(request) = handle.renewal() else { return Ok(()) };
        let deadline = Instant::now().checked_add(self.renew_every);
        let attempts = Attempts::part_of_operation(&self.connection, LEASE).until(deadline);
        let answer = send(attempts, request.clone(), lease_follow_ups).await?;
        let unrelated = handle.renewed(&request, answer.follow_ups);
        self.release(unrelated).await;
        Ok(())
    }

    /// Reports the result of a delivery. Returns `false` if the lease had expired.
    pub(super) async fn acknowledge(
        &self,
        handle: &LeaseHandle,
        error: Option<rpc::Status>,
    ) -> Result<bool, Error> {
        loop {
            let request = handle.acknowledgement(error.clone());
            let v1::AcknowledgeFollowUpRequest { follow_up_id, lease_token, .. } = request.clone();
            let attempts = || Attempts::part_of_operation(&self.connection, ACKNOWLEDGE);
            match send_despite_rate_limits(attempts, request, acknowledge_follow_up).await {
                Ok(_) => return Ok(true),
                Err(error) if !is_lost(&error) => return Err(error),
                // The follow-up was leased again in between: acknowledge that lease.
                Err(_) if handle.lock().token != lease_token => {}
                Err(error) => {
                    tracing::warn!(follow_up_id, %error, "the lease of a follow-up had expired");
                    return Ok(false);
                }
            }
        }
    }
}

impl LeaseHandle {
    pub(super) fn new(lease: Lease) -> Self {
        Self(Mutex::new(lease))
    }

    pub(super) fn replace(&self, lease: Lease) {
        *self.lock() = lease;
    }

    /// Returns the request that renews the lease, or `None` if the lease is lost.
    fn renewal(&self) -> Option<v1::LeaseFollowUpsRequest> {
        let lease = self.lock();
        (!lease.lost).then(|| lease.request.clone())
    }

    /// Records the answer to a renewal. Returns the unrelated follow-ups that it leased: a server that
    /// no longer knows the request treats it as a new one.
    fn renewed(
        &self,
        request: &v1::LeaseFollowUpsRequest,
        leased: Vec<v1::LeasedFollowUp>,
    ) -> Vec<v1::LeasedFollowUp> {
        let mut lease = self.lock();
        let own = |leased: &v1::LeasedFollowUp| {
            leased.follow_up.as_ref().is_some_and(|found| found.follow_up_id == lease.follow_up_id)
        };
        let (own, unrelated): (Vec<_>, _) = leased.into_iter().partition(own);
        if lease.request.request_id == request.request_id {
            match own.into_iter().next() {
                Some(own) => lease.token = own.lease_token,
                None => {
                    lease.lost = true;
                    tracing::warn!(
                        follow_up_id = lease.follow_up_id,
                        "the lease of a follow-up has expired; its handler continues"
                    );
                }
            }
        }
        unrelated
    }

    fn acknowledgement(&self, error: Option<rpc::Status>) -> v1::AcknowledgeFollowUpRequest {
        let lease = self.lock();
        v1::AcknowledgeFollowUpRequest {
            follow_up_id: lease.follow_up_id.clone(),
            lease_token: lease.token.clone(),
            error,
            // The lease token makes the request safe to repeat.
            request_id: String::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lease> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request like [`send`], and waits rate limits out: a consumer of many follow-ups reaches
/// them regularly.
async fn send_despite_rate_limits<Q, A, W>(
    attempts: impl Fn() -> Attempts,
    message: Q,
    rpc: impl Fn(&Connection, Request<Q>) -> W,
) -> Result<A, Error>
where
    Q: Clone,
    W: Future<Output = Result<Response<A>, Status>>,
{
    loop {
        let error = match send(attempts(), message.clone(), &rpc).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let is_rate_limit =
            error.origin() == Origin::Server && error.code() == Code::ResourceExhausted;
        match error.retry_delay().filter(|_| is_rate_limit) {
            Some(delay) => {
                tracing::warn!(?delay, %error, "retrying");
                sleep(delay).await;
            }
            None => return Err(error),
        }
    }
}

fn lease_follow_ups(
    connection: &Connection,
    request: Request<v1::LeaseFollowUpsRequest>,
) -> impl Future<Output = Result<Response<v1::LeaseFollowUpsResponse>, Status>> + use<> {
    let mut service = connection.background_tasks();
    async move { service.lease_follow_ups(request).await }
}

fn acknowledge_follow_up(
    connection: &Connection,
    request: Request<v1::AcknowledgeFollowUpRequest>,
) -> impl Future<Output = Result<Response<v1::AcknowledgeFollowUpResponse>, Status>> + use<> {
    let mut service = connection.background_tasks();
    async move { service.acknowledge_follow_up(request).await }
}

/// Returns the error that releases a lease: the follow-up can be leased again at once, and the attempt
/// does not count.
pub(super) fn released() -> rpc::Status {
    rpc::Status {
        code: Code::Cancelled.into(),
        message: "the consumer stopped before the handler finished".to_owned(),
        details: Vec::new(),
    }
}

/// Returns `true` if the caller no longer has the lease.
fn is_lost(error: &Error) -> bool {
    matches!(
        (error.code(), error.reason()),
        (Code::FailedPrecondition, Some(Reason::LeaseExpired))
            | (Code::NotFound, Some(Reason::FollowUpNotFound))
    )
}

fn answer_error(message: &str) -> Error {
    Error::answer(message).of(LEASE, 1)
}
