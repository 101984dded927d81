//! Finding and killing what a call has left behind, by the mark in its environment.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::leader::Reaper;
use super::orphans;
use super::spawn::MARK;
use crate::exec::Survivor;
use crate::model::CallId;
use crate::model::limits::SEARCH_CALLS_MAX;

/// How long killed processes get to disappear before they count as survivors.
const DEATH_WAIT: Duration = Duration::from_millis(1_000);
/// How many times it is looked for processes that the killed ones started meanwhile.
const ROUNDS_MAX: usize = 8;
/// How often it is looked whether the killed ones have disappeared.
const DEATH_POLL: Duration = Duration::from_millis(2);

/// How long after the end of a call it is looked for what may have outlived it, at least.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The same where a search takes long.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A pause is so many times as long as the search before it: searches for calls that nothing is
/// known of take 2 % of one core at most.
const PAUSE_FACTOR: u32 = 50;

/// Sweeps for calls whose descendants may have left the group. A read of all of `/proc` takes long
/// where there are many processes, so there is one at a time, and all calls that wait meanwhile
/// share the next. Calls that don't wait share a search that comes now and then.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    queue: Mutex<Queue>,
}

/// At most one entry for each call that is being ended, and a bounded number that have ended.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// A thread is at work and will look here again before it ends.
    sweeping: bool,
    /// Calls that have ended, to be searched for together.
    ended: Vec<CallId>,
    /// A task will search for those.
    pausing: bool,
    /// When the next search for those is due.
    next: Option<tokio::time::Instant>,
}

#[derive(Debug)]
struct Waiting {
    call_id: CallId,
    survivors: oneshot::Sender<Vec<Survivor>>,
}

impl Sweeper {
    /// Kills all that carries this call's mark, on a blocking thread. The answer is what could not
    /// be killed. Not waiting for it doesn't stop the sweep.
    pub(super) fn sweep(
        self: &Arc<Self>,
        runtime: &Handle,
        call_id: CallId,
    ) -> oneshot::Receiver<Vec<Survivor>> {
        let (survivors, answer) = oneshot::channel();
        let mut queue = self.lock();
        queue.waiting.push(Waiting { call_id, survivors });
        if !queue.sweeping {
            queue.sweeping = true;
            let sweeper = Arc::clone(self);
            runtime.spawn_blocking(move || sweeper.run());
        }
        answer
    }

    /// Kills all that carries the mark of this call, some time after its end. Returns false when
    /// too many calls wait for that already.
    pub(super) fn sweep_later(self: &Arc<Self>, reaper: &Reaper, call_id: CallId) -> bool {
        let mut queue = self.lock();
        if queue.ended.len() >= SEARCH_CALLS_MAX {
            return false;
        }
        queue.ended.push(call_id);
        if std::mem::replace(&mut queue.pausing, true) {
            return true;
        }
        let soon = tokio::time::Instant::now() + PAUSE_MIN;
        let time = queue.next.map_or(soon, |next| next.max(soon));
        let (sweeper, own) = (Arc::clone(self), reaper.clone());
        let task = async move {
            own.closing.run_until_cancelled(sleep_until(time)).await;
            // It fails only while the runtime is shutting down.
            let _result = own.runtime.spawn_blocking(move || sweeper.sweep_ended()).await;
        };
        reaper.tasks.spawn_on(task, &reaper.runtime);
        true
    }

    fn sweep_ended(&self) {
        let calls = {
            let mut queue = self.lock();
            queue.pausing = false;
            std::mem::take(&mut queue.ended)
        };
        let begin = Instant::now();
        kill_marked(&calls);
        let pause = (begin.elapsed() * PAUSE_FACTOR).min(PAUSE_MAX);
        self.lock().next = Some(tokio::time::Instant::now() + pause);
    }

