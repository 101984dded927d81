//! The search for processes that calls have left behind, by the mark in their environment.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::mark::{ServerProcess, read_mark, server_in};
use super::orphans;
use super::reaper::Reaper;
use crate::exec::Survivor;
use crate::model::CallId;
use crate::model::limits::SEARCH_CALLS_MAX;

/// The time after which a killed process that is still there counts as a survivor.
const DEATH_WAIT: Duration = Duration::from_millis(1_000);
/// The most rounds of the search for processes that killed ones have started meanwhile.
const ROUNDS_MAX: usize = 8;
/// The interval of the checks whether killed processes have disappeared.
const DEATH_POLL: Duration = Duration::from_millis(2);

/// The shortest time between the end of a call and the search for what may have outlived it.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest such time, where a search takes long.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The length of a pause, in multiples of the search before it. So these searches take 2 % of one
/// core at most.
const PAUSE_FACTOR: u32 = 50;

/// The sweeps for calls whose descendants may have left the group. A read of all of `/proc` takes
/// long where there are many processes. So there is one at a time, and all calls that wait
/// meanwhile share the next. Calls that do not wait share a later search.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    queue: Mutex<Queue>,
}

/// The calls to search for: at most one entry for each call that is being ended, and a bounded
/// number of calls that have ended.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// `true` while a thread sweeps. It checks the queue again before it ends.
    sweeping: bool,
    /// The calls that have ended, for the next shared search.
    ended: Vec<CallId>,
    /// `true` while a task waits to search for them.
    pausing: bool,
    /// The time at which the next shared search is due.
    next: Option<tokio::time::Instant>,
}

#[derive(Debug)]
struct Waiting {
    call_id: CallId,
    survivors: oneshot::Sender<Vec<Survivor>>,
}

impl Sweeper {
    /// Kills all processes with the mark of a call, on a blocking thread, and sends those that
    /// could not be killed. The sweep continues if the receiver is dropped.
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

    /// Kills all processes with the mark of a call, some time after its end. Returns `false` if too
    /// many calls wait for that already.
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
                // The receiver may be dropped.
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
        // No holder of the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills the processes of calls of a server that has ended, as [`kill_marked`] does. Those whose
/// server is alive are spared: it runs the calls of a store of which this one is a copy.
pub(super) fn kill_leftovers(calls: &[CallId]) -> Vec<(CallId, Survivor)> {
    kill(calls, Servers::Ended)
}

/// Kills every process with the mark of one of these calls, and those that such processes start
/// meanwhile. Returns those that are still there a second after the kill, or may not be killed.
///
/// Blocks. Processes of other users are not found, since their environment cannot be read.
pub(super) fn kill_marked(calls: &[CallId]) -> Vec<(CallId, Survivor)> {
    kill(calls, Servers::All)
}

fn kill(calls: &[CallId], servers: Servers) -> Vec<(CallId, Survivor)> {
    if calls.is_empty() {
        return Vec::new();
    }
    let calls = calls.iter().copied().collect();
    let mut seeker = Seeker { calls, servers, environment: Vec::new() };
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

/// The servers whose processes are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    All,
    /// This one, and those that are not alive.
    Ended,
}

/// A search for marked processes, with one buffer for all environments.
struct Seeker {
    calls: HashSet<CallId>,
    servers: Servers,
    environment: Vec<u8>,
}

impl Seeker {
    /// Returns all marked processes of the machine but this one, which may itself belong to a call
    /// of another server.
    fn find(&mut self) -> Vec<Marked> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let pids = names.filter_map(|name| name.parse().ok().and_then(Pid::from_raw));
        let this = rustix::process::getpid();
        pids.filter(|pid| *pid != this)
            .filter_map(|pid| Some(Marked { pid, call_id: self.mark_of(pid)? }))
            .collect()
    }

    /// Returns the call that a process belongs to, or `None` if it is none of those searched for.
    fn mark_of(&mut self, pid: Pid) -> Option<CallId> {
        let mark = read_mark(pid, &mut self.environment);
        let call_id = mark.filter(|call_id| self.calls.contains(call_id))?;
        let is_spared = self.servers == Servers::Ended
            && server_in(&self.environment).is_some_and(ServerProcess::is_another_alive);
        (!is_spared).then_some(call_id)
    }

    fn is_there(&mut self, marked: Marked) -> bool {
        self.mark_of(marked.pid) == Some(marked.call_id)
    }

    /// Kills a process. Returns `false` if it is there and may not be killed.
    fn kill(&mut self, marked: Marked) -> bool {
        let Ok(pidfd) = pidfd_open(marked.pid, PidfdFlags::empty()) else { return true };
        // The pidfd is bound to one process. If that one carries the mark, no other can be killed,
        // however fast process ids are reused.
        if !self.is_there(marked) {
            return true;
        }
        matches!(pidfd_send_signal(&pidfd, Signal::KILL), Ok(()) | Err(Errno::SRCH))
    }
}
