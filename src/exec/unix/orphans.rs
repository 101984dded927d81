//! Orphans: descendants of calls whose own parent has ended, and that this program has adopted.
//!
//! While a call has any descendant, one of them is a child of this program: the leader or an
//! orphan. So one small file shows whether a call has left a process behind.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitIdStatus, getpid, set_child_subreaper, waitid,
};
use tokio::signal::unix::{SignalKind, signal};

use super::children::Children;
use super::mark::read_mark;
use super::reaper::Reaper;
use super::record::RecordFile;
use crate::model::CallId;

/// The interval of the looks at the children, while there is a call or an orphan. An orphan without a
/// mark that is younger is not in the record.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The longest such interval, where a look takes long.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// The length of the interval, in multiples of the look before it.
const CHECK_FACTOR: u32 = 50;

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
    let (children, record) = (Mutex::new(children), Mutex::default());
    let orphans = Orphans { children, checking: Mutex::default(), record, main };
    // It fails if another call was first.
    let _result = ORPHANS.set(orphans);
}

/// Records the leaders and orphans of calls in a file of this folder from now on. Does nothing before
/// [`adopt_orphans`].
pub(super) fn record_in(folder: &Path) {
    if let Some(orphans) = ORPHANS.get() {
        *lock(&orphans.record) = Some(RecordFile::new(folder));
    }
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

/// Starts a program that belongs to no call and outlives this one.
pub(super) fn start_apart(spawn: impl FnOnce() -> io::Result<Pid>) -> io::Result<()> {
    match ORPHANS.get() {
        Some(orphans) => orphans.start_apart(spawn),
        None => spawn().map(|_| ()),
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
        children.remove_leader(pid);
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

/// Reaps the orphans that have ended whenever a child of this program does, also while it runs no call
/// itself: the first process of a container gets the orphans of all others. Does nothing before
/// [`adopt_orphans`].
pub(super) fn reap_always(reaper: Reaper) {
    let Some(orphans) = ORPHANS.get() else { return };
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!(%error, "ends of children are not noticed: some may stay as zombies");
            return;
        }
    };
    let (tasks, runtime) = (reaper.tasks.clone(), reaper.runtime.clone());
    let reap = async move {
        loop {
            let checking = reaper.runtime.spawn_blocking(|| orphans.check());
            // It fails only while the runtime is shutting down.
            let _result = checking.await;
            // Those that end at about the same time are reaped together.
            let next = async {
                tokio::time::sleep(CHECK_INTERVAL).await;
                ended.recv().await
            };
            if reaper.closing.run_until_cancelled(next).await.flatten().is_none() {
                return;
            }
        }
    };
    tasks.spawn_on(reap, &runtime);
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
    /// The record, if there is a folder for it.
    record: Mutex<Option<RecordFile>>,
    /// The main thread. Orphans are its children. Children of other threads become its own only
    /// when those threads end.
    main: ThreadId,
}

impl Orphans {
    fn lock(&self) -> MutexGuard<'_, Children> {
        lock(&self.children)
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
            children.add_leader(*leader, call_id);
        }
        if !std::mem::replace(&mut children.watched, true) {
            reaper.tasks.spawn_on(watch(reaper.clone()), &reaper.runtime);
        }
        leader
    }

    /// Starts a child that is spared like those that this process has inherited.
    fn start_apart(&self, spawn: impl FnOnce() -> io::Result<Pid>) -> io::Result<()> {
        // While it may be starting, no child is taken for an orphan.
        let on_main = usize::from(thread::current().id() == self.main);
        {
            let mut children = self.lock();
            children.starting += 1;
            children.starting_on_main += on_main;
        }
        let started = spawn();
        let mut children = self.lock();
        children.starting -= 1;
        children.starting_on_main -= on_main;
        children.inherited.insert(started?);
        Ok(())
    }

    /// Reaps the orphans that have ended, reads the marks of the others, and kills those that
    /// cannot belong to a running call. Blocks while it reads environments.
    fn check(&self) {
        let _guard = lock(&self.checking);
        let new = self.lock().reap();
        let mut environment = Vec::new();
        let marks = new.into_iter().map(|pid| (pid, read_mark(pid, &mut environment)));
        let marks: Vec<_> = marks.collect();
        let mut children = self.lock();
        children.known.extend(marks);
        children.kill_when_quiet();
        if let Some(record) = lock(&self.record).as_mut() {
            children.record_in(record);
            drop(children);
            record.write();
        }
    }

    /// Returns whether the record is to be written although nothing has changed. It does not wait for a
    /// write that is under way.
    fn is_record_old(&self) -> bool {
        self.record.try_lock().is_ok_and(|record| record.as_ref().is_some_and(RecordFile::is_old))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No holder leaves what it guards half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks the orphans whenever the children have changed, until there are neither calls nor orphans.
async fn watch(reaper: Reaper) {
    let Some(orphans) = ORPHANS.get() else { return };
    let mut interval = CHECK_INTERVAL;
    loop {
        let pause = tokio::time::sleep(interval);
        let stopped = reaper.closing.run_until_cancelled(pause).await.is_none();
        let begin = Instant::now();
        let (is_due, is_watched) = {
            let mut children = orphans.lock();
            let (has_changed, has_orphans) = (children.have_changed(), children.has_orphans());
            let idle = !has_orphans && children.has_no_leader();
            children.watched = !(idle || stopped);
            // Orphans that have ended are still among the children.
            (has_changed || has_orphans, children.watched)
        };
        if is_due || orphans.is_record_old() || !is_watched {
            let checking = reaper.runtime.spawn_blocking(|| orphans.check());
            // It fails only while the runtime is shutting down.
            let _result = checking.await;
        }
        if !is_watched {
            return;
        }
        interval = (begin.elapsed() * CHECK_FACTOR).clamp(CHECK_INTERVAL, CHECK_INTERVAL_MAX);
    }
}