    fn run(&self) {
        while let Some(batch) = self.next_batch() {
            let calls: Vec<CallId> = batch.iter().map(|waiting| waiting.call_id).collect();
            let survivors = kill_marked(&calls);
            orphans::kill(&calls);
            for Waiting { call_id, survivors: answer } in batch {
                let own = survivors.iter().filter(|(of, _)| *of == call_id);
                // Who asked may be gone.
                let _result = answer.send(own.map(|(_, survivor)| survivor.clone()).collect());
            }
        }
    }

    fn next_batch(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.lock();
        queue.sweeping = !queue.waiting.is_empty();
        queue.sweeping.then(|| std::mem::take(&mut queue.waiting))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that holds the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills every process that carries the mark of one of these calls, and those that such processes
/// start meanwhile. Returns what is still there a second after the kill, or may not be killed.
///
/// Blocks. Processes of other users, whose environment can't be read, are not seen.
pub(super) fn kill_marked(calls: &[CallId]) -> Vec<(CallId, Survivor)> {
    if calls.is_empty() {
        return Vec::new();
    }
    let mut seeker = Seeker { calls: calls.iter().copied().collect(), environment: Vec::new() };
    let mut refused = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let mut dying = seeker.find();
        dying.retain(|marked| !refused.contains(marked));
        if dying.is_empty() {
            return survivors(refused);
        }
        dying.retain(|marked| {
            let killed = seeker.kill(*marked);
            if !killed {
                refused.push(*marked);
            }
            killed
        });
        let deadline = Instant::now() + DEATH_WAIT;
        while !dying.is_empty() && Instant::now() < deadline {
            thread::sleep(DEATH_POLL);
            dying.retain(|marked| seeker.is_there(*marked));
        }
        if !dying.is_empty() {
            refused.append(&mut dying);
            return survivors(refused);
        }
    }
    survivors(seeker.find())
}

fn survivors(marked: Vec<Marked>) -> Vec<(CallId, Survivor)> {
    marked.into_iter().map(Marked::into_survivor).collect()
}

/// A process that carries the mark of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marked {
    pid: Pid,
    call_id: CallId,
}

impl Marked {
    fn into_survivor(self) -> (CallId, Survivor) {
        let pid = self.pid.as_raw_pid().unsigned_abs();
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (self.call_id, Survivor { pid, command: command.trim_end().to_owned() })
    }
}

/// Reads environments, with one buffer for all of them.
struct Seeker {
    calls: HashSet<CallId>,
    environment: Vec<u8>,
}

impl Seeker {
    /// All marked processes of the machine but this one, which may itself be the work of another
    /// server's call.
    fn find(&mut self) -> Vec<Marked> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let pids = names.filter_map(|name| name.parse().ok().and_then(Pid::from_raw));
        let this = rustix::process::getpid();
        pids.filter(|pid| *pid != this)
            .filter_map(|pid| Some(Marked { pid, call_id: self.mark_of(pid)? }))
            .collect()
    }

    /// The call that this process belongs to, if it is one of those that are looked for.
    fn mark_of(&mut self, pid: Pid) -> Option<CallId> {
        read_mark(pid, &mut self.environment).filter(|call_id| self.calls.contains(call_id))
    }

    fn is_there(&mut self, marked: Marked) -> bool {
        self.mark_of(marked.pid) == Some(marked.call_id)
    }

    /// Returns false when the process is there and may not be killed.
    fn kill(&mut self, marked: Marked) -> bool {
        let Ok(pidfd) = pidfd_open(marked.pid, PidfdFlags::empty()) else { return true };
        // The pidfd is bound to one process: if that one carries the mark, no other can be hit,
        // however fast process ids are reused.
        if !self.is_there(marked) {
            return true;
        }
        matches!(pidfd_send_signal(&pidfd, Signal::KILL), Ok(()) | Err(Errno::SRCH))
    }
}

/// The call whose mark this process carries. Dead processes have no environment any more, also
/// while nobody has reaped them.
pub(super) fn read_mark(pid: Pid, environment: &mut Vec<u8>) -> Option<CallId> {
    environment.clear();
    let mut file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.read_to_end(environment).ok()?;
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}
