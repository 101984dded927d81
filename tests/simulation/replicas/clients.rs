//! The clients: each request goes to any engine, and is repeated under its id until it has an answer.

use std::sync::Arc;
use std::time::Duration;

use callpark::internals::engine::{
    CallRequest, CancelTask, Engine, Error, LeaseFollowUps, NewSession, RequestKey, Started,
};
use callpark::internals::machine::{DeliveryOutcome, Refusal};
use callpark::model::{Call, CallId, FollowUpPolicy, SessionId};
use callpark::store::StoreError;
use callpark::tool::Arguments;
use futures::FutureExt as _;
use futures::future::{join, join_all};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::history::{Chronicle, Request};
use super::tools::{AGAIN, FAIL, LONG, ONCE};
use super::who;
use super::world::{SITES, World};

/// The calls of one caller.
const CALLS: usize = 8;

/// The time in which calls are started.
const STARTS_MILLIS_MAX: u64 = 70_000;

/// The time after which a client gives an engine up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest wait that one request asks for.
const WAIT: Duration = Duration::from_secs(12);

/// A client.
pub struct Client {
    pub world: Arc<World>,
    pub chronicle: Arc<Chronicle>,
    pub random: StdRng,
}

/// An error after which the request is repeated.
fn is_transient(error: &Error) -> bool {
    matches!(
        error,
        Error::NotOwner { .. } | Error::Draining | Error::DeadlineExceeded | Error::Store(_)
    )
}

impl Client {
    /// Asks any engine, and on its word another one, until there is an answer that stays.
    pub async fn ask<T, F: Future<Output = Result<T, Error>>>(
        &mut self,
        request: impl Fn(Engine) -> F,
    ) -> Result<T, Error> {
        loop {
            let site = self.random.random_range(0..SITES);
            match self.attempt(site, &request).await {
                Err(error) if is_transient(&error) => {}
                answer => return answer,
            }
            sleep(Duration::from_millis(self.random.random_range(100..1_500))).await;
        }
    }

    /// Makes one attempt at a request, which the engine may forward once.
    async fn attempt<T, F: Future<Output = Result<T, Error>>>(
        &self,
        site: usize,
        request: &impl Fn(Engine) -> F,
    ) -> Result<T, Error> {
        let answer = self.ask_one(site, request).await;
        let Err(Error::NotOwner { address }) = &answer else { return answer };
        match self.world.number_of(address) {
            Some(owner) if owner != site && self.world.reaches(site, owner) => {
                self.chronicle.forwarded();
                self.ask_one(owner, request).await
            }
            _ => answer,
        }
    }

    async fn ask_one<T, F: Future<Output = Result<T, Error>>>(
        &self,
        site: usize,
        request: &impl Fn(Engine) -> F,
    ) -> Result<T, Error> {
        let away = || Error::Store(StoreError::Unavailable("no server answers".to_owned()));
        let serving = self.world.serving(site).ok_or_else(away)?;
        let answer = timeout(ANSWER_TIMEOUT, request(serving.engine));
        let answer = serving.ended.run_until_cancelled(answer).await.ok_or_else(away)?;
        answer.map_err(|_| Error::DeadlineExceeded)?
    }

    /// Returns another client, with randomness of its own.
    fn fork(&mut self) -> Self {
        let random = StdRng::seed_from_u64(self.random.random());
        Self { world: self.world.clone(), chronicle: self.chronicle.clone(), random }
    }

    fn key(&mut self) -> RequestKey {
        key(self.random.random())
    }

    fn is_once_in(&mut self, times: u32) -> bool {
        self.random.random_ratio(1, times)
    }

    async fn pause(&mut self, millis_max: u64) {
        sleep(Duration::from_millis(self.random.random_range(0..millis_max))).await;
    }

    /// Creates a session, or finds the one that the same request has created.
    async fn session(&mut self, key: RequestKey) -> Option<SessionId> {
        let created = self.ask(|engine| {
            let key = key.clone();
            async move { engine.sessions().create(&who(), NewSession::default(), Some(&key)).await }
        });
        match created.await {
            Ok(created) => {
                self.chronicle.session(&key.id, created.session.id);
                Some(created.session.id)
            }
            Err(error) => {
                self.chronicle.wrong(format!("no session: {error}"));
                None
            }
        }
    }

