//! The stream of task changes: the newest state of each task that has changed.

use async_stream::try_stream;
use futures::Stream;
use tokio::time::Instant;

use super::Events;
use crate::engine::{Error, Shared, Watched};
use crate::model::{Call, Principal, SessionId};
use crate::store::{CallQuery, ChangeQuery};

/// The maximum number of tasks in one item.
const CHANGES_MAX: u32 = 100;

/// An item of the stream of task changes.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskUpdate {
    /// Tasks have changed.
    Changed {
        /// The tasks as they are now, in the order of their last change.
        calls: Vec<Call>,
        /// The change number to resume after.
        change: u64,
    },
    /// No task has changed for a while.
    Heartbeat {
        /// The change number to resume after.
        change: u64,
    },
}

impl Events {
    /// Streams task changes after a change number, or from now on. The first item is a heartbeat
    /// with the change number at which the stream starts.
    pub fn task_changes(
        &self,
        principal: Principal,
        session_id: Option<SessionId>,
        after: Option<u64>,
    ) -> impl Stream<Item = Result<TaskUpdate, Error>> + Send + use<> {
        let shared = self.shared.clone();
        let expires = self.expiry();
        try_stream! {
            if let Some(id) = session_id {
                shared.own_session(&principal, id).await?;
            }
            let scope = match session_id {
                Some(id) => Watched::Session(id),
                None => Watched::Tenant(principal.tenant.clone()),
            };
            let mut changes = shared.changes.subscribe(&scope);
            let newest = newest_change(&shared, &principal).await?;
            let mut after = match after {
                Some(after) if after > newest => {
                    Err(Error::SequenceAhead { after, head: newest })?
                }
                Some(after) => after,
                None => newest,
            };
            yield TaskUpdate::Heartbeat { change: after };
            let heartbeat = shared.options.heartbeat;
            let mut due = Instant::now() + heartbeat;
            loop {
                changes.newest();
                let tenant = principal.tenant.clone();
                let query = ChangeQuery { tenant, session_id, after, limit: CHANGES_MAX };
                let page = shared.store.changes(query).await?;
                after = after.max(page.change);
                if !page.calls.is_empty() {
                    due = Instant::now() + heartbeat;
                    yield TaskUpdate::Changed { calls: page.calls, change: after };
                }
                if page.more {
                    continue;
                }
                let is_silent = tokio::select! {
                    _ = changes.changed() => Ok(false),
                    () = tokio::time::sleep_until(due) => Ok(true),
                    () = tokio::time::sleep_until(expires) => Err(Error::Draining),
                    () = shared.draining.cancelled() => Err(Error::Draining),
                };
                if is_silent? {
                    due = Instant::now() + heartbeat;
                    yield TaskUpdate::Heartbeat { change: after };
                }
            }
        }
    }
}

async fn newest_change(shared: &Shared, principal: &Principal) -> Result<u64, Error> {
    let query = CallQuery::newest(principal.tenant.clone(), 1);
    Ok(shared.store.calls(query).await?.change)
}
