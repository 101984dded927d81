//! The sessions that this server owns, and the term in which it may own any: until its lease is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::Error;
use crate::model::SessionId;
use crate::store::{Claimed, Replicas, StoreError};
use crate::sync::{Mutex, PoisonError};

/// The longest time for a claim.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);

/// The ownership of sessions. A server that has its store alone owns all of them, at no cost.
pub(crate) struct Ownership {
    replicas: Option<Arc<dyn Replicas>>,
    /// The last attempt to renew the lease has failed.
    is_unrenewed: AtomicBool,
    term: Mutex<Term>,
}

/// The time in which this server holds a lease under one id, or for ever if it needs none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Term(Option<CancellationToken>);

impl Term {
    /// Waits for the end of the term.
    pub(crate) async fn ended(&self) {
        match &self.0 {
            Some(end) => end.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Returns a part of the term, which may end before it.
    pub(crate) fn part(&self) -> Self {
        Self(self.0.as_ref().map(CancellationToken::child_token))
    }

    /// Ends the term.
    pub(crate) fn end(&self) {
        if let Some(end) = &self.0 {
            end.cancel();
        }
    }

    /// Returns whether the term has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.0.as_ref().is_some_and(CancellationToken::is_cancelled)
    }
}

impl Ownership {
    pub(in crate::engine) fn new(replicas: Option<Arc<dyn Replicas>>) -> Self {
        let term = Term(replicas.is_some().then(CancellationToken::new));
        Self { replicas, is_unrenewed: AtomicBool::new(false), term: Mutex::new(term) }
    }

    /// Returns the replicas of the store, or `None` if this server has it alone.
    pub(crate) fn replicas(&self) -> Option<&Arc<dyn Replicas>> {
        self.replicas.as_ref()
    }

    /// Returns the present term. Take it before the first claim that must not outlast it.
    pub(crate) fn term(&self) -> Term {
        self.term.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes whether the last attempt to renew the lease has succeeded.
    pub(super) fn note_renewal(&self, is_renewed: bool) {
        self.is_unrenewed.store(!is_renewed, Ordering::Relaxed);
    }

    /// Returns an error if this server cannot reach its store, as far as its lease shows, or has lost its
    /// lease.
    pub(crate) fn check_lease(&self) -> Result<(), Error> {
        match self.is_unrenewed.load(Ordering::Relaxed) {
            false => self.check(),
            true => {
                Err(StoreError::Unavailable("the lease could not be renewed".to_owned()).into())
            }
        }
    }

    /// Returns an error if this server may own no session now.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.term().is_over() {
            false => Ok(()),
            true => Err(StoreError::Unavailable("the server has lost its lease".to_owned()).into()),
        }
    }

    /// Ends the term: actors end, and their processes and waiters with them.
    pub(super) fn end_term(&self) {
        self.term().end();
    }

    /// Begins another term, under a new id.
    pub(super) fn begin_term(&self) {
        let next = Term(Some(CancellationToken::new()));
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Claims a session for this server. Returns the number of the claim, for its release.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`] if it belongs to another replica.
    pub(crate) async fn claim(&self, id: SessionId) -> Result<u64, Error> {
        let Some(replicas) = &self.replicas else { return Ok(0) };
        let claimed = tokio::select! {
            claimed = replicas.claim(id) => claimed?,
            () = tokio::time::sleep(CLAIM_TIMEOUT) => {
                let cause = "a session could not be claimed in time".to_owned();
                return Err(StoreError::Unavailable(cause).into());
            }
        };
        match claimed {
            Claimed::Own { claim } => Ok(claim),
            Claimed::Other { address } => Err(Error::NotOwner { address }),
            Claimed::Missing => Err(Error::SessionNotFound(id.to_string())),
        }
    }

    /// Frees a session, so that the next request is served where it arrives.
    pub(crate) async fn release(&self, id: SessionId, claim: u64) {
        let Some(replicas) = &self.replicas else { return };
        if let Err(error) = replicas.release(id, claim).await {
            // It stays with this server until the next claim.
            tracing::debug!(session_id = %id, %error, "the session was not released");
        }
    }
}
