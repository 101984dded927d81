//! The connection of one server to the database: a store and replicas with faults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use callpark::model::{Call, CallId, FollowUp, Session, SessionId, Tenant, Timestamp};
use callpark::store::*;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{broadcast, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::database::{Database, Id, at_once};

/// The longest time for a statement about a lease, as in `src/store/postgres/membership.rs`.
const LEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest time for a join and a take-over.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest time for a statement of the writer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The changes of others that wait.
const CHANGES_MAX: usize = 1_024;

/// The state of the network between a server and the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Healthy,
    /// Requests take long.
    Slow,
    /// Requests fail at once.
    Cut,
    /// Requests fail, before or after they had their effect.
    Lossy,
    /// Requests wait for another condition.
    Stalled,
}

/// The fate of the answer to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Lost,
}

/// The two connections of a server, each of which makes one change after the other.
#[derive(Clone, Copy)]
enum Lane {
    Writer,
    Member,
}

/// The connection of one server from its start to its end.
pub struct Link {
    home: usize,
    database: Arc<Database>,
    condition: watch::Receiver<Condition>,
    /// Cancelled at the end of the server.
    ended: CancellationToken,
    id: Mutex<Id>,
    random: Mutex<StdRng>,
    writer: tokio::sync::Mutex<()>,
    member: tokio::sync::Mutex<()>,
    changes: broadcast::Sender<RemoteChange>,
    tracker: TaskTracker,
}

fn away() -> StoreError {
    StoreError::Unavailable("the simulation says so".to_owned())
}

impl Link {
    pub fn new(
        home: usize,
        database: &Arc<Database>,
        condition: watch::Receiver<Condition>,
        seed: u64,
    ) -> Arc<Self> {
        let link = Arc::new(Self {
            home,
            database: database.clone(),
            condition,
            ended: CancellationToken::new(),
            id: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            writer: tokio::sync::Mutex::default(),
            member: tokio::sync::Mutex::default(),
            changes: broadcast::channel(CHANGES_MAX).0,
            tracker: TaskTracker::new(),
        });
        database.listen(&link);
        link
    }

    /// Joins the replicas.
    pub async fn join(self: &Arc<Self>) -> Result<(), StoreError> {
        let home = self.home;
        let join = self.change(Lane::Member, TAKE_OVER_TIMEOUT, move |link| {
            Ok(link.database.join(home))
        });
        let id = join.await?;
        self.set_id(id);
        Ok(())
    }

    /// Ends the connection: its server is killed or has stopped.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Returns the token that is cancelled at the end of the server.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Returns whether the server has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Takes a change of another replica, unless the network loses it.
    pub fn receive(&self, from: Id, change: &RemoteChange) {
        let is_there = matches!(*self.condition.borrow(), Condition::Healthy | Condition::Slow);
        if from != self.id() && is_there && !self.ended.is_cancelled() {
            // There may be no subscriber yet.
            let _subscribers = self.changes.send(change.clone());
        }
    }

    /// Notes that the connection is there again: any change may have been missed.
    pub fn reconnected(&self) {
        let _subscribers = self.changes.send(RemoteChange::Everything);
    }

    fn id(&self) -> Id {
        *self.id.lock().expect("no panic")
    }

    fn set_id(&self, id: Id) {
        *self.id.lock().expect("no panic") = id;
    }

    fn draw(&self, millis: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.lock().expect("no panic").random_range(millis))
    }

    /// Makes a change on a lane. It is made also if its caller goes away.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        lane: Lane,
        bound: Duration,
        make: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let link = self.clone();
        let made = self.tracker.spawn(async move {
            let _turn = match lane {
                Lane::Writer => link.writer.lock().await,
                Lane::Member => link.member.lock().await,
            };
            let change = async {
                let delay = link.draw(1..5);
                let fate = link.travel(delay).await?;
                let made = make(&link)?;
                let delay = link.draw(0..4);
                match (fate, link.travel(delay).await) {
                    (Fate::Answered, Ok(_)) => Ok(made),
                    (Fate::Lost, _) | (_, Err(_)) => Err(away()),
                }
            };
            timeout(bound, change).await.unwrap_or_else(|_| Err(away()))
        });
        made.await.map_err(|_| away())?
    }

    /// Changes the log or the sessions' records. The outcome of a commit is always known: a store that has
    /// no answer to one waits for the database, and looks the commit up.
    async fn commit<T: Send + 'static>(
        self: &Arc<Self>,
        make: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let link = self.clone();
        let made = self.tracker.spawn(async move {
            let _turn = link.writer.lock().await;
            let delay = link.draw(1..5);
            link.travel(delay).await?;
            let made = make(&link);
            sleep(link.draw(1..4)).await;
            link.answered().await?;
            made
        });
        made.await.map_err(|_| away())?
    }

    /// Waits until the network lets answers through.
    async fn answered(&self) -> Result<(), StoreError> {
        let mut condition = self.condition.clone();
        let is_there =
            |condition: &Condition| matches!(condition, Condition::Healthy | Condition::Slow);
        let there = self.ended.run_until_cancelled(condition.wait_for(is_there)).await;
        there.and_then(Result::ok).map(drop).ok_or_else(away)
    }

    /// Reads something, once the network lets the request through.
    async fn read(&self) -> Result<&MemoryStore, StoreError> {
        match self.travel(Duration::ZERO).await? {
            Fate::Answered => Ok(&self.database.store),
            Fate::Lost => Err(away()),
        }
    }

    /// Waits until a message has passed the network.
    async fn travel(&self, delay: Duration) -> Result<Fate, StoreError> {
        let pass = async {
            if !delay.is_zero() {
                sleep(delay).await;
            }
            let mut condition = self.condition.clone();
            loop {
                let now = *condition.borrow_and_update();
                match now {
                    Condition::Healthy => return Ok(Fate::Answered),
                    Condition::Slow => {
                        sleep(self.draw(20..1_500)).await;
                        if *condition.borrow() == Condition::Slow {
                            return Ok(Fate::Answered);
                        }
                    }
                    Condition::Cut => return Err(away()),
                    Condition::Lossy => match self.draw(0..4).as_millis() {
                        0 | 1 => return Err(away()),
                        2 => return Ok(Fate::Lost),
                        _ => return Ok(Fate::Answered),
                    },
                    Condition::Stalled => condition.changed().await.map_err(|_| away())?,
                }
            }
        };
        self.ended.run_until_cancelled(pass).await.unwrap_or_else(|| Err(away()))
    }
}

