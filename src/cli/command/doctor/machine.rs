//! The limits of the machine.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::app::config::Config;
use crate::engine::{Clock as _, SystemClock};
use crate::model::Timestamp;

/// The free space below which a store may soon be full, in MiB.
const FREE_WARNING_MIB: u64 = 1_024;
/// The free space below which it nearly is, in MiB.
const FREE_PROBLEM_MIB: u64 = 64;

/// The descriptors of a running call: three pipes, with a margin.
const DESCRIPTORS_PER_CALL: u64 = 4;
/// The descriptors of the program, its store and its listeners.
const DESCRIPTORS_OWN: u64 = 128;

/// The time that the clock has passed: callpark did not exist before.
const CLOCK_MIN: Duration = Duration::from_secs(1_735_689_600);

/// Checks the free space on the disk of the store.
pub(super) fn free_space(folder: &Path) -> Finding {
    const CHECK: &str = "free space";
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let mib = match rustix::fs::statvfs(existing) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize) / (1024 * 1024),
        Err(error) => {
            let text = format!("{}: {error}", existing.display());
            return Finding::warning(CHECK, text, "");
        }
    };
    let text = format!("{mib} MiB at {}", existing.display());
    let remedy = "make room, or move the store to a larger disk; without space no call can start";
    match mib {
        0..FREE_PROBLEM_MIB => Finding::problem(CHECK, text, remedy),
        FREE_PROBLEM_MIB..FREE_WARNING_MIB => Finding::warning(CHECK, text, remedy),
        _ => Finding::ok(CHECK, text),
    }
}

/// Checks that connections and calls at their limits have enough descriptors.
pub(super) fn descriptors(config: &Config) -> Finding {
    const CHECK: &str = "descriptors";
    let calls = config.max_running_calls.unwrap_or(0) as u64;
    let connections = config.max_connections as u64;
    let needed = connections + calls.saturating_mul(DESCRIPTORS_PER_CALL) + DESCRIPTORS_OWN;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Finding::warning(
            CHECK,
            format!(
                "this process may open {limit}, and the limits of the server add up to {needed}"
            ),
            format!(
                "raise the limit (`ulimit -n {needed}`, or LimitNOFILE={needed} in the unit of \
                 systemd), or lower max_connections and max_running_calls"
            ),
        ),
        Some(limit) => Finding::ok(CHECK, format!("{limit}, of which {needed} may be needed")),
        None => Finding::ok(CHECK, "unlimited"),
    }
}

/// Checks that the clock has been set.
pub(super) fn clock() -> Finding {
    const CHECK: &str = "clock";
    let since = SystemClock.now().since(Timestamp::default());
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    match since >= CLOCK_MIN {
        true => Finding::ok(CHECK, text),
        false => Finding::problem(CHECK, text, "set the clock of the machine, or synchronize it"),
    }
}
