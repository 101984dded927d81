//! Leases of follow-ups: taken, renewed, acknowledged, given back.

use std::{
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Response, Status};

use crate::{
    call::Call,
    client::Client,
    error::{Error, Origin},
    google::rpc,
    retry::Budget,
    unary::{new_request_id, send},
    v1,
};

const LEASE: &str = "BackgroundTasks.LeaseFollowUps";
const ACKNOWLEDGE: &str = "BackgroundTasks.AcknowledgeFollowUp";
/// How long the server waits for a follow-up before it answers without.
const WAIT: Duration = Duration::from_secs(60);
/// A lease is renewed when this part of it has passed: two renewals may fail before it runs out.
const RENEWALS_IN_A_LEASE: u32 = 3;
/// How long the server may take to say what a request took whose answer wasn't waited for.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(1);
/// How long giving back may take, over all its tries.
pub(crate) const GIVE_BACK_TIME_MAX: Duration = Duration::from_secs(10);

/// What all leases of one consumer have in common.
pub(crate) struct Leases {
    client: Client,
    /// Every request of the consumer, but for its id.
    template: v1::LeaseFollowUpsRequest,
    renew_every: Duration,
}

/// A lease as the server gave it.
pub(crate) struct Lease {
    /// What took it: sent again, it renews it.
    request: v1::LeaseFollowUpsRequest,
    pub(crate) follow_up_id: String,
    token: String,
    /// The server doesn't know it any more.
    lost: bool,
}

/// The current lease of a follow-up that is worked on: one that ran out may be followed by another.
pub(crate) struct Held(Mutex<Lease>);

impl Leases {
    /// # Errors
    /// A duration that no message can carry.
    pub(crate) fn new(
        client: &Client,
        lease_duration: Duration,
        template: v1::LeaseFollowUpsRequest,
    ) -> Result<Self, Error> {
        let duration = prost_types::Duration::try_from(lease_duration).map_err(|_| {
            Error::options("a lease of that duration: it can be 1 h at most").of(LEASE, 0)
        })?;
        let template = v1::LeaseFollowUpsRequest {
            max_follow_ups: 1,
            lease_duration: Some(duration),
            wait: prost_types::Duration::try_from(WAIT).ok(),
            ..template
        };
        // The deadline of a call is no bound for what goes on until it is stopped.
        let client = client.without_deadline();
        Ok(Self { client, template, renew_every: lease_duration / RENEWALS_IN_A_LEASE })
    }

    /// A request that leases anew.
    pub(crate) fn request(&self) -> v1::LeaseFollowUpsRequest {
        v1::LeaseFollowUpsRequest { request_id: new_request_id(), ..self.template.clone() }
    }

    /// Waits for a follow-up. `None`: there was none in a time that the server found long enough.
    pub(crate) async fn take(
        &self,
        request: v1::LeaseFollowUpsRequest,
    ) -> Result<Option<(Lease, v1::FollowUp)>, Error> {
        let asked = Instant::now();
        let call = || Call::resumed(&self.client, LEASE);
        let answer = patiently(call, request.clone(), lease_follow_ups).await?;
        let mut leased = answer.follow_ups.into_iter();
        match (leased.next(), leased.next()) {
            (None, _) => {
                // A server that stops answers early, and isn't asked again at once.
                if asked.elapsed() < WAIT {
                    sleep(self.client.options().backoff).await;
                }
                Ok(None)
            }
            (Some(v1::LeasedFollowUp { follow_up: Some(follow_up), lease_token }), None) => {
                let follow_up_id = follow_up.follow_up_id.clone();
                let lease = Lease { request, follow_up_id, token: lease_token, lost: false };
                Ok(Some((lease, follow_up)))
            }
            (Some(_), None) => Err(answer_error("the answer has a lease without its follow-up")),
            (Some(_), Some(_)) => Err(answer_error("the answer has more than the one follow-up")),
        }
    }

    /// Gives back what a request took whose answer wasn't waited for: asked again with a short
    /// deadline, the server says what that is. The number of leases given back.
    pub(crate) async fn recover(&self, request: v1::LeaseFollowUpsRequest) -> u64 {
        let over = Instant::now().checked_add(RECOVERY_TIME_MAX);
        let call = Call::new(&self.client, LEASE, Budget::Start).until(over);
        match send(call, request, lease_follow_ups).await {
            Ok(answer) => self.give_back(answer.follow_ups).await,
            Err(error) => {
                tracing::debug!(%error, "not known whether the last request took a follow-up");
                0
            }
        }
    }

    /// Gives back leases that nobody works on. What can't be given back runs out.
    async fn give_back(&self, leased: Vec<v1::LeasedFollowUp>) -> u64 {
        let mut given_back = 0;
        for v1::LeasedFollowUp { follow_up, lease_token } in leased {
            let follow_up_id = follow_up.unwrap_or_default().follow_up_id;
            let request = v1::AcknowledgeFollowUpRequest {
                follow_up_id: follow_up_id.clone(),
                lease_token,
                error: Some(cancelled()),
                ..v1::AcknowledgeFollowUpRequest::default()
            };
            let over = Instant::now().checked_add(GIVE_BACK_TIME_MAX);
            let call = Call::resumed(&self.client, ACKNOWLEDGE).until(over);
            match send(call, request, acknowledge_follow_up).await {
                Ok(_) => given_back += 1,
                Err(error) => tracing::warn!(follow_up_id, %error, "a lease is left to run out"),
            }
        }
        given_back
    }

