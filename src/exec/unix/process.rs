//! The life of one process, event by event: output, a stop, the exit, and the search for what it has left.
//!
//! A stop sends TERM to the group and waits for the grace ([`Process::stop`], `stop_running`); at its end,
//! or at once, `kill` sends KILL.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::leader::Leader;
use super::left_processes::left_by;
use super::output::OutputPipe;
use super::spawn::Spawned;
use super::stdin::StdinPipe;
use super::{ExecutorState, orphans};
use crate::exec::{ExitReport, Process, ProcessEvent, Stop, Survivor, reached};
use crate::model::{CallId, Exit, OutputStream};

/// The time for which pipes are read after all processes that were found are killed. A process that
/// still holds them then was not found.
const SETTLE: Duration = Duration::from_millis(100);

/// The time in which processes of the group may exit that have closed the pipes. Those that are alive
/// then are left behind.
const LEAVE: Duration = Duration::from_millis(50);

/// The bytes that are read from one pipe after a deadline. No pipe holds more, unless an
/// administrator has raised the limit.
const LATE_BYTES_MAX: usize = 1024 * 1024;

/// The phase of a process. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessPhase {
    /// The process runs. The deadline is the end of its grace.
    Running,
    /// The leader has exited and is not reaped. Its group may still write. The deadline is the end
    /// of the drain.
    Draining,
    /// The pipes are closed, and processes of the call are alive. The deadline is for those that are
    /// about to exit.
    Leaving,
    /// The group is dead. A sweep searches for processes that left it.
    Sweeping,
    /// All processes that were found are dead. The deadline is for pipes that are still open.
    Settling,
    /// The last event was returned.
    Done,
}

/// A process that this executor started.
///
/// No state is in the future of [`Process::next`], which may be dropped at any await.
pub(super) struct UnixProcess {
    call_id: CallId,
    shared: Arc<ExecutorState>,
    /// The leader. Dropping it kills the group and reaps the leader.
    leader: Leader,
    stdin: Option<StdinPipe>,
    stdout: OutputPipe,
    stderr: OutputPipe,
    phase: ProcessPhase,
    deadline: Option<Instant>,
    late_bytes: usize,
    sweep: Option<oneshot::Receiver<Vec<Survivor>>>,
    /// `true` if KILL was sent to the group while the process ran.
    killed: bool,
    report: ExitReport,
}

/// The reason for which a waiting process was woken.
enum ProcessWake {
    Readable(OutputStream),
    Writable,
    Exited,
    Swept(Vec<Survivor>),
    Time,
}

/// The next step when there is no output to return.
enum NextStep {
    Look,
    Wait,
    End,
}

impl UnixProcess {
    pub(super) fn new(call_id: CallId, spawned: Spawned, shared: Arc<ExecutorState>) -> Self {
        let Spawned { leader, stdin, stdout, stderr } = spawned;
        Self {
            call_id,
            shared,
            leader,
            stdin,
            stdout,
            stderr,
            phase: ProcessPhase::Running,
            deadline: None,
            late_bytes: 0,
            sweep: None,
            killed: false,
            report: ExitReport {
                exit: Exit::Code(0),
                stopped: false,
                survivors: Vec::new(),
                left: None,
                output_incomplete: false,
            },
        }
    }

    fn begin(&mut self, phase: ProcessPhase, deadline: Option<Instant>) {
        self.phase = phase;
        self.deadline = deadline;
        self.late_bytes = LATE_BYTES_MAX;
    }

