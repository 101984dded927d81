//! The admission of calls, as far as the limits of their tenants go.

use crate::engine::{Error, Shared};
use crate::machine::Start;
use crate::model::{Call, State, Tenant, ToolKind};
use crate::quota::{Held, Use};

/// The part of a tenant's limits that one call uses, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct CallHold {
    _live: Option<Held>,
    running: Option<Held>,
}

impl CallHold {
    /// Counts a new call, before anything durable happens.
    ///
    /// # Errors
    ///
    /// [`Error::Exceeded`] if the tenant has as many calls as it may.
    pub(crate) fn admit(shared: &Shared, tenant: &Tenant, start: &Start) -> Result<Self, Error> {
        // What manages the tasks of a full tenant must be possible.
        if start.is_control {
            return Ok(Self::default());
        }
        // What has been promised is delivered.
        if start.turn.as_ref().is_some_and(|turn| turn.follow_ups.is_some()) {
            return Ok(Self::keep(shared, tenant, takes_place(start.kind)));
        }
        let live = shared.quotas.hold(tenant, Use::LiveCall)?;
        let running = match takes_place(start.kind) {
            true => shared.quotas.hold(tenant, Use::RunningCall)?,
            false => None,
        };
        Ok(Self { _live: live, running })
    }

    /// Counts a call that is live already.
    pub(crate) fn of_live(shared: &Shared, call: &Call) -> Self {
        let runs = call.state != State::Pending && takes_place(call.kind);
        Self::keep(shared, &call.tenant, runs)
    }

    /// Counts a call that cannot be refused: its work is under way outside of this server.
    pub(crate) fn keep(shared: &Shared, tenant: &Tenant, runs: bool) -> Self {
        let keep = |kind| shared.quotas.keep(tenant, kind);
        Self { _live: keep(Use::LiveCall), running: runs.then(|| keep(Use::RunningCall)).flatten() }
    }

    /// Counts the call as running. It has been admitted, so it isn't refused any more.
    pub(crate) fn begin(&mut self, shared: &Shared, call: &Call) {
        if self.running.is_none() && takes_place(call.kind) {
            self.running = shared.quotas.keep(&call.tenant, Use::RunningCall);
        }
    }

    /// Counts the call as one that waits for others of its session.
    pub(crate) fn wait(&mut self) {
        self.running = None;
    }
}

/// Returns whether calls of this kind are among the running ones. A turn waits for its calls, which would
/// otherwise need the places that turns have.
fn takes_place(kind: ToolKind) -> bool {
    kind != ToolKind::Agent
}
