//! The mark of a call: a variable in the environment of all of its processes.

use std::fs::File;
use std::io::Read;

use rustix::process::Pid;

use crate::model::CallId;

/// The variable by which the descendants of a call are found.
pub(super) const MARK: &str = "CALLPARK_CALL_ID";

/// Returns the call whose mark the process carries, or `None` if it carries none. A dead process
/// has no environment any more, even before it is reaped.
pub(super) fn read_mark(pid: Pid, environment: &mut Vec<u8>) -> Option<CallId> {
    environment.clear();
    let mut file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.read_to_end(environment).ok()?;
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}
