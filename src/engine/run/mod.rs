//! One run of a call: reports of its process, or of its code inside the server, become commands of
//! its session's actor.

pub(crate) mod json_depth;
mod output_keeper;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;

use super::actor::ActorMessage;
use super::{Shared, sleep_until};
use crate::agent::prompts::truncate_middle;
use crate::exec::{ExitReport, Process, ProcessEvent, Stop};
use crate::machine::{Command, Finish};
use crate::model::limits::{OUTPUT_CHUNK_BYTES_MAX, TEXT_BYTES_MAX};
use crate::model::{
    CallId, OutputStream, OutputSummary, ProcessSpec, Progress, StreamSummary, ToolResult,
};
use crate::tool::{InProcess, ToolContext, Work, WorkEvent, WorkReport};
use json_depth::flattened;
use output_keeper::OutputKeeper;

pub(crate) use output_keeper::output_content;

/// Reports of code inside the server that wait to be stored. A tool that reports faster waits.
const WORK_REPORTS_MAX: usize = 16;

/// The maximum time for a report once the server stops.
const LAST_REPORT: Duration = Duration::from_secs(1);

/// One run of a call.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) call_id: CallId,
    pub(super) max_output_bytes: u64,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) reports: mpsc::Sender<ActorMessage>,
    pub(super) stops: watch::Receiver<Option<Stop>>,
    /// The slot, which is released when the run ends, or `None` if the run needs none.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// The time of the last `Alive` report, or `None` if there was none.
    pub(super) last_alive: Option<Instant>,
}

impl Run {
    /// Runs the work and reports its end, even if its code panics.
    pub(super) async fn execute(mut self, work: Box<Work>) {
        let running = self.shared.metrics.running_call();
        let run = async {
            match *work {
                Work::Process(spec) => self.run_process(spec).await,
                Work::InProcess(code) => self.run_in_process(code).await,
                Work::Followed(events) => self.follow_events(events).await,
            }
        };
        let finish = match AssertUnwindSafe(run).catch_unwind().await {
            Ok(finish) => finish,
            Err(_) => {
                Some(self.failed("the tool's code in the server panicked: see the log".into()))
            }
        };
        drop(running);
        drop(self.slot.take());
        if let Some(mut finish) = finish {
            finish.result = flattened(finish.result);
            limit_text(&mut finish.result.error_message);
            self.report(Command::Finish(Box::new(finish))).boxed().await;
        } else if self.shared.stopping.is_cancelled() {
            self.report(Command::Interrupt { call_id: self.call_id }).boxed().await;
        }
    }

    /// Runs a process. Returns `None` if the server stops: the call stays unfinished in its record,
    /// and becomes LOST when the next server starts.
    async fn run_process(&mut self, spec: ProcessSpec) -> Option<Finish> {
        let mut process = match self.shared.executor.start(self.call_id, spec) {
            Ok(process) => process,
            Err(error) => return Some(self.failed(error.to_string())),
        };
        let mut keeper = OutputKeeper::new(self.max_output_bytes);
        let report = self.follow_process(process.as_mut(), &mut keeper).await?;
        for output in keeper.finish() {
            self.report(Command::Output { call_id: self.call_id, output }).boxed().await;
        }
        let summary = OutputSummary { incomplete: report.output_incomplete, ..keeper.summary() };
        let StreamSummary { kept_bytes, dropped_bytes, .. } = summary.combined;
        self.shared.metrics.output(kept_bytes, dropped_bytes);
        let result = ToolResult {
            content: keeper.content(),
            is_error: !report.exit.is_success(),
            exit: Some(report.exit),
            output: summary,
            left: report.left,
            ..ToolResult::default()
        };
        if let Some(left) = &result.left {
            let call_id = self.call_id;
            tracing::info!(%call_id, count = left.count, programs = left.programs.join(", "),
                "processes that a call had left behind were killed");
        }
        let ExitReport { stopped, survivors, .. } = report;
        Some(Finish { call_id: self.call_id, result, stopped, survivors })
    }

