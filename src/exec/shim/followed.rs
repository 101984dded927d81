//! A run in a shim, as the server follows it.

use std::future::pending;
use std::sync::Arc;

use async_trait::async_trait;

use super::link::ShimLink;
use super::message::StopRun;
use super::run_inbox::RunInbox;
use crate::exec::{ProcessRun, RunEvent, RunSpec, StartError, Stop};
use crate::model::CallId;

/// A run in a shim. Dropping it leaves the process to the shim.
pub(super) struct FollowedRun {
    call_id: CallId,
    link: Arc<ShimLink>,
    inbox: Arc<RunInbox>,
}

impl FollowedRun {
    /// Starts a run.
    pub(super) async fn start(link: Arc<ShimLink>, spec: RunSpec) -> Result<Self, StartError> {
        let call_id = spec.call_id;
        let inbox = link.start(spec).await?;
        Ok(Self { call_id, link, inbox })
    }

    /// Adopts a run, or returns `None` if the shim has none that is not followed.
    pub(super) fn adopt(link: &Arc<ShimLink>, call_id: CallId, stored_bytes: u64) -> Option<Self> {
        let inbox = link.adopt(call_id, stored_bytes)?;
        Some(Self { call_id, link: link.clone(), inbox })
    }
}

#[async_trait]
impl ProcessRun for FollowedRun {
    async fn next(&mut self) -> RunEvent {
        self.inbox.next().await
    }

    async fn run_on(&mut self) {
        // The shim reads the output of a run that is being stopped in any case.
        pending().await
    }

    fn stop(&mut self, stop: Stop) {
        self.link.stop(StopRun::new(self.call_id, stop));
    }
}
