//! The place of this server among the replicas of a database: its id, and the task that keeps its lease
//! and receives the changes of others, on a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::error::{PostgresError, timed_out};
use super::open::RETRY_PAUSE;
use super::open_error::OpenError;
use super::options::{ReplicaOptions, Target};
use super::ownership::{self, Change};
use crate::model::{SessionId, Timestamp};
use crate::store::{RemoteChange, Renewed, Replica, ReplicaId, StoreError};

/// The timeout of a statement about leases. A lease is renewed several times before it runs out.
const LEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// The timeout of the first connection, and of each statement in the database.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of the renewals between the join and the first one that is asked for.
const START_RENEWAL_INTERVAL: Duration = Duration::from_secs(2);
/// The timeout of the taking over of sessions, which writes many rows. A renewal may wait for it.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The changes of others that wait for those who follow them.
const CHANGES_MAX: usize = 1_024;
/// The commands that wait for the task.
const COMMANDS_MAX: usize = 16;

/// The present id of this replica, which the writer, the task and the readers share.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) options: ReplicaOptions,
    id: Mutex<Uuid>,
    /// The time of the database at the last renewal.
    renewed: Mutex<(Timestamp, Instant)>,
    changes: broadcast::Sender<RemoteChange>,
}

impl Member {
    fn new(options: ReplicaOptions) -> Self {
        Self {
            options,
            id: Mutex::new(Uuid::new_v4()),
            renewed: Mutex::new((Timestamp::from_micros(0), Instant::now())),
            changes: broadcast::channel(CHANGES_MAX).0,
        }
    }

    pub(super) fn id(&self) -> Uuid {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_id(&self, id: Uuid) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    pub(super) fn time(&self) -> Timestamp {
        let (time, at) = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        time.saturating_add(at.elapsed())
    }

    fn set_time(&self, time: Timestamp) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = (time, Instant::now());
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<RemoteChange> {
        self.changes.subscribe()
    }

    fn publish(&self, change: RemoteChange) {
        // There may be no subscriber yet.
        let _subscribers = self.changes.send(change);
    }

    /// Publishes what a notification says, unless it is of this replica.
    fn receive(&self, payload: &str) {
        match Change::parse(payload, self.id()) {
            Change::Own => {}
            Change::Everything => self.publish(RemoteChange::Everything),
            Change::Sessions(sessions) => {
                for (tenant, session_id) in sessions {
                    self.publish(RemoteChange::Session(tenant, session_id));
                }
            }
        }
    }
}

fn log_id(member: &Member) {
    let (replica, address) = (ReplicaId(member.id()), &member.options.address);
    tracing::info!(%replica, address, "this server is a replica");
}

type Reply<T> = oneshot::Sender<Result<T, PostgresError>>;

enum MemberCommand {
    Renew(Reply<Renewed>),
    Rejoin(Reply<()>),
    TakeOver(u32, Reply<Vec<SessionId>>),
    Leave(Duration, Reply<()>),
    List(Reply<Vec<Replica>>),
}

/// The membership of this server.
pub(super) struct Membership {
    pub(super) member: Arc<Member>,
    commands: mpsc::Sender<MemberCommand>,
}

impl Membership {
    /// Joins the replicas of the database, and claims the sessions of earlier starts of this server. The
    /// task ends when `closing` is cancelled.
    pub(super) async fn join(
        target: &Target,
        options: ReplicaOptions,
        tracker: &TaskTracker,
        closing: CancellationToken,
    ) -> Result<Self, OpenError> {
        let member = Arc::new(Member::new(options));
        let mut task = MemberTask {
            target: target.clone(),
            member: Arc::clone(&member),
            connection: None,
            retry: Instant::now(),
            start_renewal: None,
            tracker: tracker.clone(),
            closing,
        };
        let failed = |error| target.failed(error);
        task.connect(JOIN_TIMEOUT).await.map_err(failed)?;
        let Some(connection) = &mut task.connection else {
            return Err(failed(PostgresError::Lost("the connection has ended".to_owned())));
        };
        let joined = ownership::join(&mut connection.client, member.id(), &member.options).await;
        if let Some(other) = joined.map_err(failed)? {
            let (name, address) = (target.name.clone(), member.options.address.clone());
            return Err(OpenError::AddressTaken { name, address, other });
        }
        log_id(&member);
        task.start_renewal = Some(Instant::now() + START_RENEWAL_INTERVAL);
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        tracker.spawn(task.run(inbox));
        Ok(Self { member, commands })
    }

    pub(super) async fn renew(&self) -> Result<Renewed, StoreError> {
        self.ask(MemberCommand::Renew).await
    }

    pub(super) async fn rejoin(&self) -> Result<(), StoreError> {
        self.ask(MemberCommand::Rejoin).await
    }

    pub(super) async fn take_over(&self, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        self.ask(|reply| MemberCommand::TakeOver(limit, reply)).await
    }

    pub(super) async fn leave(&self, restart: Duration) -> Result<(), StoreError> {
        self.ask(|reply| MemberCommand::Leave(restart, reply)).await
    }

