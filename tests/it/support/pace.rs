//! The slowness of a busy machine.

use std::collections::HashMap;
use std::ffi::OsString;

/// The time that the threads of a process compute, and that they are ready to and wait for a
/// processor, from now on.
pub struct Pace {
    pid: u32,
    before: HashMap<OsString, Times>,
}

/// Nanoseconds.
#[derive(Clone, Copy, Default)]
struct Times {
    running: u64,
    waiting: u64,
}

impl Pace {
    /// The pace of this process.
    pub fn of(pid: u32) -> Self {
        Self { pid, before: thread_times(pid) }
    }

    /// Returns the time that a second of computing has taken, in seconds: 1 on an idle machine, and
    /// more the more others compute beside it. It is 1 where the system doesn't count this.
    pub fn slowness(&self) -> f64 {
        let mut grown = Times::default();
        for (thread, now) in thread_times(self.pid) {
            let before = self.before.get(&thread).copied().unwrap_or_default();
            grown.running += now.running.saturating_sub(before.running);
            grown.waiting += now.waiting.saturating_sub(before.waiting);
        }
        1.0 + grown.waiting as f64 / grown.running.max(1) as f64
    }
}

fn thread_times(pid: u32) -> HashMap<OsString, Times> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a live process");
    let times = threads.flatten().filter_map(|thread| {
        // A thread may have ended since.
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let mut fields = text.split_ascii_whitespace().map(|field| field.parse().ok());
        let (running, waiting) = (fields.next()??, fields.next()??);
        Some((thread.file_name(), Times { running, waiting }))
    });
    times.collect()
}
