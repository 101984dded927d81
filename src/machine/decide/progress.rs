//! `Progress`: a call reports its progress.

use super::super::{Change, Decision, Projection};
use super::alive;
use crate::model::{CallId, Progress};

/// Records the progress, which restarts the idle timeout as output does.
pub(super) fn decide(projection: &Projection, call_id: CallId, progress: Progress) -> Decision {
    if projection.call(call_id).is_none() {
        return Decision::not_live();
    }
    let mut decision = alive::decide(projection, call_id);
    decision.changes.push(Change::Progressed(call_id, progress));
    decision
}
