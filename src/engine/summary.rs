//! What a model and a person should know of a session's background tasks.

use std::collections::HashSet;

use super::{Engine, Error};
use crate::agent::prompts;
use crate::model::limits::PAGE_SIZE_DEFAULT;
use crate::model::{Call, CallId, Principal, SessionId, Timestamp};
use crate::store::CallQuery;

/// A session's background tasks in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// For the system message of a model; empty when there are no tasks.
    pub context: String,
    /// For a person.
    pub text: String,
    /// How many have not ended.
    pub running: u32,
}

impl Engine {
    /// Sums up the newest background tasks of a session.
    pub async fn summarize(&self, who: &Principal, id: SessionId) -> Result<Summary, Error> {
        self.summarize_but(who, id, None).await
    }

    /// The same without one of them: the turn that asks.
    pub(super) async fn summarize_but(
        &self,
        who: &Principal,
        id: SessionId,
        asking: Option<CallId>,
    ) -> Result<Summary, Error> {
        self.own_session(who, id).await?;
        let query = CallQuery {
            tenant: who.tenant.clone(),
            session_id: Some(id),
            states: Vec::new(),
            kinds: Vec::new(),
            labels: Default::default(),
            created_after: None,
            cursor: None,
            limit: PAGE_SIZE_DEFAULT,
        };
        let page = self.shared.store.calls(query).await?;
        // Tasks that run are told of however old they are.
        let live = self.shared.store.live_calls(id).await?;
        let shown: HashSet<CallId> = page.calls.iter().map(|call| call.id).collect();
        let older = live.into_iter().filter(|call| call.is_task() && !shown.contains(&call.id));
        let all = page.calls.into_iter().chain(older);
        let calls: Vec<Call> = all.filter(|call| Some(call.id) != asking).collect();
        Ok(summarize(&calls, page.next.is_some(), self.now()))
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