    /// Renews a lease for as long as it is polled.
    pub(crate) async fn keep(&self, held: &Held) -> Infallible {
        let mut pause = self.renew_every;
        loop {
            sleep(pause).await;
            pause = match self.renew(held).await {
                Ok(()) => self.renew_every,
                // Whether it is worth going on at all is told by the calls that take and acknowledge.
                Err(error) => {
                    tracing::warn!(%error, "a lease wasn't renewed");
                    let pause = error.retry_delay().unwrap_or(self.client.options().backoff_max);
                    pause.min(self.renew_every)
                }
            };
        }
    }

    async fn renew(&self, held: &Held) -> Result<(), Error> {
        let Some(request) = held.renewal() else { return Ok(()) };
        let over = Instant::now().checked_add(self.renew_every);
        let call = Call::resumed(&self.client, LEASE).until(over);
        let answer = send(call, request.clone(), lease_follow_ups).await?;
        let strays = held.renewed(&request, answer.follow_ups);
        self.give_back(strays).await;
        Ok(())
    }

    /// Says how a delivery went. False: the lease was another's by then, or nobody's.
    pub(crate) async fn acknowledge(
        &self,
        held: &Held,
        error: Option<rpc::Status>,
    ) -> Result<bool, Error> {
        loop {
            let request = held.acknowledgement(error.clone());
            let v1::AcknowledgeFollowUpRequest { follow_up_id, lease_token, .. } = request.clone();
            let call = || Call::resumed(&self.client, ACKNOWLEDGE);
            match patiently(call, request, acknowledge_follow_up).await {
                Ok(_) => return Ok(true),
                Err(error) if !is_lost(&error) => return Err(error),
                // The follow-up was leased anew in between: that lease is the one to acknowledge.
                Err(_) if held.lock().token != lease_token => {}
                Err(error) => {
                    tracing::warn!(follow_up_id, %error, "a follow-up's lease had run out");
                    return Ok(false);
                }
            }
        }
    }
}

impl Held {
    pub(crate) fn new(lease: Lease) -> Self {
        Self(Mutex::new(lease))
    }

    /// The follow-up goes on under another lease.
    pub(crate) fn replace(&self, lease: Lease) {
        *self.lock() = lease;
    }

    fn renewal(&self) -> Option<v1::LeaseFollowUpsRequest> {
        let lease = self.lock();
        (!lease.lost).then(|| lease.request.clone())
    }

    /// Notes what the server answered to a renewal, and gives back what it leased beside: it doesn't
    /// know the request any more, and took it for a new one.
    fn renewed(
        &self,
        request: &v1::LeaseFollowUpsRequest,
        leased: Vec<v1::LeasedFollowUp>,
    ) -> Vec<v1::LeasedFollowUp> {
        let mut lease = self.lock();
        let own = |leased: &v1::LeasedFollowUp| {
            leased.follow_up.as_ref().is_some_and(|found| found.follow_up_id == lease.follow_up_id)
        };
        let (own, strays): (Vec<_>, _) = leased.into_iter().partition(own);
        if lease.request.request_id == request.request_id {
            match own.into_iter().next() {
                Some(own) => lease.token = own.lease_token,
                None => {
                    lease.lost = true;
                    tracing::warn!(
                        follow_up_id = lease.follow_up_id,
                        "a follow-up's lease has run out, and its handler goes on"
                    );
                }
            }
        }
        strays
    }

    fn acknowledgement(&self, error: Option<rpc::Status>) -> v1::AcknowledgeFollowUpRequest {
        let lease = self.lock();
        v1::AcknowledgeFollowUpRequest {
            follow_up_id: lease.follow_up_id.clone(),
            lease_token: lease.token.clone(),
            error,
            // The lease makes it safe to repeat.
            request_id: String::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lease> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As [`send`], and waits rate limits out: who works off many follow-ups meets them as a matter of
/// course.
async fn patiently<Q, A, W>(
    call: impl Fn() -> Call,
    message: Q,
    rpc: impl Fn(&Client, Request<Q>) -> W,
) -> Result<A, Error>
where
    Q: Clone,
    W: Future<Output = Result<Response<A>, Status>>,
{
    loop {
        let error = match send(call(), message.clone(), &rpc).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let limited = error.origin() == Origin::Server && error.code() == Code::ResourceExhausted;
        match error.retry_delay().filter(|_| limited) {
            Some(delay) => {
                tracing::warn!(?delay, %error, "trying again");
                sleep(delay).await;
            }
            None => return Err(error),
        }
    }
}

fn lease_follow_ups(
    client: &Client,
    request: Request<v1::LeaseFollowUpsRequest>,
) -> impl Future<Output = Result<Response<v1::LeaseFollowUpsResponse>, Status>> + use<> {
    let mut service = client.background_tasks();
    async move { service.lease_follow_ups(request).await }
}

fn acknowledge_follow_up(
    client: &Client,
    request: Request<v1::AcknowledgeFollowUpRequest>,
) -> impl Future<Output = Result<Response<v1::AcknowledgeFollowUpResponse>, Status>> + use<> {
    let mut service = client.background_tasks();
    async move { service.acknowledge_follow_up(request).await }
}

/// What gives a lease back: the follow-up is handed out again at once, and the attempt doesn't count.
pub(crate) fn cancelled() -> rpc::Status {
    rpc::Status {
        code: Code::Cancelled.into(),
        message: "the consumer stopped before it was done".to_owned(),
        details: Vec::new(),
    }
}

/// The follow-up isn't the caller's to acknowledge any more.
fn is_lost(error: &Error) -> bool {
    matches!(
        (error.code(), error.reason()),
        (Code::FailedPrecondition, "LEASE_EXPIRED") | (Code::NotFound, "FOLLOW_UP_NOT_FOUND")
    )
}

fn answer_error(message: &str) -> Error {
    Error::answer(message).of(LEASE, 1)
}