    /// Reads the output of the process to its end. While a report waits to be stored, the process
    /// is not read, and blocks. A process that is being stopped is read all the same, or it could
    /// not end. Returns `None` if the server stops or the actor has ended.
    async fn follow_process(
        &mut self,
        process: &mut dyn Process,
        keeper: &mut OutputKeeper,
    ) -> Option<ExitReport> {
        let stopping = self.shared.stopping.clone();
        let reports = self.reports.clone();
        let (mut leaving, mut stopped) = (false, false);
        // A report that waits to be stored.
        let mut held: Option<Command> = None;
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled(), if !leaving => {
                    (leaving, stopped) = (true, true);
                    process.stop(Stop::Graceful(self.shared.options.stop_grace));
                }
                changed = self.stops.changed(), if !leaving => match changed {
                    Ok(()) => if let Some(stop) = *self.stops.borrow_and_update() {
                        stopped = true;
                        process.stop(stop);
                    },
                    // The actor panicked. The next one regards the call as lost, so its run ends.
                    Err(_) => {
                        (leaving, stopped) = (true, true);
                        process.stop(Stop::Kill);
                    }
                },
                permit = reports.reserve(), if held.is_some() => match (permit, held.take()) {
                    (Ok(permit), Some(command)) => permit.send(ActorMessage::Report(command)),
                    // The actor panicked, as above.
                    _ => {
                        (leaving, stopped) = (true, true);
                        process.stop(Stop::Kill);
                    }
                },
                event = process.next(), if held.is_none() || stopped => match event {
                    ProcessEvent::Exited(_) if leaving => return None,
                    ProcessEvent::Exited(report) => {
                        if let Some(command) = held {
                            // Boxed, like everything after the run, so that a run that lasts for
                            // hours holds no memory for it.
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

    /// Returns the report for a piece of output, or `None` if it needs none now.
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
        // Output that is not kept is a sign of life, reported often enough for the idle timeout.
        let limit = self.idle_timeout?;
        let is_due = self.last_alive.is_none_or(|last| last.elapsed() >= limit / 4);
        is_due.then(|| {
            self.last_alive = Some(Instant::now());
            Command::Alive { call_id }
        })
    }

    /// Runs code inside the server. Returns `None` if the server stops or the actor has ended.
    async fn run_in_process(&mut self, code: Box<dyn InProcess>) -> Option<Finish> {
        let (context, mut reports) = ToolContext::new(self.call_id, WORK_REPORTS_MAX);
        let stop = context.cancellation_token().clone();
        let stopping = self.shared.stopping.clone();
        let mut running = code.run(context);
        let mut keeper = None;
        let mut deadline = None;
        let log = self.reports.clone();
        // A report that waits to be stored. Further reports wait behind it.
        let mut held: Option<Command> = None;
        let result = loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return None,
                permit = log.reserve(), if held.is_some() => {
                    if let Some(command) = held.take() {
                        permit.ok()?.send(ActorMessage::Report(command));
                    }
                }
                Some(report) = reports.recv(), if held.is_none() => {
                    held = self.work_report(report, &mut keeper);
                }
                result = &mut running => break result,
                changed = self.stops.changed() => {
                    changed.ok()?;
                    stop.cancel();
                    deadline = self.stops.borrow_and_update().map(|stop| match stop {
                        Stop::Graceful(grace) => Instant::now() + grace,
                        Stop::Kill => Instant::now(),
                    });
                }
                () = sleep_until(deadline) => break ToolResult {
                    error_message: "the tool was asked to stop and did not: its result is discarded"
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

    /// Follows work that runs outside of this server. Returns `None` if the server stops or the
    /// actor has ended.
    async fn follow_events(&mut self, mut events: BoxStream<'static, WorkEvent>) -> Option<Finish> {
        let stopping = self.shared.stopping.clone();
        let mut keeper = OutputKeeper::new(self.max_output_bytes);
        let mut stopped = false;
        let ended = loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return None,
                changed = self.stops.changed() => {
                    changed.ok()?;
                    stopped = true;
                    break None;
                }
                event = events.next() => match event {
                    // No further event is read until the report is stored.
                    Some(WorkEvent::Output(mut data)) => while !data.is_empty() {
                        let piece = data.split_to(data.len().min(OUTPUT_CHUNK_BYTES_MAX));
                        if let Some(command) = self.keep(&mut keeper, OutputStream::Stdout, piece) {
                            self.report(command).boxed().await;
                        }
                    }
                    Some(WorkEvent::Progress(progress)) => {
                        if let Some(command) = self.progress_report(progress) {
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
            error_message: "the call is no longer followed: its end was never reported".into(),
            ..ToolResult::default()
        });
        let result = self.finish_output(keeper, result).await;
        Some(Finish { call_id: self.call_id, result, stopped, survivors: Vec::new() })
    }

    fn progress_report(&self, mut progress: Progress) -> Option<Command> {
        // JSON, and so the record, has neither NaN nor infinity.
        let is_number = progress.done.is_finite() && progress.total.is_none_or(f64::is_finite);
        if !is_number {
            let call_id = self.call_id;
            tracing::warn!(%call_id, "progress that is not a finite number was dropped");
        }
        limit_text(&mut progress.message);
        is_number.then_some(Command::Progress { call_id: self.call_id, progress })
    }

    fn failed(&self, error_message: String) -> Finish {
        let result = ToolResult { is_error: true, error_message, ..ToolResult::default() };
        Finish { call_id: self.call_id, result, stopped: false, survivors: Vec::new() }
    }

    /// Sends a report to the actor, and waits while the actor is busy. Once the server stops, it
    /// waits only briefly: the call will then be LOST in any case.
    async fn report(&self, command: Command) {
        // The permit is awaited without the message, which keeps the future small.
        let permit = self.reports.reserve();
        let too_late = async {
            self.shared.stopping.cancelled().await;
            tokio::time::sleep(LAST_REPORT).await;
        };
        tokio::select! {
            biased;
            // The actor outlives its live calls, unless the store is gone.
            permit = permit => if let Ok(permit) = permit {
                permit.send(ActorMessage::Report(command));
            },
            () = too_late => {
                let call_id = self.call_id;
                tracing::warn!(%call_id, "a report was lost: the store accepts no changes");
            }
        }
    }
}

/// Truncates a text of a tool, which is part of an event and of the record of its call.
fn limit_text(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        *text = truncate_middle(text, TEXT_BYTES_MAX);
    }
}
