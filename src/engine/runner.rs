//! One run of a call: its process, or its code inside the server, becomes commands in the inbox
//! of its session.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;

use super::Shared;
use super::depth::flattened;
use super::handle::sleep_until;
use super::inbox::Message;
use super::output::OutputKeeper;
use crate::exec::{ExitReport, Process, ProcessEvent, Stop};
use crate::machine::{Command, Finish};
use crate::model::{
    CallId, OutputStream, OutputSummary, ProcessSpec, Progress, StreamSummary, Survivor, ToolResult,
};
use crate::tool::{InProcess, ToolContext, Work, WorkEvent, WorkReport};

/// Reports of code inside the server that wait for the log. A tool that reports faster waits.
const WORK_REPORTS_MAX: usize = 16;

/// How long a report may take once the server stops.
const LAST_REPORT: Duration = Duration::from_secs(1);

/// One run of a call.
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) call_id: CallId,
    pub(super) max_output_bytes: u64,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) reports: mpsc::Sender<Message>,
    pub(super) control: watch::Receiver<Option<Stop>>,
    /// Its place among the running calls, free again when the run ends.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// When the last sign of life was told that isn't in the log.
    pub(super) told_alive: Option<Instant>,
}

impl Attempt {
    /// Runs the work and reports its end, whatever happens.
    pub(super) async fn run(mut self, work: Box<Work>) {
        let running = self.shared.metrics.running_call();
        let run = async {
            match *work {
                Work::Process(spec) => self.run_process(spec).await,
                Work::InProcess(code) => self.run_in_process(code).await,
                Work::Followed(events) => self.run_elsewhere(events).await,
            }
        };
        let finish = match AssertUnwindSafe(run).catch_unwind().await {
            Ok(finish) => finish,
            Err(_) => Some(self.failed("the tool's code in the server broke: see the log".into())),
        };
        drop(running);
        drop(self.slot.take());
        if let Some(mut finish) = finish {
            finish.result = flattened(finish.result);
            self.report(Command::Finish(Box::new(finish))).boxed().await;
        }
    }

    /// None: the server stops, and the call stays unfinished in its record, to be LOST when the
    /// next one starts.
    async fn run_process(&mut self, spec: ProcessSpec) -> Option<Finish> {
        let mut process = match self.shared.executor.start(self.call_id, spec) {
            Ok(process) => process,
            Err(error) => return Some(self.failed(error.to_string())),
        };
        let mut keeper = OutputKeeper::new(self.max_output_bytes);
        let report = self.follow(process.as_mut(), &mut keeper).await?;
        for output in keeper.finish() {
            self.report(Command::Output { call_id: self.call_id, output }).boxed().await;
        }
        let summary = OutputSummary { incomplete: report.output_cut, ..keeper.summary() };
        let StreamSummary { kept_bytes, dropped_bytes, .. } = summary.combined;
        self.shared.metrics.output(kept_bytes, dropped_bytes);
        let result = ToolResult {
            content: keeper.content(),
            is_error: !report.exit.is_success(),
            exit: Some(report.exit),
            output: summary,
            ..ToolResult::default()
        };
        let survivor = |survivor: crate::exec::Survivor| Survivor {
            pid: survivor.pid,
            command: survivor.command,
        };
        let survivors = report.survivors.into_iter().map(survivor).collect();
        Some(Finish { call_id: self.call_id, result, stopped: report.stopped, survivors })
    }

