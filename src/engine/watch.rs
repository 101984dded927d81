//! Watching tasks change: the newest state of each that has changed, never the steps between.

use async_stream::try_stream;
use futures::Stream;
use tokio::time::Instant;

use super::{Engine, Error, Watched};
use crate::model::{Call, Principal, SessionId};
use crate::store::{CallQuery, ChangeQuery};

/// How many tasks one step of a watch tells of.
const CHANGES_MAX: u32 = 100;

/// A step of a watch.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchItem {
    /// Tasks as they are now, and where to go on after them.
    Changed {
        /// The tasks, in the order of their last change.
        calls: Vec<Call>,
        /// Go on after this change number.
        change: u64,
    },
    /// Nothing has changed for a while.
    Heartbeat {
        /// Go on after this change number.
        change: u64,
    },
}

impl Engine {
    /// Tells of task changes after a change number; without one, from now on. Begins with a
    /// heartbeat that says where.
    pub fn watch(
        &self,
        who: Principal,
        session_id: Option<SessionId>,
        after: Option<u64>,
    ) -> impl Stream<Item = Result<WatchItem, Error>> + Send + use<> {
        let engine = self.clone();
        try_stream! {
            if let Some(id) = session_id {
                engine.own_session(&who, id).await?;
            }
            let topic = match session_id {
                Some(id) => Watched::Session(id),
                None => Watched::Tenant(who.tenant.clone()),
            };
            let mut changes = engine.shared.changes.subscribe(&topic);
            let newest = engine.newest_change(&who).await?;
            let mut after = match after {
                Some(after) if after > newest => {
                    Err(Error::SequenceAhead { after, head: newest })?
                }
                Some(after) => after,
                None => newest,
            };
            yield WatchItem::Heartbeat { change: after };
            let heartbeat = engine.shared.options.heartbeat;
            let mut due = Instant::now() + heartbeat;
            let expires = engine.stream_expiry();
            loop {
                changes.newest();
                let tenant = who.tenant.clone();
                let query = ChangeQuery { tenant, session_id, after, limit: CHANGES_MAX };
                let page = engine.shared.store.changes(query).await?;
                after = after.max(page.change);
                if !page.calls.is_empty() {
                    due = Instant::now() + heartbeat;
                    yield WatchItem::Changed { calls: page.calls, change: after };
                }
                if page.more {
                    continue;
                }
                let is_silent = tokio::select! {
                    _ = changes.changed() => Ok(false),
                    () = tokio::time::sleep_until(due) => Ok(true),
                    () = tokio::time::sleep_until(expires) => Err(Error::Draining),
                    () = engine.shared.draining.cancelled() => Err(Error::Draining),
                };
                if is_silent? {
                    due = Instant::now() + heartbeat;
                    yield WatchItem::Heartbeat { change: after };
                }
            }
        }
    }

    async fn newest_change(&self, who: &Principal) -> Result<u64, Error> {
        let query = CallQuery {
            tenant: who.tenant.clone(),
            session_id: None,
            states: Vec::new(),
            kinds: Vec::new(),
            labels: Default::default(),
            created_after: None,
            cursor: None,
            limit: 1,
        };
        Ok(self.shared.store.calls(query).await?.change)
    }
}
