//! The claims of sessions, which the writer makes: so it knows which bodies of sessions others may have
//! written since it wrote them last.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::{PostgresError, timed_out};
use super::membership::Member;
use super::open::{Sharing, WRITE_TIMEOUT};
use super::ownership;
use super::reconnect::describe;
use super::writer::Writer;
use crate::model::SessionId;
use crate::store::{Claimed, StoreError};

/// The claims and releases that wait for the writer.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) claims: Vec<(SessionId, oneshot::Sender<Result<Claimed, StoreError>>)>,
    pub(super) releases: Vec<(SessionId, u64)>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.claims.len() + self.releases.len()
    }
}

impl Writer {
    pub(super) fn sharing(&self) -> Sharing {
        if self.member.is_some() { Sharing::Replicas } else { Sharing::Alone }
    }

    /// Makes the releases, and then the claims, and answers these.
    pub(super) async fn settle(&mut self, pending: &mut Pending) {
        let Some(member) = self.member.clone() else { return };
        let releases = std::mem::take(&mut pending.releases);
        if !releases.is_empty()
            && let Err(error) = self.release(&member, &releases).await
        {
            // They stay with this replica until it claims them again or is gone.
            tracing::debug!(cause = describe(&error), "sessions were not released");
        }
        let claims = std::mem::take(&mut pending.claims);
        if claims.is_empty() {
            return;
        }
        let mut ids: Vec<SessionId> = claims.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let claimed = self.claim(&member, &ids).await.map_err(StoreError::from);
        for (id, reply) in claims {
            let answer = match &claimed {
                Ok(claimed) => Ok(claimed.get(&id).cloned().unwrap_or(Claimed::Missing)),
                Err(error) => Err(error.clone()),
            };
            // It fails if the caller has gone away.
            drop(reply.send(answer));
        }
    }

    async fn claim(
        &mut self,
        member: &Arc<Member>,
        ids: &[SessionId],
    ) -> Result<std::collections::HashMap<SessionId, Claimed>, PostgresError> {
        self.reconnect_if_lost().await?;
        for id in ids {
            self.bodies.remove(*id);
        }
        let connection = self.connected()?;
        let claim = ownership::claim(&connection.client, member.id(), ids);
        let claimed = timeout(WRITE_TIMEOUT, claim).await;
        self.check_lost(claimed.map_err(|_| timed_out(WRITE_TIMEOUT)).flatten())
    }

    async fn release(
        &mut self,
        member: &Arc<Member>,
        sessions: &[(SessionId, u64)],
    ) -> Result<(), PostgresError> {
        self.reconnect_if_lost().await?;
        let connection = self.connected()?;
        let release = ownership::release(&connection.client, member.id(), sessions);
        let released = timeout(WRITE_TIMEOUT, release).await;
        self.check_lost(released.map_err(|_| timed_out(WRITE_TIMEOUT)).flatten())
    }

    /// Drops the connection if the work has failed because it is lost.
    fn check_lost<T>(&mut self, done: Result<T, PostgresError>) -> Result<T, PostgresError> {
        if let Err(error @ PostgresError::Lost(_)) = &done {
            self.lose(&describe(error));
        }
        done
    }
}
