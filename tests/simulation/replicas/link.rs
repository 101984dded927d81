//! The connection of one server to the database, with faults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use callpark::store::{MemoryStore, RemoteChange, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{broadcast, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::database::{Database, Id};

/// The longest time for a statement about a lease, as in `src/store/postgres/membership.rs`.
pub(super) const LEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest time for a join and a take-over.
pub(super) const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest time for a statement of the writer.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
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
pub(super) enum Lane {
    Writer,
    Member,
}

/// The connection of one server from its start to its end.
pub struct Link {
    pub(super) home: usize,
    pub(super) database: Arc<Database>,
    condition: watch::Receiver<Condition>,
    /// Cancelled at the end of the server.
    ended: CancellationToken,
    id: Mutex<Id>,
    random: Mutex<StdRng>,
    writer: tokio::sync::Mutex<()>,
    member: tokio::sync::Mutex<()>,
    pub(super) changes: broadcast::Sender<RemoteChange>,
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
        let join =
            self.change(Lane::Member, TAKE_OVER_TIMEOUT, move |link| Ok(link.database.join(home)));
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

    pub(super) fn id(&self) -> Id {
        *self.id.lock().expect("no panic")
    }

    pub(super) fn set_id(&self, id: Id) {
        *self.id.lock().expect("no panic") = id;
    }

    fn draw(&self, millis: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.lock().expect("no panic").random_range(millis))
    }

    /// Makes a change on a lane. It is made also if its caller goes away.
    pub(super) async fn change<T: Send + 'static>(
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
    pub(super) async fn commit<T: Send + 'static>(
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
    pub(super) async fn read(&self) -> Result<&MemoryStore, StoreError> {
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
