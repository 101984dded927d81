//! The state of a process, as `/proc/PID/stat` shows it.

use std::fs;

use rustix::process::Pid;

/// The fields of a process that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProcessStatus {
    /// The name of the program.
    pub(super) program: String,
    /// The id of the parent.
    pub(super) parent: u32,
    /// The id of the process group.
    pub(super) group: u32,
    /// The id of the session.
    pub(super) session: u32,
    /// The number of the controlling terminal, or 0 if there is none.
    pub(super) terminal: i64,
    /// The time of its start, in ticks since the start of the system.
    pub(super) start_ticks: u64,
    /// `false` for a process that has ended, or has let go of its memory to end.
    pub(super) is_alive: bool,
}

impl ProcessStatus {
    /// Returns the state of a process, or `None` if it does not exist or cannot be read.
    pub(super) fn read(pid: Pid) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses `PID (NAME) STATE PPID PGRP SESSION TTY …`. The name may contain spaces and
    /// parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let (name, fields) = stat.rsplit_once(')')?;
        let (_, program) = name.split_once('(')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let memory_bytes: u64 = fields.get(20)?.parse().ok()?;
        let state = *fields.first()?;
        Some(Self {
            program: program.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            terminal: fields.get(4)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
            is_alive: !matches!(state, "Z" | "X") && memory_bytes > 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, state: &str, memory: &str) -> String {
        format!("7 ({name}) {state} 1 8 9 34816 7 0 0 0 0 0 0 0 0 0 20 0 1 0 99 {memory} 1 2 3")
    }

    #[test]
    fn fields_are_found_behind_any_name() {
        for name in ["sleep", "a) b (c", "", ")"] {
            let status = ProcessStatus::parse(&stat(name, "S", "4096")).expect("is complete");
            let expected = ProcessStatus {
                program: name.to_owned(),
                parent: 1,
                group: 8,
                session: 9,
                terminal: 34816,
                start_ticks: 99,
                is_alive: true,
            };
            assert_eq!(status, expected);
        }
        assert_eq!(ProcessStatus::parse("7 (sleep) S 1 8"), None);
        assert_eq!(ProcessStatus::parse(""), None);
    }

    #[test]
    fn a_process_that_ends_is_not_alive() {
        for (state, memory) in [("Z", "0"), ("X", "0"), ("R", "0")] {
            let status = ProcessStatus::parse(&stat("sleep", state, memory)).expect("is complete");
            assert!(!status.is_alive, "{state}");
        }
    }

    #[test]
    fn this_process_is_alive() {
        let status = ProcessStatus::read(rustix::process::getpid()).expect("is there");
        assert!(status.is_alive && !status.program.is_empty());
    }
}
