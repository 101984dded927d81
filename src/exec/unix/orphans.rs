//! Orphans: descendants of calls whose own parent has ended, and that this program has adopted.
//!
//! While a call has any descendant, one of them is a child of this program: the leader or an
//! orphan. So one small file shows whether a call has left a process behind.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid, kill_process, set_child_subreaper,
    waitid,
};

use super::mark::read_mark;
use super::reaper::Reaper;
use crate::model::CallId;

/// The interval of the checks for orphans that have ended, while there is a call or an orphan.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The number and the interval of the checks for the last orphans.
const LAST_CHECKS: usize = 100;
const LAST_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The orphans of the whole program, as children belong to the program.
static ORPHANS: OnceLock<Orphans> = OnceLock::new();

/// Makes this program the parent of every descendant that loses its own, and reaps all of its
/// children. Only for a program that starts processes for calls only and waits for no others: their
/// exit status would be lost.
///
/// Call it once, early, on the main thread. It does nothing where the kernel does not list the
/// children of a process (`CONFIG_PROC_CHILDREN`).
pub fn adopt_orphans() {
    let pid = getpid();
    let path = format!("/proc/self/task/{pid}/children");
    let Ok(file) = File::open(path) else { return };
    if set_child_subreaper(Some(pid)).is_err() {
        return;
    }
    let mut children = Children::new(file);
    let inherited: HashSet<Pid> = children.list().into_iter().collect();
    // The first process of a container adopts the orphans of all others in it.
    children.only_calls = pid != Pid::INIT && inherited.is_empty();
    children.inherited = inherited;
    let main = thread::current().id();
    let orphans = Orphans { children: Mutex::new(children), checking: Mutex::default(), main };
    // It fails if another call was first.
    let _result = ORPHANS.set(orphans);
}

/// Starts the leader of a group with `spawn`.
pub(super) fn start(
    spawn: impl FnOnce() -> io::Result<Pid>,
    call_id: CallId,
    reaper: &Reaper,
) -> io::Result<Pid> {
    match ORPHANS.get() {
        Some(orphans) => orphans.start(spawn, call_id, reaper),
        None => spawn(),
    }
}

/// Waits for a leader. Once it is reaped, another process may get its id.
pub(super) fn wait_for_leader(
    pid: Pid,
    options: WaitIdOptions,
) -> rustix::io::Result<Option<WaitIdStatus>> {
    let Some(orphans) = ORPHANS.get() else { return waitid(WaitId::Pid(pid), options) };
    // Under the lock, so that the next owner of the id is not taken for this leader.
    let mut children = orphans.lock();
    let status = waitid(WaitId::Pid(pid), options);
    let is_there = matches!(status, Ok(None)) || options.contains(WaitIdOptions::NOWAIT);
    if !is_there {
        children.leaders.remove(&pid);
    }
    status
}

/// Returns whether a call whose leader is reaped may have left processes behind, or `None` if only
/// a read of all of `/proc` can show that.
pub(super) fn may_be_left_by(call_id: CallId) -> Option<bool> {
    ORPHANS.get().map(|orphans| orphans.lock().may_be_left_by(call_id))
}

/// Returns the orphans that may belong to the call. None are known before [`adopt_orphans`].
pub(super) fn candidates_of(call_id: CallId) -> Vec<Pid> {
    let orphans = ORPHANS.get().map(|orphans| orphans.lock().candidates_of(call_id));
    orphans.unwrap_or_default()
}

/// Kills the orphans of these calls, also those that have removed the mark, and reaps those that
/// have ended. Blocks.
pub(super) fn kill(calls: &[CallId]) {
    if let Some(orphans) = ORPHANS.get() {
        orphans.lock().kill(calls);
        orphans.check();
    }
}

/// Waits until the last orphans are gone, with a bound. Blocks.
pub(super) fn wait_until_gone() {
    let Some(orphans) = ORPHANS.get() else { return };
    for _ in 0..LAST_CHECKS {
        if !orphans.lock().has_orphans() {
            break;
        }
        orphans.check();
        thread::sleep(LAST_CHECK_INTERVAL);
    }
}

#[derive(Debug)]
struct Orphans {
    children: Mutex<Children>,
    /// Locked for a whole check. Orphans are reaped only under this lock, so the id of one that was
    /// seen stays its own meanwhile.
    checking: Mutex<()>,
    /// The main thread. Orphans are its children. Children of other threads become its own only
    /// when those threads end.
    main: ThreadId,
}

