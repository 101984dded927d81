//! The processes that a call leaves behind when its main process ends, counted and named for its result.
//! `descendants` kills them.

use super::mark::read_mark;
use super::orphans;
use super::status::ProcessStatus;
use crate::exec::LeftProcesses;
use crate::model::CallId;
use crate::model::limits::LEFT_PROCESSES_MAX;

/// The most orphans that are examined at the end of a call.
const EXAMINED_MAX: usize = 256;

/// Returns the processes that a call has left behind, whose leader has exited and is not reaped: the
/// orphans that are alive, and carry its mark or belong to its group; `None` if there are none.
pub(super) fn left_by(call_id: CallId, group: u32) -> Option<Box<LeftProcesses>> {
    let mut left = LeftProcesses::default();
    let mut environment = Vec::new();
    for pid in orphans::candidates_of(call_id).into_iter().take(EXAMINED_MAX) {
        // An id may have another owner meanwhile. That one is of another call, and is not counted.
        let Some(status) = ProcessStatus::read(pid).filter(|status| status.is_alive) else {
            continue;
        };
        if status.group == group || read_mark(pid, &mut environment) == Some(call_id) {
            left.count += 1;
            if left.programs.len() < LEFT_PROCESSES_MAX {
                left.programs.push(status.program);
            }
        }
    }
    (left.count > 0).then(|| Box::new(left))
}