    /// Reads the process to its end. While the log takes no more, the process isn't read, and
    /// blocks; but one that is to stop is read on, or it could not come to its end.
    async fn follow(
        &mut self,
        process: &mut dyn Process,
        keeper: &mut OutputKeeper,
    ) -> Option<ExitReport> {
        let stopping = self.shared.stopping.clone();
        let reports = self.reports.clone();
        let (mut leaving, mut stopped) = (false, false);
        // What the log has no room for yet.
        let mut held: Option<Command> = None;
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled(), if !leaving => {
                    (leaving, stopped) = (true, true);
                    process.stop(Stop::Graceful(self.shared.options.stop_grace));
                }
                changed = self.control.changed(), if !leaving => match changed {
                    Ok(()) => if let Some(stop) = *self.control.borrow_and_update() {
                        stopped = true;
                        process.stop(stop);
                    },
                    // The actor broke: the next one takes the call for lost, so it must be.
                    Err(_) => {
                        (leaving, stopped) = (true, true);
                        process.stop(Stop::Kill);
                    }
                },
                place = reports.reserve(), if held.is_some() => match (place, held.take()) {
                    (Ok(place), Some(command)) => place.send(Message::Report(command)),
                    // As above.
                    _ => {
                        (leaving, stopped) = (true, true);
                        process.stop(Stop::Kill);
                    }
                },
                event = process.next(), if held.is_none() || stopped => match event {
                    ProcessEvent::Exited(_) if leaving => return None,
                    ProcessEvent::Exited(report) => {
                        if let Some(command) = held {
                            // On the heap, as all that comes after the run: a run that goes on
                            // for hours holds no room for it.
                            self.report(command).boxed().await;
                        }
                        return Some(report);
                    }
                    ProcessEvent::Output { stream, data } => {
                        if held.is_some() {
                            keeper.end_head();
                        }
                        let kept = self.keep(keeper, stream, data);
                        held = held.or(kept);
                    }
                }
            }
        }
    }

    /// What the log must be told of a piece of output, if anything.
    fn keep(
        &mut self,
        keeper: &mut OutputKeeper,
        stream: OutputStream,
        data: Bytes,
    ) -> Option<Command> {
        let call_id = self.call_id;
        if let Some(output) = keeper.push(stream, data) {
            return Some(Command::Output { call_id, output });
        }
        // What isn't kept is a sign of life all the same, told often enough for the idle limit.
        let limit = self.idle_timeout?;
        let is_due = self.told_alive.is_none_or(|told| told.elapsed() >= limit / 4);
        is_due.then(|| {
            self.told_alive = Some(Instant::now());
            Command::Alive { call_id }
        })
    }

    /// None: as for a process, or the actor broke.
    async fn run_in_process(&mut self, code: Box<dyn InProcess>) -> Option<Finish> {
        let (context, mut reports) = ToolContext::new(self.call_id, WORK_REPORTS_MAX);
        let stop = context.cancellation_token().clone();
        let stopping = self.shared.stopping.clone();
        let mut running = code.run(context);
        let mut keeper = None;
        let mut deadline = None;
        let log = self.reports.clone();
        // What the log has no room for yet. A tool that reports more waits.
        let mut held: Option<Command> = None;
        let result = loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return None,
                place = log.reserve(), if held.is_some() => {
                    if let Some(command) = held.take() {
                        place.ok()?.send(Message::Report(command));
                    }
                }
                Some(report) = reports.recv(), if held.is_none() => {
                    held = self.work_report(report, &mut keeper);
                }
                result = &mut running => break result,
                changed = self.control.changed() => {
                    changed.ok()?;
                    stop.cancel();
                    deadline = self.control.borrow_and_update().map(|stop| match stop {
                        Stop::Graceful(grace) => Instant::now() + grace,
                        Stop::Kill => Instant::now(),
                    });
                }
                () = sleep_until(deadline) => break ToolResult {
                    error_message: "it was told to stop and didn't: its result is not waited for"
                        .into(),
                    is_error: true,
                    ..ToolResult::default()
                },
            }
        };
        let mut next = held;
        loop {
            if let Some(command) = next {
                self.report(command).boxed().await;
            }
            let Ok(report) = reports.try_recv() else { break };
            next = self.work_report(report, &mut keeper);
        }
        let result = match keeper {
            Some(keeper) => self.finish_output(*keeper, result).boxed().await,
            None => result,
        };
        let stopped = stop.is_cancelled();
        Some(Finish { call_id: self.call_id, result, stopped, survivors: Vec::new() })
    }

    /// Returns the command that a report of code inside the server becomes, if any. Most such code
    /// has no output: the first piece makes the keeper.
    fn work_report(
        &mut self,
        report: WorkReport,
        keeper: &mut Option<Box<OutputKeeper>>,
    ) -> Option<Command> {
        match report {
            WorkReport::Progress(progress) => self.progress_report(progress),
            WorkReport::Output(data) => {
                let max_bytes = self.max_output_bytes;
                let keeper = keeper.get_or_insert_with(|| Box::new(OutputKeeper::new(max_bytes)));
                self.keep(keeper, OutputStream::Stdout, data)
            }
        }
    }

    /// Sends the tail of the output to the log, and returns the result with the output in it.
    async fn finish_output(&self, mut keeper: OutputKeeper, mut result: ToolResult) -> ToolResult {
        for output in keeper.finish() {
            self.report(Command::Output { call_id: self.call_id, output }).boxed().await;
        }
        let summary = keeper.summary();
        self.shared.metrics.output(summary.combined.kept_bytes, summary.combined.dropped_bytes);
        result.content.splice(..0, keeper.content());
        result.output = summary;
        result
    }

    /// None: as for a process, or the actor broke.
    async fn run_elsewhere(&mut self, mut events: BoxStream<'static, WorkEvent>) -> Option<Finish> {
        let stopping = self.shared.stopping.clone();
        let mut keeper = OutputKeeper::new(self.max_output_bytes);
        let mut stopped = false;
        let ended = loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return None,
                changed = self.control.changed() => {
                    changed.ok()?;
                    stopped = true;
                    break None;
                }
                event = events.next() => match event {
                    // While the log takes no more, nothing more is asked for.
                    Some(WorkEvent::Output(data)) => {
                        if let Some(command) = self.keep(&mut keeper, OutputStream::Stdout, data) {
                            self.report(command).boxed().await;
                        }
                    }
                    Some(WorkEvent::Ended(result)) => break Some(*result),
                    None => break None,
                }
            }
        };
        let result = ended.unwrap_or_else(|| ToolResult {
            is_error: true,
            error_message: "it isn't followed any more: its end was never told".into(),
            ..ToolResult::default()
        });
        let result = self.finish_output(keeper, result).await;
        Some(Finish { call_id: self.call_id, result, stopped, survivors: Vec::new() })
    }

    fn progress_report(&self, progress: Progress) -> Option<Command> {
        // JSON, and so the record, has no NaN and no infinity.
        let is_number = progress.done.is_finite() && progress.total.is_none_or(f64::is_finite);
        if !is_number {
            tracing::warn!(call_id = %self.call_id, "progress that is no number was dropped");
        }
        is_number.then_some(Command::Progress { call_id: self.call_id, progress })
    }

    fn failed(&self, error_message: String) -> Finish {
        let result = ToolResult { is_error: true, error_message, ..ToolResult::default() };
        Finish { call_id: self.call_id, result, stopped: false, survivors: Vec::new() }
    }

    /// Waits for as long as the log does, but not much longer once the server stops: then the
    /// call will be LOST whatever is told here.
    async fn report(&self, command: Command) {
        // The message goes where its place is, and not through the future that waits for it.
        let place = self.reports.reserve();
        let too_late = async {
            self.shared.stopping.cancelled().await;
            tokio::time::sleep(LAST_REPORT).await;
        };
        tokio::select! {
            biased;
            // The actor outlives its live calls, but for a store that is gone: then nobody hears.
            place = place => if let Ok(place) = place {
                place.send(Message::Report(command));
            },
            () = too_late => {
                tracing::warn!(call_id = %self.call_id, "a report was lost: the store takes none");
            }
        }
    }
}