/// A connection as the engine has it.
pub struct LinkedStore(pub Arc<Link>);

/// The replicas, as the engine behind a connection has them.
struct LinkedReplicas(Arc<Link>);

#[async_trait]
impl Replicas for LinkedReplicas {
    async fn renew(&self) -> Result<Renewed, StoreError> {
        let renew = |link: &Link| Ok(link.database.renew(link.id()));
        self.0.change(Lane::Member, LEASE_TIMEOUT, renew).await
    }

    async fn rejoin(&self) -> Result<(), StoreError> {
        let register = |link: &Link| Ok(link.database.register(link.home));
        let id = self.0.change(Lane::Member, TAKE_OVER_TIMEOUT, register).await?;
        self.0.set_id(id);
        Ok(())
    }

    async fn claim(&self, session_id: SessionId) -> Result<Claimed, StoreError> {
        let claim = move |link: &Link| link.database.claim(link.id(), session_id);
        self.0.change(Lane::Writer, WRITE_TIMEOUT, claim).await
    }

    async fn release(&self, session_id: SessionId, claim: u64) -> Result<(), StoreError> {
        let release = move |link: &Link| {
            link.database.release(link.id(), session_id, claim);
            Ok(())
        };
        self.0.change(Lane::Writer, WRITE_TIMEOUT, release).await
    }

    async fn take_over(&self, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        let take_over = move |link: &Link| Ok(link.database.take_over(link.id(), limit));
        self.0.change(Lane::Member, TAKE_OVER_TIMEOUT, take_over).await
    }

    async fn leave(&self, restart: Duration) -> Result<(), StoreError> {
        let leave = move |link: &Link| {
            link.database.leave(link.id(), restart);
            Ok(())
        };
        self.0.change(Lane::Member, TAKE_OVER_TIMEOUT, leave).await
    }

    async fn list(&self) -> Result<Vec<Replica>, StoreError> {
        Err(StoreError::Unavailable("no engine lists replicas".to_owned()))
    }

    fn changes(&self) -> BoxStream<'static, RemoteChange> {
        let changes = BroadcastStream::new(self.0.changes.subscribe());
        changes.map(|change| change.unwrap_or(RemoteChange::Everything)).boxed()
    }

    fn key(&self) -> [u8; 32] {
        [0; 32]
    }

    fn time(&self) -> Timestamp {
        self.0.database.now()
    }
}

#[async_trait]
impl Store for LinkedStore {
    fn page_token_key(&self) -> PageTokenKey {
        self.0.database.store.page_token_key()
    }

    fn replicas(&self) -> Option<Arc<dyn Replicas>> {
        Some(Arc::new(LinkedReplicas(self.0.clone())))
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        // An append is made under the id at which it was asked for.
        let id = self.0.id();
        let make = move |link: &Link| link.database.append(id, append);
        self.0.commit(make).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.0.read().await?.session(id).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        self.0.read().await?.sessions(query).await
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        self.0.read().await?.events(query).await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        self.0.read().await?.call(id).await
    }

    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError> {
        self.0.read().await?.live_calls(session_id).await
    }

    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        self.0.read().await?.calls(query).await
    }

    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError> {
        self.0.read().await?.changes(query).await
    }

    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        self.0.read().await?.output(query).await
    }

    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError> {
        self.0.read().await?.messages(session_id, bytes_max).await
    }

    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError> {
        self.0.read().await?.messages_after(session_id, after, limit, bytes_max).await
    }

    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError> {
        self.0.read().await?.follow_up(id).await
    }

    async fn follow_up_with_task(
        &self,
        id: CallId,
    ) -> Result<Option<FollowUpWithTask>, StoreError> {
        self.0.read().await?.follow_up_with_task(id).await
    }

    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError> {
        self.0.read().await?.follow_ups(query).await
    }

    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        self.0.read().await?;
        self.0.database.due(self.0.id(), query)
    }

    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError> {
        self.0.read().await?.sessions_with_due_follow_ups(now, limit).await
    }

    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError> {
        self.0.read().await?.leased_follow_ups(tenant, request_id).await
    }

    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.0.read().await?.request(tenant, request_id).await
    }

    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let store = self.0.read().await?;
        let mut all = at_once(store.sessions_with_live_calls(after, u32::MAX))?;
        all.retain(|session_id| self.0.database.owns(self.0.id(), *session_id));
        all.truncate(limit as usize);
        Ok(all)
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.0.read().await?.newest_time().await
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        let expire = move |link: &Link| at_once(link.database.store.expire(policy));
        self.0.commit(expire).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.0.read().await.map(|_| ())
    }

    /// The database stays.
    async fn close(&self) {}
}
