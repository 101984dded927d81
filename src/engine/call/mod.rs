//! Calls: one use of a tool each, from its acceptance to its terminal state.

mod admission;
mod cancel;
mod description;
mod full_result;
mod handle;
mod output;
mod request;
mod start;
mod summary;
mod wait;

use std::sync::Arc;

use super::{Error, Shared};
use crate::model::{Call, CallId, Principal, SessionId, Tool};
use crate::store::{CallPage, CallQuery};
use crate::telemetry::RecordKind;
use crate::tool::{PROVIDER_SEPARATOR, ProviderUnavailable};

pub(crate) use admission::CallHold;
pub(crate) use description::of_prompt;
pub(crate) use handle::turn_of;
pub(crate) use request::StartRequest;
pub(crate) use wait::CallWatch;

pub use cancel::{CancelTask, Cancelled};
pub use handle::CallHandle;
pub use output::{OutputRead, OutputSlice, OutputStart};
pub use request::{CallRequest, DryRun, Started};
pub use summary::Summary;
pub use wait::{ManyWaited, WaitMode, Waited};

/// The calls of an engine. A call that was parked, or started in the background, is a task.
#[derive(Debug, Clone)]
pub struct Calls {
    pub(in crate::engine) shared: Arc<Shared>,
}

impl Calls {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone() }
    }

    /// Returns a call, in the background or not.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`] if the caller has no such call.
    pub async fn get(&self, principal: &Principal, id: CallId) -> Result<Call, Error> {
        let call = self.shared.store.call(id).await?;
        call.filter(|call| call.tenant == principal.tenant)
            .ok_or_else(|| Error::TaskNotFound(id.background()))
    }

    /// Returns a background task.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`] if the caller has no such task.
    pub async fn get_task(&self, principal: &Principal, id: CallId) -> Result<Call, Error> {
        let call = self.get(principal, id).await?;
        if call.is_task() { Ok(call) } else { Err(Error::TaskNotFound(id.background())) }
    }

    /// Returns the process id of the shim that owns the process of a call, or `None` if none does.
    pub fn shim_of(&self, call: &Call) -> Option<u32> {
        let is_live = !call.state.is_terminal();
        is_live.then(|| self.shared.runner.shim_of(call.id)).flatten()
    }

    /// Returns a page of background tasks, newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the tasks cannot be read.
    pub async fn list(&self, query: CallQuery) -> Result<CallPage, Error> {
        let page = self.shared.store.calls(query).await?;
        for id in &page.unreadable {
            self.shared.metrics.record_unreadable(RecordKind::Task);
            tracing::error!(
                background_id = id.background(),
                "the record of the task cannot be read"
            );
        }
        Ok(page)
    }

    /// Returns the tools that the caller may use, in the session if one is given, and the providers
    /// whose tools are unavailable now.
    ///
    /// # Errors
    ///
    /// [`Error::SessionNotFound`] if the caller has no such session.
    pub async fn list_tools(
        &self,
        principal: &Principal,
        session_id: Option<SessionId>,
    ) -> Result<(Vec<Tool>, Vec<ProviderUnavailable>), Error> {
        let allowed = match session_id {
            Some(id) => self.shared.own_session(principal, id).await?.allowed_tools,
            None => Arc::default(),
        };
        // Every run has an execution timeout: that of its tool, or the server's.
        let timeout = self.shared.options.execution_timeout;
        let with_timeout = |tool: Tool| Tool {
            execution_timeout: tool.execution_timeout.or(Some(timeout)),
            ..tool
        };
        let (tools, unavailable) = self.shared.tools.list().await;
        let grants = &self.shared.options.grants;
        let is_allowed = |tool: &Tool| {
            (allowed.is_empty() || allowed.contains(&tool.name))
                && grants.allows_tool(principal, &tool.name)
        };
        let tools = tools.into_iter().filter(is_allowed).map(with_timeout).collect();
        let is_own = |provider: &ProviderUnavailable| {
            let prefix = format!("{}{PROVIDER_SEPARATOR}", provider.provider);
            grants.allows_some_tool(principal, &prefix)
        };
        Ok((tools, unavailable.into_iter().filter(is_own).collect()))
    }
}
