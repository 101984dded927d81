//! The writer: one task with the only connection that writes.
//!
//! Commits are grouped: the task takes the appends that are waiting, writes them in one transaction,
//! and then answers them all. It never waits for more: a lone append is committed alone.
//!
//! A connection that is lost during a commit leaves it open whether the commit was made. Each commit
//! has a number, which it writes with the rest, and by which the writer finds out on its next
//! connection. Until then its appends have no answer.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::availability::Availability;
use super::columns::number;
use super::error::{PostgresError, timed_out};
use super::expire::expire;
use super::group::Group;
use super::load;
use super::membership::Member;
use super::open::{WRITE_TIMEOUT, WriterConnection};
use super::options::Target;
use super::ownership::Change;
use super::pending::Pending;
use super::pipeline::Statements;
use super::write::{self, Commit};
use crate::model::limits::STORE_REMOTE_COMMIT_APPENDS_MAX;
use crate::model::{Session, SessionId};
use crate::store::session_cache::SessionCache;
use crate::store::writer_queue::PendingAppend;
use crate::store::{Claimed, Expired, ExpiryPolicy, StoreError};
use crate::telemetry::Metrics;

/// The attempts at a transaction whose connection is lost each time before the commit is made, or that the
/// database ends because of others.
pub(super) const ATTEMPTS_MAX: u32 = 3;

pub(super) enum WriterCommand {
    /// Writes an append that was made while this server was the replica with this id.
    Append(PendingAppend, Option<Uuid>),
    Expire(ExpiryPolicy, oneshot::Sender<Result<Expired, StoreError>>),
    Claim(SessionId, oneshot::Sender<Result<Claimed, StoreError>>),
    /// Releases a session, unless it was claimed again after the claim with this number.
    Release(SessionId, u64),
}

/// The state of the writer task.
pub(super) struct Writer {
    pub(super) target: Target,
    /// The random name of this server.
    pub(super) server: Uuid,
    /// This server as a replica, or `None` if it has the database alone.
    pub(super) member: Option<Arc<Member>>,
    pub(super) connection: Option<WriterConnection>,
    pub(super) availability: Arc<Availability>,
    /// Cancelled when the store is closing.
    pub(super) closing: CancellationToken,
    pub(super) metrics: Metrics,
    /// The number of the newest commit.
    pub(super) commit: i64,
    /// The bodies of sessions, as they were last written.
    pub(super) bodies: SessionCache<Session>,
    /// The time of the next attempt to connect.
    pub(super) retry: Instant,
}

/// The work of one transaction.
#[derive(Clone, Copy)]
enum Work<'a> {
    /// Appends that were made under one id.
    Appends(&'a [PendingAppend], Option<Uuid>),
    Expire(&'a ExpiryPolicy),
}

/// The results of one transaction.
enum Done {
    /// One result for each append.
    Appends(Vec<Result<(), StoreError>>),
    Expired(Expired),
}

/// A transaction that has no answer to its commit.
struct Undecided {
    /// The results, if the commit was made.
    done: Done,
    bodies: Vec<(Session, usize)>,
    error: PostgresError,
}

/// An attempt that failed.
enum Failed {
    /// Nothing was written.
    Before(PostgresError),
    /// The commit was sent.
    At(Undecided),
}

impl<E: Into<PostgresError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Before(error.into())
    }
}

