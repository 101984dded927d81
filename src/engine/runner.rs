//! One run of a call: its process, or its code inside the server, becomes commands in the inbox
//! of its session.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::handle::sleep_until;
use super::inbox::Message;
use super::output::OutputKeeper;
use crate::exec::{ExitReport, Process, ProcessEvent, Stop};
use crate::machine::{Command, Finish};
use crate::model::{
    CallId, OutputStream, OutputSummary, ProcessSpec, Progress, StreamSummary, Survivor,
    ToolOutput, ToolResult,
};
use crate::tool::{InProcess, Work};

/// Progress reports that wait for the log. A tool that reports faster waits.
const PROGRESS_REPORTS_MAX: usize = 16;

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
    pub(super) async fn run(mut self, work: Work) {
        let running = self.shared.metrics.running_call();
        let run = async {
            match work {
                Work::Process(spec) => self.run_process(spec).await,
                Work::InProcess(code) => self.run_in_process(code).await,
            }
        };
        let finish = match AssertUnwindSafe(run).catch_unwind().await {
            Ok(finish) => finish,
            Err(_) => Some(self.failed("the tool's code in the server broke: see the log".into())),
        };
        drop(running);
        drop(self.slot.take());
        if let Some(finish) = finish {
            self.report(Command::Finish(Box::new(finish))).await;
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
            self.report_output(output).await;
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

    async fn follow(
        &mut self,
        process: &mut dyn Process,
        keeper: &mut OutputKeeper,
    ) -> Option<ExitReport> {
        let stopping = self.shared.stopping.clone();
        let mut leaving = false;
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled(), if !leaving => {
                    leaving = true;
                    process.stop(Stop::Graceful(self.shared.options.stop_grace));
                }
                changed = self.control.changed(), if !leaving => match changed {
                    Ok(()) => if let Some(stop) = *self.control.borrow_and_update() {
                        process.stop(stop);
                    },
                    // The actor broke: the next one takes the call for lost, so it must be.
                    Err(_) => {
                        leaving = true;
                        process.stop(Stop::Kill);
                    }
                },
                event = process.next() => match event {
                    ProcessEvent::Exited(report) => return (!leaving).then_some(report),
                    ProcessEvent::Output { stream, data } => {
                        self.keep(keeper, stream, data).await;
                    }
                }
            }
        }
    }

    async fn keep(&mut self, keeper: &mut OutputKeeper, stream: OutputStream, data: Bytes) {
        if let Some(output) = keeper.push(stream, data) {
            self.report_output(output).await;
            return;
        }
        // What isn't kept is a sign of life all the same, told often enough for the idle limit.
        let Some(limit) = self.idle_timeout else { return };
        if self.told_alive.is_none_or(|told| told.elapsed() >= limit / 4) {
            self.told_alive = Some(Instant::now());
            self.report(Command::Alive { call_id: self.call_id }).await;
        }
    }

    /// None: as for a process, or the actor broke.
    async fn run_in_process(&mut self, code: Box<dyn InProcess>) -> Option<Finish> {
        let (progress, mut reports) = mpsc::channel(PROGRESS_REPORTS_MAX);
        let stop = CancellationToken::new();
        let stopping = self.shared.stopping.clone();
        let mut running = code.run(progress, stop.clone());
        let mut deadline = None;
        let result = loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return None,
                Some(progress) = reports.recv() => self.report_progress(progress).await,
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
        while let Ok(progress) = reports.try_recv() {
            self.report_progress(progress).await;
        }
        let stopped = stop.is_cancelled();
        Some(Finish { call_id: self.call_id, result, stopped, survivors: Vec::new() })
    }

    async fn report_progress(&self, progress: Progress) {
        // JSON, and so the record, has no NaN and no infinity.
        let is_number = progress.done.is_finite() && progress.total.is_none_or(f64::is_finite);
        if is_number {
            self.report(Command::Progress { call_id: self.call_id, progress }).await;
        } else {
            tracing::warn!(call_id = %self.call_id, "progress that is no number was dropped");
        }
    }

    fn failed(&self, error_message: String) -> Finish {
        let result = ToolResult { is_error: true, error_message, ..ToolResult::default() };
        Finish { call_id: self.call_id, result, stopped: false, survivors: Vec::new() }
    }

    async fn report_output(&self, output: ToolOutput) {
        self.report(Command::Output { call_id: self.call_id, output }).await;
    }

    /// Waits for as long as the log does, but not much longer once the server stops: then the
    /// call will be LOST whatever is told here.
    async fn report(&self, command: Command) {
        let report = self.reports.send(Message::Report(command));
        let too_late = async {
            self.shared.stopping.cancelled().await;
            tokio::time::sleep(LAST_REPORT).await;
        };
        tokio::select! {
            biased;
            // The actor outlives its live calls, but for a store that is gone: then nobody hears.
            _ = report => {}
            () = too_late => {
                tracing::warn!(call_id = %self.call_id, "a report was lost: the store takes none");
            }
        }
    }
}
