//! The children of this program: the leaders of calls, and the orphans that it has adopted.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::record::RecordFile;
use super::status::ProcessStatus;
use crate::model::CallId;

/// The children of this program.
#[derive(Debug)]
pub(super) struct Children {
    /// The file with the ids of the main thread's children. No entry is removed while the lock is
    /// held, so that a read of it is consistent.
    file: File,
    text: String,
    /// The content of the file at the last look for changes.
    text_before: String,
    leaders: HashMap<Pid, CallId>,
    /// `true` if there are other leaders than at the last look.
    have_leaders_changed: bool,
    /// The number of leaders that may have started and are not among the `leaders` yet.
    pub(super) starting: usize,
    pub(super) starting_on_main: usize,
    /// The orphans that were seen alive, with the call whose mark they carry. One without a mark
    /// may belong to any call.
    pub(super) known: HashMap<Pid, Option<CallId>>,
    /// The children that belong to no call: those that the program started which this process was before
    /// it became callpark, and those that outlive this one.
    pub(super) inherited: HashSet<Pid>,
    /// `true` if every orphan belongs to a call.
    pub(super) only_calls: bool,
    /// `true` while a task checks the orphans.
    pub(super) watched: bool,
}

impl Children {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            text: String::new(),
            text_before: String::new(),
            leaders: HashMap::new(),
            have_leaders_changed: false,
            starting: 0,
            starting_on_main: 0,
            known: HashMap::new(),
            inherited: HashSet::new(),
            only_calls: false,
            watched: false,
        }
    }

    pub(super) fn add_leader(&mut self, pid: Pid, call_id: CallId) {
        self.leaders.insert(pid, call_id);
        self.have_leaders_changed = true;
    }

    pub(super) fn remove_leader(&mut self, pid: Pid) {
        self.leaders.remove(&pid);
        self.have_leaders_changed = true;
    }

    /// Returns whether no call runs or is about to.
    pub(super) fn has_no_leader(&self) -> bool {
        self.leaders.is_empty() && self.starting == 0
    }

    /// Returns the children of the main thread: the orphans, and leaders that it started itself.
    pub(super) fn list(&mut self) -> Vec<Pid> {
        self.text.clear();
        let read = self.file.rewind().and_then(|()| self.file.read_to_string(&mut self.text));
        match read {
            Ok(_) => self.text.split_ascii_whitespace().filter_map(parse_pid).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Returns the children that are not the leader of a call.
    fn list_orphans(&mut self) -> Vec<Pid> {
        let mut pids = self.list();
        pids.retain(|pid| !self.leaders.contains_key(pid));
        pids
    }

    pub(super) fn has_orphans(&mut self) -> bool {
        self.list_orphans().iter().any(|pid| !self.inherited.contains(pid))
    }

    pub(super) fn may_be_left_by(&mut self, call_id: CallId) -> bool {
        !self.candidates_of(call_id).is_empty()
    }

    /// Returns the orphans that may belong to the call.
    pub(super) fn candidates_of(&mut self, call_id: CallId) -> Vec<Pid> {
        let mut pids = self.list_orphans();
        pids.retain(|pid| match self.known.get(pid) {
            Some(mark) => *mark == Some(call_id),
            None => !self.inherited.contains(pid),
        });
        pids
    }

    /// Reaps the orphans that have ended. Returns the live ones that were not known.
    pub(super) fn reap(&mut self) -> Vec<Pid> {
        if self.starting_on_main > 0 {
            return Vec::new();
        }
        // Also those of other threads, which the list does not have.
        self.inherited.retain(|pid| is_there(*pid));
        let mut orphans = self.list_orphans();
        orphans.retain(|pid| {
            let is_there = is_there(*pid);
            if !is_there {
                self.known.remove(pid);
            }
            is_there && !self.known.contains_key(pid) && !self.inherited.contains(pid)
        });
        orphans
    }

    pub(super) fn kill(&mut self, calls: &[CallId]) {
        let is_theirs = |mark: &Option<CallId>| mark.is_some_and(|mark| calls.contains(&mark));
        let theirs = self.known.iter().filter(|(_, mark)| is_theirs(mark));
        theirs.for_each(|(pid, _)| kill_orphan(*pid));
    }

    /// Returns whether the children are others than at the last call.
    pub(super) fn have_changed(&mut self) -> bool {
        let before = std::mem::take(&mut self.text_before);
        self.list();
        self.text_before.clone_from(&self.text);
        std::mem::take(&mut self.have_leaders_changed) || before != self.text_before
    }

    /// Sets the processes that are recorded: the leaders, and the orphans of calls. Call it while no
    /// orphan is reaped. The status of a leader is read under the lock, under which it stays its own.
    pub(super) fn record_in(&mut self, file: &mut RecordFile) {
        let mut pids = self.list_orphans();
        pids.retain(|pid| match self.known.get(pid) {
            // It may still clear its environment.
            Some(Some(_)) => true,
            Some(None) => self.only_calls,
            None => false,
        });
        pids.extend(self.leaders.keys());
        let start_ticks = |pid| ProcessStatus::read(pid).map(|status| status.start_ticks);
        file.set(&pids, start_ticks);
    }

    /// Kills all orphans if no call runs: they were left by calls that have ended.
    pub(super) fn kill_when_quiet(&mut self) {
        if self.only_calls && self.has_no_leader() {
            let mut orphans = self.list();
            orphans.retain(|pid| !self.inherited.contains(pid));
            orphans.into_iter().for_each(kill_orphan);
        }
    }
}

/// Returns whether a child is running. Reaps one that has ended.
fn is_there(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

/// Kills an orphan. Must be called under the lock, under which no other process can get its id.
fn kill_orphan(pid: Pid) {
    // Fails when it may not be killed: a program of another user.
    let _result = kill_process(pid, Signal::KILL);
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Child, Command};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn child(argv: [&str; 2]) -> (Child, Pid) {
        let child = Command::new(argv[0]).arg(argv[1]).spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    fn until_zombie(pid: Pid) {
        let begin = Instant::now();
        while !fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ") {
            assert!(begin.elapsed() < Duration::from_secs(30), "it has not ended");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns whether the child is still running after more time than a kill takes.
    fn stays(child: &mut Child) -> bool {
        thread::sleep(Duration::from_millis(100));
        child.try_wait().unwrap().is_none()
    }

    #[test]
    fn orphans_are_reaped_and_leaders_are_not() {
        // A thread of its own has no other children.
        let scenario = || {
            let file = File::open("/proc/thread-self/children").unwrap();
            let mut children = Children::new(file);
            let (mut leader, leader_pid) = child(["false", ""]);
            let (mut orphan, orphan_pid) = child(["true", ""]);
            let (mut alive, alive_pid) = child(["sleep", "60"]);
            children.leaders.insert(leader_pid, CallId::random());
            [leader_pid, orphan_pid].into_iter().for_each(until_zombie);

            children.starting_on_main = 1;
            assert_eq!(children.reap(), [], "any of them may be a leader that has just begun");
            until_zombie(orphan_pid);
            children.starting_on_main = 0;
            assert_eq!(children.reap(), [alive_pid], "the only new one that lives");
            orphan.wait().expect_err("it is reaped");
            assert_eq!(leader.wait().unwrap().code(), Some(1), "it is still to be reaped");
            alive.kill().unwrap();
            alive.wait().unwrap();
        };
        thread::spawn(scenario).join().unwrap();
    }

    #[test]
    fn orphans_of_one_call_are_not_attributed_to_another() {
        let scenario = || {
            let file = File::open("/proc/thread-self/children").unwrap();
            let mut children = Children::new(file);
            let (this, other) = (CallId::random(), CallId::random());
            assert!(!children.may_be_left_by(this) && !children.has_orphans());
            let (mut alive, pid) = child(["sleep", "60"]);
            assert!(children.may_be_left_by(this), "its call is not known");
            children.known.insert(pid, Some(other));
            assert!(!children.may_be_left_by(this) && children.may_be_left_by(other));
            children.known.insert(pid, None);
            assert!(!children.may_be_left_by(this) && children.has_orphans());
            children.known.clear();
            children.inherited.insert(pid);
            assert!(!children.may_be_left_by(this) && !children.has_orphans());

            children.kill(&[this]);
            children.kill_when_quiet();
            assert!(stays(&mut alive), "it belongs to no call");
            children.known.insert(pid, Some(this));
            children.kill(&[other]);
            assert!(stays(&mut alive), "it belongs to another call");
            children.kill(&[this]);
            assert!(!alive.wait().unwrap().success());
        };
        thread::spawn(scenario).join().unwrap();
    }
}