    fn is_past_deadline(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Handles a deadline, and decides on the next step.
    fn step(&mut self) -> NextStep {
        let late = self.is_past_deadline();
        match self.phase {
            ProcessPhase::Running => {
                if late {
                    self.kill();
                }
                NextStep::Wait
            }
            ProcessPhase::Draining | ProcessPhase::Settling => {
                let closed = self.stdout.is_closed() && self.stderr.is_closed();
                if !closed && !late {
                    return NextStep::Wait;
                }
                if !closed && self.read_late() {
                    return NextStep::Look;
                }
                self.end_reading(closed)
            }
            ProcessPhase::Leaving if late => {
                self.end_group();
                NextStep::Look
            }
            ProcessPhase::Leaving | ProcessPhase::Sweeping | ProcessPhase::Done => NextStep::Wait,
        }
    }

    fn end_reading(&mut self, closed: bool) -> NextStep {
        if self.phase == ProcessPhase::Settling {
            self.report.output_incomplete |= !closed;
            return NextStep::End;
        }
        // A process that was stopped is read once more after the sweep.
        self.report.output_incomplete = !closed && !self.report.stopped;
        if closed && !self.report.stopped && left_by(self.call_id, self.leader.pid()).is_some() {
            self.begin(ProcessPhase::Leaving, Some(Instant::now() + LEAVE));
        } else {
            self.end_group();
        }
        NextStep::Look
    }

    /// Reads the bytes that were in the pipes at a deadline. A slow caller gets output later, but
    /// not less of it. Returns whether there may be output to return.
    fn read_late(&mut self) -> bool {
        if self.late_bytes == 0 {
            return false;
        }
        let bytes_max = self.shared.options.chunk_bytes_max;
        let count = self.stdout.read_now(bytes_max) + self.stderr.read_now(bytes_max);
        self.late_bytes = self.late_bytes.saturating_sub(count);
        count > 0 || (self.stdout.is_closed() && self.stderr.is_closed())
    }

    fn drain(&mut self, exit: Exit) {
        let now = Instant::now();
        self.report.exit = exit;
        let grace = if self.killed { Some(now) } else { self.deadline };
        let drain = now.checked_add(self.shared.options.drain);
        self.begin(ProcessPhase::Draining, [grace, drain].into_iter().flatten().min());
    }

    fn kill(&mut self) {
        self.killed = true;
        self.deadline = None;
        self.leader.signal_group(Signal::KILL);
    }

    /// Kills the rest of the group, and reaps its leader. A sweep for processes that left the group
    /// is awaited only if there is a reason: it costs a read of all of `/proc`.
    fn end_group(&mut self) {
        if !self.report.stopped {
            self.report.left = left_by(self.call_id, self.leader.pid());
        }
        self.leader.signal_group(Signal::KILL);
        self.leader.reap();
        self.stdin = None;
        if self.report.stopped || self.report.output_incomplete || self.may_have_left_more() {
            let runtime = &self.leader.reaper().runtime;
            self.sweep = Some(self.shared.sweeper.sweep(runtime, self.call_id));
            self.begin(ProcessPhase::Sweeping, None);
        } else {
            self.begin(ProcessPhase::Settling, None);
        }
    }

    /// Returns whether to wait for a sweep. If it is not known whether there are descendants, a
    /// later sweep searches for them.
    fn may_have_left_more(&self) -> bool {
        orphans::may_be_left_by(self.call_id).unwrap_or_else(|| !self.sweep_later())
    }

    fn sweep_later(&self) -> bool {
        self.shared.sweeper.sweep_later(self.leader.reaper(), self.call_id)
    }

    /// Returns a piece of output that is due, or `None` if there is none.
    fn due_output(&mut self) -> Option<ProcessEvent> {
        let pipes = [&self.stdout, &self.stderr];
        if pipes.iter().all(|pipe| pipe.since().is_none()) {
            return None;
        }
        let options = self.shared.options;
        let now = Instant::now();
        let is_due = |pipe: &&OutputPipe| {
            pipe.is_ripe(options.chunk_bytes_max)
                || pipe.due(options.chunk_delay).is_some_and(|due| due <= now)
        };
        if pipes.iter().any(is_due) { self.oldest_output() } else { None }
    }

    /// Returns the piece whose first byte was read first, due or not, so that both streams together
    /// stay in the order of arrival as far as it is known.
    fn oldest_output(&mut self) -> Option<ProcessEvent> {
        let (stream, pipe) = match (self.stdout.since(), self.stderr.since()) {
            (None, None) => return None,
            (Some(out), Some(err)) if err < out => (OutputStream::Stderr, &mut self.stderr),
            (None, Some(_)) => (OutputStream::Stderr, &mut self.stderr),
            (Some(_), _) => (OutputStream::Stdout, &mut self.stdout),
        };
        let data = pipe.take(self.shared.options.chunk_bytes_max);
        Some(ProcessEvent::Output { stream, data })
    }

    /// Returns the last event, or output that must come before it.
    fn end(&mut self) -> ProcessEvent {
        self.oldest_output().unwrap_or_else(|| {
            self.begin(ProcessPhase::Done, None);
            ProcessEvent::Exited(self.report.clone())
        })
    }

    async fn wait(&mut self) -> ProcessWake {
        let Self { leader, stdin, stdout, stderr, sweep, phase, deadline, shared, .. } = self;
        let delay = shared.options.chunk_delay;
        let times = [stdout.due(delay), stderr.due(delay), *deadline];
        let time = times.into_iter().flatten().min();
        tokio::select! {
            () = stdout.readable() => ProcessWake::Readable(OutputStream::Stdout),
            () = stderr.readable() => ProcessWake::Readable(OutputStream::Stderr),
            () = writable(stdin.as_ref()) => ProcessWake::Writable,
            () = leader.exited(), if *phase == ProcessPhase::Running => ProcessWake::Exited,
            survivors = swept(sweep.as_mut()) => ProcessWake::Swept(survivors),
            () = reached(time) => ProcessWake::Time,
        }
    }

    fn handle(&mut self, wake: ProcessWake) {
        let bytes_max = self.shared.options.chunk_bytes_max;
        match wake {
            ProcessWake::Readable(OutputStream::Stdout) => _ = self.stdout.read(bytes_max),
            ProcessWake::Readable(OutputStream::Stderr) => _ = self.stderr.read(bytes_max),
            ProcessWake::Writable => self.stdin = self.stdin.take().and_then(StdinPipe::write),
            ProcessWake::Exited => {
                if let Some(exit) = self.leader.exit() {
                    self.drain(exit);
                }
            }
            ProcessWake::Swept(survivors) => {
                self.sweep = None;
                self.report.survivors = survivors;
                self.begin(ProcessPhase::Settling, Some(Instant::now() + SETTLE));
            }
            ProcessWake::Time => {}
        }
    }

    /// Stops a process that is not known to have exited.
    fn stop_running(&mut self, stop: Stop) {
        let first = !self.report.stopped;
        self.report.stopped = true;
        match stop {
            _ if self.killed => {}
            Stop::Kill => self.kill(),
            Stop::Graceful(grace) => {
                if first {
                    self.leader.signal_group(Signal::TERM);
                }
                self.shorten_deadline(grace);
            }
        }
    }

    fn shorten_deadline(&mut self, span: Duration) {
        let deadline = Instant::now().checked_add(span);
        self.deadline = [self.deadline, deadline].into_iter().flatten().min();
    }
}

#[async_trait]
impl Process for UnixProcess {
    fn pid(&self) -> u32 {
        self.leader.pid()
    }

