//! Summaries of a session's background tasks, for models and people.

use std::collections::HashSet;

use super::Calls;
use crate::agent::prompts;
use crate::engine::Error;
use crate::model::limits::PAGE_SIZE_DEFAULT;
use crate::model::{Call, CallId, Principal, SessionId, Timestamp};
use crate::store::CallQuery;

/// A summary of a session's background tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// The text for the system message of a model, empty if there are no tasks.
    pub context: String,
    /// The text for people.
    pub text: String,
    /// The number of tasks that have not ended.
    pub running: u32,
}

impl Calls {
    /// Summarizes the newest background tasks of a session.
    ///
    /// # Errors
    ///
    /// [`Error::SessionNotFound`] if the caller has no such session.
    pub async fn summarize(&self, principal: &Principal, id: SessionId) -> Result<Summary, Error> {
        self.summarize_without(principal, id, None).await
    }

    /// Summarizes the tasks without one of them: the turn that asks for the summary.
    pub(crate) async fn summarize_without(
        &self,
        principal: &Principal,
        id: SessionId,
        excluded: Option<CallId>,
    ) -> Result<Summary, Error> {
        self.shared.own_session(principal, id).await?;
        let query = CallQuery {
            session_id: Some(id),
            ..CallQuery::newest(principal.tenant.clone(), PAGE_SIZE_DEFAULT)
        };
        let page = self.shared.store.calls(query).await?;
        // Running tasks are included however old they are.
        let live = self.shared.store.live_calls(id).await?;
        let shown: HashSet<CallId> = page.calls.iter().map(|call| call.id).collect();
        let older = live.into_iter().filter(|call| call.is_task() && !shown.contains(&call.id));
        let all = page.calls.into_iter().chain(older);
        let calls: Vec<Call> = all.filter(|call| Some(call.id) != excluded).collect();
        Ok(summarize(&calls, page.next.is_some(), self.shared.now()))
    }
}

fn summarize(calls: &[Call], more: bool, now: Timestamp) -> Summary {
    let running = calls.iter().filter(|call| !call.state.is_terminal()).count();
    Summary {
        context: prompts::task_context(calls, more, now),
        text: prompts::task_list(calls, more, now),
        running: u32::try_from(running).unwrap_or(u32::MAX),
    }
}
