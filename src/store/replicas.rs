//! The port to replicas: equal servers over one store, each of which owns the sessions that it works on.
//!
//! The store is the only coordinator. A replica has a lease, which it renews. A session that is at work
//! belongs to one replica, and every append checks that in its own transaction. A replica whose lease has
//! run out is declared dead by another one; its id never becomes valid again, so that nothing of it can
//! be written any more, however long it was paused.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use uuid::Uuid;

use super::StoreError;
use crate::model::{SessionId, Tenant, Timestamp};

/// The length of the lease of a replica, in the time of the store.
pub const REPLICA_LEASE: Duration = Duration::from_secs(8);

/// The time for which the processes of a replica go on without a sign of it: they end before its lease.
pub const REPLICA_RUNS_KEPT: Duration = Duration::from_secs(7);

/// The time for which the sessions of a replica that has stopped in good order wait for its return.
pub const REPLICA_RESTART: Duration = Duration::from_secs(120);

/// The id of a replica, which is new at each start of a server, and after each loss of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplicaId(pub(super) Uuid);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rep_{}", self.0.simple())
    }
}

/// The state of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// The replica serves requests.
    Serving,
    /// The replica has stopped, and is expected back before its lease runs out: its sessions wait for it.
    Restarting,
    /// The replica has stopped, or was declared dead. Its sessions are free.
    Gone,
}

impl ReplicaState {
    /// Returns the lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Restarting => "restarting",
            Self::Gone => "gone",
        }
    }
}

/// A replica, as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    /// The id.
    pub id: ReplicaId,
    /// The address at which other replicas reach it, as `http://HOST:PORT`.
    pub address: String,
    /// The version of its program.
    pub version: String,
    /// The state.
    pub state: ReplicaState,
    /// The time since its start.
    pub age: Duration,
    /// The rest of its lease, or zero if it has run out.
    pub lease: Duration,
    /// The number of the sessions that it owns.
    pub sessions: u64,
    /// The number of calls that have not ended in these sessions.
    pub live_calls: u64,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The session belongs to this replica. A release names the number of the claim.
    Own {
        /// The number of the claim among those of the session.
        claim: u64,
    },
    /// The session belongs to another replica.
    Other {
        /// The address of its owner.
        address: String,
    },
    /// There is no such session.
    Missing,
}

/// The answer to a renewal of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// The lease has its whole length again.
    Renewed {
        /// The time of the store.
        time: Timestamp,
        /// The addresses of the other replicas that serve.
        others: Vec<String>,
    },
    /// The replica was declared dead, and its sessions may belong to others.
    Dead,
}

/// A change that another replica has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteChange {
    /// Tasks or follow-ups of a session have changed.
    Session(Tenant, SessionId),
    /// Anything may have changed.
    Everything,
}

/// The replicas that share a store, as one of them sees them.
#[async_trait]
pub trait Replicas: Send + Sync + 'static {
    /// Renews the lease of this replica.
    async fn renew(&self) -> Result<Renewed, StoreError>;

    /// Takes a new id with a new lease, after the loss of the last one. What was claimed under the last
    /// one has to be claimed again.
    async fn rejoin(&self) -> Result<(), StoreError>;

    /// Claims a session for this replica, unless another one owns it whose lease is valid.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if this replica has lost its lease.
    async fn claim(&self, session_id: SessionId) -> Result<Claimed, StoreError>;

    /// Frees a session, unless it was claimed again after the claim with this number. That of a session
    /// that this replica has created is 0.
    async fn release(&self, session_id: SessionId, claim: u64) -> Result<(), StoreError>;

    /// Declares dead the replicas whose lease has run out, and claims those of their sessions that have
    /// live calls, at most `limit` at once. Returns the sessions.
    async fn take_over(&self, limit: u32) -> Result<Vec<SessionId>, StoreError>;

    /// Frees the sessions without live calls, and keeps the others for as long as a restart may take. If
    /// that is zero, all are free.
    async fn leave(&self, restart: Duration) -> Result<(), StoreError>;

    /// Returns all replicas that serve or restart, the oldest first.
    async fn list(&self) -> Result<Vec<Replica>, StoreError>;

    /// Returns the changes of other replicas from now on. What a slow reader misses becomes
    /// [`RemoteChange::Everything`].
    fn changes(&self) -> BoxStream<'static, RemoteChange>;

    /// Returns the key by which the replicas of the store know each other.
    fn key(&self) -> [u8; 32];

    /// Returns the time of the store: that of the last renewal, and what has passed since.
    fn time(&self) -> Timestamp;
}