impl Writer {
    /// Runs until all senders of commands are dropped and the queue is empty.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<WriterCommand>) {
        let mut batch = Vec::with_capacity(STORE_REMOTE_COMMIT_APPENDS_MAX);
        let mut pending = Pending::default();
        let mut owner = None;
        loop {
            let ended = self.connection.as_ref().map(|connection| connection.ended.clone());
            let command = tokio::select! {
                command = inbox.recv() => command,
                () = async { ended.clone().unwrap_or_default().cancelled().await } => {
                    self.lose("the connection has ended");
                    continue;
                }
                () = sleep_until(self.retry), if ended.is_none() => {
                    if let Err(error) = self.reconnect().await {
                        tracing::debug!(?error, "the database is away");
                    }
                    continue;
                }
            };
            let Some(command) = command else { return };
            let mut next = Some(command);
            while let Some(command) = next.take() {
                match command {
                    WriterCommand::Append(append, id) => {
                        if id != owner {
                            self.commit(&mut batch, owner).await;
                            owner = id;
                        }
                        batch.push(append);
                    }
                    WriterCommand::Claim(id, reply) => pending.claims.push((id, reply)),
                    WriterCommand::Release(id, claim) => pending.releases.push((id, claim)),
                    WriterCommand::Expire(policy, reply) => {
                        self.commit(&mut batch, owner).await;
                        drop(reply.send(self.expire(&policy).await));
                        continue;
                    }
                }
                if batch.len() + pending.len() < STORE_REMOTE_COMMIT_APPENDS_MAX {
                    next = inbox.try_recv().ok();
                }
            }
            self.commit(&mut batch, owner).await;
            self.settle(&mut pending).await;
        }
    }

    /// Writes a group that was made under one id, and answers its appends.
    async fn commit(&mut self, batch: &mut Vec<PendingAppend>, owner: Option<Uuid>) {
        if batch.is_empty() {
            return;
        }
        let results = self.write(batch, owner).await;
        self.metrics.store_committed(batch.len());
        for (pending, result) in batch.drain(..).zip(results) {
            // It fails if the caller has gone away.
            drop(pending.reply.send(result));
        }
    }

    /// Returns one result for each append. If one may have failed the others, or another replica has been
    /// faster, each gets a transaction of its own.
    async fn write(
        &mut self,
        batch: &[PendingAppend],
        owner: Option<Uuid>,
    ) -> Vec<Result<(), StoreError>> {
        match self.transact(Work::Appends(batch, owner)).await {
            Err(PostgresError::Refused(refusal)) if refusal.concerns_one() => {
                let mut results = Vec::with_capacity(batch.len());
                for pending in batch {
                    let work = Work::Appends(std::slice::from_ref(pending), owner);
                    let alone = self.transact(work).await;
                    results.extend(results_of(alone, 1));
                }
                results
            }
            done => results_of(done, batch.len()),
        }
    }

    async fn expire(&mut self, policy: &ExpiryPolicy) -> Result<Expired, StoreError> {
        let expired = match self.transact(Work::Expire(policy)).await? {
            Done::Expired(expired) => expired,
            Done::Appends(_) => Expired::default(),
        };
        if expired.events > 0 {
            tracing::warn!(events = expired.events, "trimmed logs that were too long");
        }
        Ok(expired)
    }

    /// Does the work in a transaction. After an error nothing of it is left.
    async fn transact(&mut self, work: Work<'_>) -> Result<Done, PostgresError> {
        let mut attempt = 1;
        loop {
            self.reconnect_if_lost().await?;
            let error = match self.attempt(work).await {
                Ok(done) => return Ok(done),
                Err(Failed::Before(error)) => error,
                Err(Failed::At(undecided)) => {
                    let Undecided { done, bodies, error } = undecided;
                    if !matches!(error, PostgresError::Lost(_)) {
                        error
                    } else {
                        self.lose(&error.cause());
                        match self.was_committed().await? {
                            true => return Ok(self.committed(done, bodies)),
                            false => error,
                        }
                    }
                }
            };
            self.bodies.clear();
            let again = match &error {
                PostgresError::Lost(_) => {
                    self.lose(&error.cause());
                    true
                }
                PostgresError::Refused(refusal) => {
                    self.roll_back().await;
                    refusal.is_transient()
                }
                PostgresError::Store(_) => {
                    self.roll_back().await;
                    false
                }
            };
            if !again || attempt >= ATTEMPTS_MAX {
                return Err(error);
            }
            attempt += 1;
        }
    }

    async fn attempt(&mut self, work: Work<'_>) -> Result<Done, Failed> {
        let connection = self.connected()?;
        let statements = Statements::new(&connection.client);
        let mut commit =
            Commit { server: self.server, number: self.commit + 1, change: 0, notification: None };
        let late = |_| timed_out(WRITE_TIMEOUT);
        let known = &self.bodies;
        let is_written = |session: &Session| known.get(session.id) == Some(session);
        let (done, writes, bodies) = match work {
            Work::Expire(policy) => {
                let round = timeout(WRITE_TIMEOUT, expire(&connection.client, policy));
                (Done::Expired(round.await.map_err(late)??), Vec::new(), Vec::new())
            }
            Work::Appends(batch, owner) => {
                let prepared: Vec<_> = batch.iter().map(|pending| &*pending.prepared).collect();
                let loaded = timeout(WRITE_TIMEOUT, load::begin(&statements, &prepared, owner));
                let loaded = loaded.await.map_err(late)??;
                let change = loaded.change;
                let mut group = Group::new(loaded, &is_written);
                let results: Vec<_> = prepared.iter().map(|append| group.apply(append)).collect();
                let (writes, newest) = group.finish();
                commit.change = if newest == change { 0 } else { number(newest) };
                commit.notification = owner.and_then(|owner| {
                    let made = prepared.iter().zip(&results).filter(|(_, result)| result.is_ok());
                    Change::of_appends(made.map(|(append, _)| *append), owner)
                });
                (Done::Appends(results), write::statements(&writes, owner), writes.bodies())
            }
        };
        let ready = timeout(WRITE_TIMEOUT, write::prepare(&statements, &writes));
        let ready = ready.await.map_err(late)??;
        let sent = timeout(WRITE_TIMEOUT, ready.run(&statements, &commit));
        match sent.await.map_err(late).flatten() {
            Ok(()) => Ok(self.committed(done, bodies)),
            Err(error) => Err(Failed::At(Undecided { done, bodies, error })),
        }
    }

    /// Returns the connection.
    pub(super) fn connected(&self) -> Result<&WriterConnection, PostgresError> {
        let lost = || PostgresError::Lost("there is no connection".to_owned());
        self.connection.as_ref().ok_or_else(lost)
    }

    fn committed(&mut self, done: Done, bodies: Vec<(Session, usize)>) -> Done {
        self.commit += 1;
        for (session, bytes) in bodies {
            self.bodies.insert(session.id, session, bytes);
        }
        done
    }

    async fn roll_back(&mut self) {
        let Some(connection) = &self.connection else { return };
        let rolled_back = timeout(WRITE_TIMEOUT, connection.client.batch_execute("ROLLBACK")).await;
        if !matches!(rolled_back, Ok(Ok(()))) {
            self.lose("a transaction could not be rolled back");
        }
    }
}

fn results_of(done: Result<Done, PostgresError>, appends: usize) -> Vec<Result<(), StoreError>> {
    match done {
        Ok(Done::Appends(results)) => results,
        Ok(Done::Expired(_)) => Vec::new(),
        Err(error) => {
            let error = StoreError::from(error);
            (0..appends).map(|_| Err(error.clone())).collect()
        }
    }
}
