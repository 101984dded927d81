//! The claims of sessions, which the writer makes: so it knows which bodies of sessions others may have
//! written since it wrote them last.

use std::collections::HashMap;

use tokio::time::timeout;

use super::error::{PostgresError, timed_out};
use super::membership::Member;
use super::open::{Sharing, WRITE_TIMEOUT};
use super::ownership;
use super::pending::Pending;
use super::writer::{ATTEMPTS_MAX, Writer};
use crate::model::SessionId;
use crate::store::{Claimed, StoreError};

/// A change of the owners of sessions.
#[derive(Clone, Copy)]
enum Change<'a> {
    Claim(&'a [SessionId]),
    Release(&'a [(SessionId, u64)]),
}

impl Writer {
    pub(super) fn sharing(&self) -> Sharing {
        if self.member.is_some() { Sharing::Replicas } else { Sharing::Alone }
    }

    /// Makes the releases, and then the claims, and answers these.
    pub(super) async fn settle(&mut self, pending: &mut Pending) {
        let Some(member) = self.member.clone() else { return };
        let releases = std::mem::take(&mut pending.releases);
        if !releases.is_empty() {
            self.release(&member, &releases).await;
        }
        let claims = std::mem::take(&mut pending.claims);
        if claims.is_empty() {
            return;
        }
        let mut ids: Vec<SessionId> = claims.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let claimed = self.claim(&member, &ids).await;
        for (id, reply) in claims {
            if let Some(answer) = claimed.get(&id) {
                // It fails if the caller has gone away.
                drop(reply.send(answer.clone()));
            }
        }
    }

    /// Returns the answer for each session. If one may have failed the others, each is claimed alone.
    async fn claim(
        &mut self,
        member: &Member,
        ids: &[SessionId],
    ) -> HashMap<SessionId, Result<Claimed, StoreError>> {
        for id in ids {
            self.bodies.remove(*id);
        }
        let mut answers = HashMap::new();
        match self.change_owners(member, Change::Claim(ids)).await {
            Err(PostgresError::Refused(refusal)) if refusal.concerns_one() => {
                for id in ids.chunks(1) {
                    let claimed = self.change_owners(member, Change::Claim(id)).await;
                    add_answers(&mut answers, id, claimed);
                }
            }
            claimed => add_answers(&mut answers, ids, claimed),
        }
        answers
    }

    /// Makes releases. If one may have failed the others, each is made alone.
    async fn release(&mut self, member: &Member, sessions: &[(SessionId, u64)]) {
        // They stay with this replica until it claims them again or is gone.
        let log = |error: PostgresError| {
            tracing::debug!(cause = error.cause(), "a session was not released")
        };
        match self.change_owners(member, Change::Release(sessions)).await {
            Err(PostgresError::Refused(refusal)) if refusal.concerns_one() => {
                for session in sessions.chunks(1) {
                    let released = self.change_owners(member, Change::Release(session)).await;
                    drop(released.map_err(log));
                }
            }
            released => drop(released.map_err(log)),
        }
    }

    /// Changes owners, again if the database has ended the statement because of another transaction. Returns
    /// the answers to claims. Drops a connection that is lost.
    async fn change_owners(
        &mut self,
        member: &Member,
        change: Change<'_>,
    ) -> Result<HashMap<SessionId, Claimed>, PostgresError> {
        let mut attempt = 1;
        loop {
            self.reconnect_if_lost().await?;
            let client = &self.connected()?.client;
            let changed = timeout(WRITE_TIMEOUT, async {
                match change {
                    Change::Claim(ids) => ownership::claim(client, member.id(), ids).await,
                    Change::Release(sessions) => {
                        let released = ownership::release(client, member.id(), sessions).await;
                        released.map(|()| HashMap::new())
                    }
                }
            });
            match changed.await.map_err(|_| timed_out(WRITE_TIMEOUT)).flatten() {
                Err(PostgresError::Refused(refusal))
                    if refusal.is_transient() && attempt < ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                Err(error @ PostgresError::Lost(_)) => {
                    self.lose(&error.cause());
                    return Err(error);
                }
                changed => return changed,
            }
        }
    }
}

/// Adds the answers of a claim of these sessions.
fn add_answers(
    answers: &mut HashMap<SessionId, Result<Claimed, StoreError>>,
    ids: &[SessionId],
    claimed: Result<HashMap<SessionId, Claimed>, PostgresError>,
) {
    let claimed = claimed.map_err(StoreError::from);
    let is_gone = || StoreError::Unavailable("the server has lost its lease".to_owned());
    answers.extend(ids.iter().map(|id| {
        let answer = claimed.as_ref().map_err(Clone::clone);
        (*id, answer.and_then(|claimed| claimed.get(id).cloned().ok_or_else(is_gone)))
    }));
}