    /// Starts a call. Returns its id, and its record if it has ended in the foreground.
    async fn start(&mut self, request: CallRequest) -> Option<(CallId, Option<Call>)> {
        let chronicle = self.chronicle.clone();
        let start = move |engine: Engine| {
            let (request, chronicle) = (request.clone(), chronicle.clone());
            async move {
                let key = request.request.as_ref().map(|key| key.id.clone()).unwrap_or_default();
                let background = request.background;
                match engine.calls().start(&who(), request).await? {
                    Started::Call(mut handle) => {
                        let call_id = handle.call_id;
                        chronicle.accepted(&key, call_id);
                        if background {
                            return Ok((call_id, None));
                        }
                        Ok((call_id, Some(handle.wait_settled(|| None).await?)))
                    }
                    Started::DryRun(_) => Err(Error::Internal("a dry run".to_owned())),
                }
            }
        };
        // Now and then a client sends a request twice at the same time.
        if self.is_once_in(5) {
            let (one, other) =
                (self.random.random_range(0..SITES), self.random.random_range(0..SITES));
            // Their answers are in the chronicle, and the request goes on being sent.
            drop(join(self.attempt(one, &start), self.attempt(other, &start)).await);
        }
        match self.ask(start).await {
            Ok((call_id, call)) => {
                let ended = call.filter(|call| call.state.is_terminal());
                ended.iter().for_each(|call| self.chronicle.seen(call));
                Some((call_id, ended))
            }
            Err(error) => {
                self.chronicle.wrong(format!("a call was refused: {error}"));
                None
            }
        }
    }

    /// Waits for the end of a task.
    async fn wait(&mut self, call_id: CallId) -> Option<Call> {
        loop {
            let waited = self.ask(|engine| async move {
                engine.calls().wait(&who(), call_id, WAIT, false).await
            });
            match waited.await {
                Ok(waited) if waited.call.state.is_terminal() => {
                    self.chronicle.seen(&waited.call);
                    return Some(waited.call);
                }
                Ok(_) => {}
                Err(error) => {
                    self.chronicle.wrong(format!("{call_id} cannot be waited for: {error}"));
                    return None;
                }
            }
        }
    }

    async fn cancel(&mut self, call_id: CallId) {
        let (request, force) = (Some(self.key()), self.is_once_in(4));
        let cancelled = self.ask(|engine| {
            let cancel = CancelTask {
                id: call_id,
                request: request.clone(),
                force,
                reason: "of the simulation".to_owned(),
                grace: None,
                wait: Duration::from_secs(2),
                dry_run: false,
            };
            async move { engine.calls().cancel(&who(), cancel).await }
        });
        match cancelled.await {
            Ok(cancelled) if cancelled.call.state.is_terminal() => {
                self.chronicle.seen(&cancelled.call);
            }
            Ok(_) => {}
            Err(error) => self.chronicle.wrong(format!("{call_id} is not cancelled: {error}")),
        }
    }

    async fn close(&mut self, session_id: SessionId) {
        let key = self.key();
        let closed = self.ask(|engine| {
            let (key, reason) = (key.clone(), "the simulation ends".to_owned());
            async move { engine.sessions().close(&who(), session_id, reason, Some(&key)).await }
        });
        match closed.await {
            Ok(_) => self.chronicle.closed(session_id),
            Err(error) => self.chronicle.wrong(format!("{session_id} is not closed: {error}")),
        }
    }

