//! The search for processes that calls have left behind, by the mark in their environment, and their end:
//! those that are found are killed.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::kin::kin_of;
use super::mark::{ServerProcess, read_mark, server_in};
use super::orphans;
use super::reaper::Reaper;
use super::record::Record;
use super::status::ProcessStatus;
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

/// Kills the processes of calls of a server that has ended, as [`kill_marked`] does, and those without a
/// mark that are in its record or akin to any of these. Those whose server is alive are spared: it runs
/// the calls of a store of which this one is a copy.
pub(super) fn kill_leftovers(calls: &[CallId], mut records: Vec<Record>) -> Vec<Survivor> {
    records.retain(|record| !record.processes.is_empty());
    if calls.is_empty() && records.is_empty() {
        return Vec::new();
    }
    let seeker = Seeker::new(calls, Servers::Ended(records));
    kill(seeker).into_iter().map(|(_, survivor)| survivor).collect()
}

/// Kills a process and waits for its end, with a bound, if one of its arguments ends with this text: the
/// id may be of another one meanwhile. Blocks.
pub(super) fn kill_and_wait(pid: Pid, argument_end: &str) {
    // The pidfd is bound to one process. If that one has the argument, no other can be killed.
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_it = line.split(|byte| *byte == 0).any(|word| word.ends_with(argument_end.as_bytes()));
    if is_it && pidfd_send_signal(&pidfd, Signal::KILL).is_ok() {
        wait_for_end(pid);
    }
}

/// Waits for the end of a process, with a bound. Blocks.
pub(super) fn wait_for_end(pid: Pid) {
    let deadline = Instant::now() + DEATH_WAIT;
    while Instant::now() < deadline && ProcessStatus::read(pid).is_some_and(|it| it.is_alive) {
        thread::sleep(DEATH_POLL);
    }
}

/// Returns the calls whose mark is on a process, and whose server has ended.
pub(super) fn leftover_calls() -> Vec<CallId> {
    let mut environment = Vec::new();
    let mut calls: Vec<CallId> = pids()
        .filter_map(|pid| read_mark(pid, &mut environment).filter(|_| !is_of_another(&environment)))
        .collect();
    calls.sort_unstable();
    calls.dedup();
    calls
}

/// Kills every process with the mark of one of these calls, and those that such processes start
/// meanwhile. Returns those that are still there a second after the kill, or may not be killed.
///
/// Blocks. Processes of other users are not found, since their environment cannot be read; nor are other
/// servers, which forbid it, unless this one runs as root.
pub(super) fn kill_marked(calls: &[CallId]) -> Vec<(CallId, Survivor)> {
    match calls {
        [] => Vec::new(),
        calls => kill(Seeker::new(calls, Servers::All)),
    }
}

fn kill(mut seeker: Seeker) -> Vec<(CallId, Survivor)> {
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

/// A process of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marked {
    pid: Pid,
    call_id: CallId,
    /// The time of its start, if it carries no mark itself.
    start_ticks: Option<u64>,
}

/// The call of processes that belong to some call, and nothing shows to which.
const UNKNOWN_CALL: CallId = CallId::from_bytes([0; 16]);

impl Marked {
    fn into_survivor(self) -> (CallId, Survivor) {
        let pid = self.pid.as_raw_pid().unsigned_abs();
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (self.call_id, Survivor { pid, command: command.trim_end().to_owned() })
    }
}

/// The servers whose processes are searched for.
#[derive(Debug, PartialEq, Eq)]
enum Servers {
    All,
    /// This one, and those that are not alive, with their records.
    Ended(Vec<Record>),
}

/// A search for processes of calls, with one buffer for all environments.
struct Seeker {
    calls: HashSet<CallId>,
    servers: Servers,
    environment: Vec<u8>,
}

/// Returns all processes of the machine but this one, which may itself belong to a call of another
/// server.
fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let this = getpid();
    names
        .filter_map(|name| name.parse().ok().and_then(Pid::from_raw))
        .filter(move |pid| *pid != this)
}

/// Returns whether the server in an environment is another one, which is alive.
fn is_of_another(environment: &[u8]) -> bool {
    server_in(environment).is_some_and(ServerProcess::is_another_alive)
}

impl Seeker {
    fn new(calls: &[CallId], servers: Servers) -> Self {
        Self { calls: calls.iter().copied().collect(), servers, environment: Vec::new() }
    }

    fn find(&mut self) -> Vec<Marked> {
        let marked = |pid| {
            let call_id = self.mark_of(pid)?;
            Some(Marked { pid, call_id, start_ticks: None })
        };
        let mut found: Vec<Marked> = pids().filter_map(marked).collect();
        if let Servers::Ended(records) = &self.servers {
            let kin = kin(&found, records, &mut self.environment);
            found.extend(kin);
        }
        found
    }

    /// Returns the call that a process belongs to, or `None` if it is none of those searched for.
    fn mark_of(&mut self, pid: Pid) -> Option<CallId> {
        let mark = read_mark(pid, &mut self.environment);
        let call_id = mark.filter(|call_id| self.calls.contains(call_id))?;
        let is_spared = self.servers != Servers::All && is_of_another(&self.environment);
        (!is_spared).then_some(call_id)
    }

    fn is_there(&mut self, marked: Marked) -> bool {
        match marked.start_ticks {
            None => self.mark_of(marked.pid) == Some(marked.call_id),
            Some(start_ticks) => ProcessStatus::read(marked.pid)
                .is_some_and(|status| status.is_alive && status.start_ticks == start_ticks),
        }
    }

    /// Kills a process. Returns `false` if it is there and may not be killed.
    fn kill(&mut self, marked: Marked) -> bool {
        let Ok(pidfd) = pidfd_open(marked.pid, PidfdFlags::empty()) else { return true };
        // The pidfd is bound to one process. If that one is the one that was found, no other can be
        // killed, however fast process ids are reused.
        if !self.is_there(marked) {
            return true;
        }
        matches!(pidfd_send_signal(&pidfd, Signal::KILL), Ok(()) | Err(Errno::SRCH))
    }
}

/// Returns the processes without a mark that belong to a server that has ended.
fn kin(marked: &[Marked], records: &[Record], environment: &mut Vec<u8>) -> Vec<Marked> {
    if marked.is_empty() && records.is_empty() {
        return Vec::new();
    }
    let number = |pid: Pid| pid.as_raw_pid().unsigned_abs();
    let status = |pid| ProcessStatus::read(pid).filter(|status| status.is_alive);
    let all = pids().filter_map(|pid| Some((number(pid), status(pid)?))).collect();
    let marked = marked.iter().map(|marked| number(marked.pid)).collect();
    let pid_of = |pid: u32| i32::try_from(pid).ok().and_then(Pid::from_raw);
    let is_spared = |pid| {
        let mark = pid_of(pid).and_then(|pid| read_mark(pid, environment));
        mark.is_some() && is_of_another(environment)
    };
    let kin = kin_of(&all, &marked, records, is_spared).into_iter();
    kin.filter_map(|pid| {
        let start_ticks = Some(all.get(&pid)?.start_ticks);
        Some(Marked { pid: pid_of(pid)?, call_id: UNKNOWN_CALL, start_ticks })
    })
    .collect()
}