impl Orphans {
    fn lock(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(
        &self,
        spawn: impl FnOnce() -> io::Result<Pid>,
        call_id: CallId,
        reaper: &Reaper,
    ) -> io::Result<Pid> {
        let on_main = usize::from(thread::current().id() == self.main);
        {
            let mut children = self.lock();
            children.starting += 1;
            children.starting_on_main += on_main;
        }
        let leader = spawn();
        let mut children = self.lock();
        children.starting -= 1;
        children.starting_on_main -= on_main;
        if let Ok(leader) = &leader {
            children.leaders.insert(*leader, call_id);
        }
        if !std::mem::replace(&mut children.watched, true) {
            reaper.tasks.spawn_on(watch(reaper.clone()), &reaper.runtime);
        }
        leader
    }

    /// Reaps the orphans that have ended, reads the marks of the others, and kills those that
    /// cannot belong to a running call. Blocks while it reads environments.
    fn check(&self) {
        let _guard = self.checking.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.lock().reap();
        let mut environment = Vec::new();
        let marks = new.into_iter().map(|pid| (pid, read_mark(pid, &mut environment)));
        let marks: Vec<_> = marks.collect();
        let mut children = self.lock();
        children.known.extend(marks);
        children.kill_when_quiet();
    }
}

/// Checks the orphans at an interval, until there are neither calls nor orphans.
async fn watch(reaper: Reaper) {
    let Some(orphans) = ORPHANS.get() else { return };
    loop {
        let pause = tokio::time::sleep(CHECK_INTERVAL);
        let stopped = reaper.closing.run_until_cancelled(pause).await.is_none();
        let has_orphans = {
            let mut children = orphans.lock();
            let has_orphans = children.has_orphans();
            let idle = !has_orphans && children.leaders.is_empty() && children.starting == 0;
            children.watched = !(idle || stopped);
            if !children.watched {
                return;
            }
            has_orphans
        };
        if has_orphans {
            let checking = reaper.runtime.spawn_blocking(|| orphans.check());
            // It fails only while the runtime is shutting down.
            let _result = checking.await;
        }
    }
}

/// The children of this program.
#[derive(Debug)]
struct Children {
    /// The file with the ids of the main thread's children. No entry is removed while the lock is
    /// held, so that a read of it is consistent.
    file: File,
    text: String,
    leaders: HashMap<Pid, CallId>,
    /// The number of leaders that may have started and are not among the `leaders` yet.
    starting: usize,
    starting_on_main: usize,
    /// The orphans that were seen alive, with the call whose mark they carry. One without a mark
    /// may belong to any call.
    known: HashMap<Pid, Option<CallId>>,
    /// The children that the program started which this process was before it became callpark.
    inherited: HashSet<Pid>,
    /// `true` if every orphan belongs to a call.
    only_calls: bool,
    /// `true` while a task checks the orphans.
    watched: bool,
}

impl Children {
    fn new(file: File) -> Self {
        Self {
            file,
            text: String::new(),
            leaders: HashMap::new(),
            starting: 0,
            starting_on_main: 0,
            known: HashMap::new(),
            inherited: HashSet::new(),
            only_calls: false,
            watched: false,
        }
    }

    /// Returns the children of the main thread.
    fn list(&mut self) -> Vec<Pid> {
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

    fn has_orphans(&mut self) -> bool {
        self.list_orphans().iter().any(|pid| !self.inherited.contains(pid))
    }

    fn may_be_left_by(&mut self, call_id: CallId) -> bool {
        !self.candidates_of(call_id).is_empty()
    }

    /// Returns the orphans that may belong to the call.
    fn candidates_of(&mut self, call_id: CallId) -> Vec<Pid> {
        let mut pids = self.list_orphans();
        pids.retain(|pid| match self.known.get(pid) {
            Some(mark) => *mark == Some(call_id),
            None => !self.inherited.contains(pid),
        });
        pids
    }

    /// Reaps the orphans that have ended. Returns the live ones that were not known.
    fn reap(&mut self) -> Vec<Pid> {
        if self.starting_on_main > 0 {
            return Vec::new();
        }
        let mut orphans = self.list_orphans();
        orphans.retain(|pid| {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let is_there = matches!(waitid(WaitId::Pid(*pid), options), Ok(None));
            if !is_there {
                self.known.remove(pid);
                self.inherited.remove(pid);
            }
            is_there && !self.known.contains_key(pid) && !self.inherited.contains(pid)
        });
        orphans
    }

    fn kill(&mut self, calls: &[CallId]) {
        let is_theirs = |mark: &Option<CallId>| mark.is_some_and(|mark| calls.contains(&mark));
        let theirs = self.known.iter().filter(|(_, mark)| is_theirs(mark));
        theirs.for_each(|(pid, _)| kill_orphan(*pid));
    }

    /// Kills all children if no call runs: they were left by calls that have ended.
    fn kill_when_quiet(&mut self) {
        if self.only_calls && self.leaders.is_empty() && self.starting == 0 {
            self.list().into_iter().for_each(kill_orphan);
        }
    }
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
    use std::time::Instant;

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