    fn request(&mut self, session_id: Option<SessionId>, number: usize) -> CallRequest {
        let key = self.key();
        let (tool, seconds) = match self.random.random_range(0..10) {
            0..=3 => (ONCE, self.random.random_range(0.0..8.0)),
            4..=6 => (AGAIN, self.random.random_range(0.0..30.0)),
            7 => (FAIL, self.random.random_range(0.0..3.0)),
            _ => (LONG, self.random.random_range(60.0..90.0)),
        };
        // A number that JSON keeps exactly.
        let seconds = f64::floor(seconds * 8.0) / 8.0;
        let follow_up = match self.is_once_in(2) {
            true => FollowUpPolicy::OnFinish,
            false => FollowUpPolicy::None,
        };
        self.chronicle.requested(Request { key: key.id.clone(), tool, follow_up });
        let arguments = json!({ "mark": key.id, "seconds": seconds, "number": number });
        CallRequest {
            session_id,
            tool: tool.to_owned(),
            arguments: arguments.as_object().cloned().unwrap_or_else(Arguments::new),
            background: self.is_once_in(2),
            follow_up,
            request: Some(key),
            ..CallRequest::default()
        }
    }
}

/// Returns the key of a request.
fn key(number: u128) -> RequestKey {
    RequestKey { id: Uuid::from_u128(number).to_string(), fingerprint: [0; 32] }
}

/// A client that starts calls in a session of its own, in one that all callers share, and in none.
pub async fn call(mut client: Client, own: watch::Sender<Option<SessionId>>) {
    let own_key = client.key();
    let Some(own_session) = client.session(own_key).await else { return };
    let Some(common) = client.session(key(1)).await else { return };
    own.send_replace(Some(if client.is_once_in(3) { common } else { own_session }));
    let calls = (0..CALLS).map(|number| {
        let session_id = match client.random.random_range(0..4) {
            0 => None,
            1 => Some(common),
            _ => Some(own_session),
        };
        make(client.fork(), session_id, number).boxed_local()
    });
    let calls: Vec<_> = calls.collect();
    join_all(calls).await;
    if client.is_once_in(2) {
        client.close(own_session).await;
    }
}

/// Makes one call at some time, and follows it to its end.
async fn make(mut client: Client, session_id: Option<SessionId>, number: usize) {
    client.pause(STARTS_MILLIS_MAX).await;
    let request = client.request(session_id, number);
    let Some((call_id, ended)) = client.start(request).await else { return };
    if !ended.as_ref().is_none_or(Call::is_task) {
        return;
    }
    if client.is_once_in(5) {
        client.pause(8_000).await;
        client.cancel(call_id).await;
    }
    // What was seen is seen again, from any engine.
    if client.wait(call_id).await.is_some() && client.is_once_in(2) {
        client.wait(call_id).await;
    }
}

/// A client that leases follow-ups and acknowledges them, until all is done.
pub async fn consume(mut client: Client, done: CancellationToken) {
    while !done.is_cancelled() {
        let request = Some(client.key());
        let leased = client.ask(|engine| {
            let lease = LeaseFollowUps {
                session_id: None,
                request: request.clone(),
                limit: 4,
                lease: Duration::from_secs(15),
                wait: Duration::from_secs(5),
                consumer: "of the simulation".to_owned(),
            };
            async move { engine.follow_ups().lease(&who(), lease).await }
        });
        let leased = match done.run_until_cancelled(leased).await {
            Some(Ok(leases)) => leases.follow_ups,
            Some(Err(error)) => {
                client.chronicle.wrong(format!("no leases: {error}"));
                return;
            }
            None => return,
        };
        for (follow_up, _) in leased {
            let lease = follow_up.record.lease.clone();
            let token = lease.map(|lease| lease.token).unwrap_or_default();
            acknowledge(&mut client, follow_up.record.call_id, token).await;
        }
    }
}

async fn acknowledge(client: &mut Client, call_id: CallId, token: String) {
    let request = client.key();
    let acknowledged = client.ask(|engine| {
        let (token, request) = (token.clone(), request.clone());
        let outcome = DeliveryOutcome::Delivered;
        let follow_ups = engine.follow_ups();
        async move { follow_ups.acknowledge(&who(), call_id, token, outcome, Some(&request)).await }
    });
    match acknowledged.await {
        Ok(changed) => client.chronicle.acknowledged(call_id, changed.replayed),
        Err(Error::Refused(Refusal::LeaseExpired { .. })) => {}
        Err(error) => {
            client.chronicle.wrong(format!("{call_id} is not acknowledged: {error}"));
        }
    }
}