    pub(super) async fn list(&self) -> Result<Vec<Replica>, StoreError> {
        self.ask(MemberCommand::List).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> MemberCommand,
    ) -> Result<T, StoreError> {
        let ended = || StoreError::Unavailable("it is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| ended())?;
        Ok(answer.await.map_err(|_| ended())??)
    }
}

struct Connection {
    client: Client,
    /// Cancelled when the connection has ended.
    ended: CancellationToken,
}

struct MemberTask {
    target: Target,
    member: Arc<Member>,
    connection: Option<Connection>,
    /// The time of the next attempt to connect.
    retry: Instant,
    /// The time of the next renewal of a server that starts, or `None` once it asks for them itself.
    start_renewal: Option<Instant>,
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl MemberTask {
    /// Runs until the store is closed.
    async fn run(mut self, mut inbox: mpsc::Receiver<MemberCommand>) {
        loop {
            let ended = self.connection.as_ref().map(|connection| connection.ended.clone());
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.answer(command).await,
                    None => return,
                },
                () = self.closing.cancelled() => return,
                () = sleep_until(self.start_renewal.unwrap_or_else(Instant::now)),
                    if self.start_renewal.is_some() => self.renew_at_start().await,
                () = async { ended.clone().unwrap_or_default().cancelled().await } => {
                    self.connection = None;
                }
                () = sleep_until(self.retry), if ended.is_none() => {
                    if let Err(error) = self.connect(LEASE_TIMEOUT).await {
                        tracing::debug!(?error, "the database is away");
                    }
                }
            }
        }
    }

    /// Connects within a time, and listens. What happened before is not known.
    async fn connect(&mut self, bound: Duration) -> Result<(), PostgresError> {
        self.retry = Instant::now() + RETRY_PAUSE;
        let application = format!("callpark replica {}", self.member.id().simple());
        let (config, tls) = self.target.connection(&application, JOIN_TIMEOUT);
        let connect = timeout(bound, config.connect(tls));
        let (client, mut driver) = connect.await.map_err(|_| timed_out(bound))??;
        let ended = CancellationToken::new();
        let (end, member) = (ended.clone().drop_guard(), Arc::clone(&self.member));
        // It ends when the client is dropped.
        self.tracker.spawn(async move {
            while let Some(message) = std::future::poll_fn(|cx| driver.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notification(note)) => member.receive(note.payload()),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the connection of the replica has ended");
                        break;
                    }
                }
            }
            drop(end);
        });
        let listen = timeout(bound, client.batch_execute(ownership::LISTEN));
        listen.await.map_err(|_| timed_out(bound))??;
        self.connection = Some(Connection { client, ended });
        self.member.publish(RemoteChange::Everything);
        Ok(())
    }

    /// Renews the lease of a server that does not serve yet.
    async fn renew_at_start(&mut self) {
        self.start_renewal = Some(Instant::now() + START_RENEWAL_INTERVAL);
        let renewed = self.renew().await;
        // One that is dead learns it from the first renewal that it asks for.
        if !matches!(renewed, Ok(Renewed::Renewed { .. })) {
            tracing::warn!(?renewed, "the lease was not renewed while the server starts");
        }
    }

    async fn renew(&mut self) -> Result<Renewed, PostgresError> {
        let id = self.member.id();
        let renew = self.run_on(LEASE_TIMEOUT, async |client| ownership::renew(client, id).await);
        let renewed = renew.await?;
        if let Renewed::Renewed { time, .. } = &renewed {
            self.member.set_time(*time);
        }
        Ok(renewed)
    }

    async fn answer(&mut self, command: MemberCommand) {
        let id = self.member.id();
        // Nobody waits for an answer whose caller has gone away.
        match command {
            MemberCommand::Renew(reply) => {
                self.start_renewal = None;
                drop(reply.send(self.renew().await));
            }
            MemberCommand::Rejoin(reply) => {
                let (new, options) = (Uuid::new_v4(), self.member.options.clone());
                let joined = self.run_on(TAKE_OVER_TIMEOUT, async |client| {
                    ownership::register(client, new, &options).await
                });
                let joined = joined.await;
                if joined.is_ok() {
                    self.member.set_id(new);
                    log_id(&self.member);
                }
                drop(reply.send(joined));
            }
            MemberCommand::TakeOver(limit, reply) => {
                let taken = self.run_on(TAKE_OVER_TIMEOUT, async |client| {
                    ownership::take_over(client, id, limit).await
                });
                drop(reply.send(taken.await));
            }
            MemberCommand::Leave(restart, reply) => {
                let left = self.run_on(TAKE_OVER_TIMEOUT, async |client| {
                    ownership::leave(client, id, restart).await
                });
                drop(reply.send(left.await));
            }
            MemberCommand::List(reply) => {
                let listed =
                    self.run_on(LEASE_TIMEOUT, async |client| ownership::list(client).await);
                drop(reply.send(listed.await));
            }
        }
    }

    /// Runs statements on the connection, and connects first if there is none.
    async fn run_on<T>(
        &mut self,
        bound: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, PostgresError>,
    ) -> Result<T, PostgresError> {
        if self.connection.as_ref().is_none_or(|connection| connection.ended.is_cancelled()) {
            self.connect(LEASE_TIMEOUT).await?;
        }
        let Some(connection) = &mut self.connection else {
            return Err(PostgresError::Lost("the connection has ended".to_owned()));
        };
        let done = timeout(bound, work(&mut connection.client)).await;
        let done = done.map_err(|_| timed_out(bound)).flatten();
        if matches!(done, Err(PostgresError::Lost(_))) {
            self.connection = None;
        }
        done
    }
}