    async fn next(&mut self) -> ProcessEvent {
        loop {
            if let Some(output) = self.due_output() {
                return output;
            }
            match self.step() {
                NextStep::Look => {}
                NextStep::End => return self.end(),
                NextStep::Wait => {
                    let wake = self.wait().await;
                    self.handle(wake);
                }
            }
        }
    }

    fn stop(&mut self, stop: Stop) {
        if self.phase == ProcessPhase::Running
            && !self.report.stopped
            && let Some(exit) = self.leader.exit()
        {
            self.drain(exit);
        }
        match (self.phase, stop) {
            (ProcessPhase::Running, _) => self.stop_running(stop),
            (ProcessPhase::Draining | ProcessPhase::Leaving, Stop::Graceful(grace)) => {
                self.shorten_deadline(grace)
            }
            (ProcessPhase::Draining | ProcessPhase::Leaving, Stop::Kill) => {
                self.shorten_deadline(Duration::ZERO)
            }
            (ProcessPhase::Sweeping | ProcessPhase::Settling | ProcessPhase::Done, _) => {}
        }
    }
}

impl Drop for UnixProcess {
    fn drop(&mut self) {
        if matches!(
            self.phase,
            ProcessPhase::Running | ProcessPhase::Draining | ProcessPhase::Leaving
        ) {
            // The queue is full only if calls end faster than a sweep can search.
            let _queued = self.sweep_later();
        }
    }
}

async fn writable(stdin: Option<&StdinPipe>) {
    match stdin {
        Some(stdin) => stdin.writable().await,
        None => pending().await,
    }
}

/// Waits for the survivors of a sweep. There are none if the runtime is shutting down.
async fn swept(sweep: Option<&mut oneshot::Receiver<Vec<Survivor>>>) -> Vec<Survivor> {
    match sweep {
        Some(sweep) => sweep.await.unwrap_or_default(),
        None => pending().await,
    }
}
