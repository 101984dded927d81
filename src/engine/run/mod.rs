//! One run of a call: reports of its process, or of its code inside the server, become commands of
//! its session's actor.

mod in_process;
pub(crate) mod json_depth;
mod process;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;

use super::Shared;
use super::actor::ActorMessage;
use super::replica::term::Term;
use super::restart::prepare_lost;
use crate::agent::prompts::truncate_middle;
use crate::exec::{OutputBefore, OutputKeeper, ProcessRun, RunLimits, Stop};
use crate::machine::{Command, Finish, Loss, LossCause};
use crate::model::limits::{OUTPUT_CHUNK_BYTES_MAX, TEXT_BYTES_MAX};
use crate::model::{CallId, OutputStream, Progress, ToolOutput, ToolResult, TurnLoss};
use crate::redact::redacted;
use crate::tool::{Work, WorkEvent};
use json_depth::flattened;

/// The maximum time for a report once the server stops.
const LAST_REPORT: Duration = Duration::from_secs(1);

/// One run of a call.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    /// The time in which this server has the session of the call.
    pub(super) term: Term,
    pub(super) call_id: CallId,
    pub(super) limits: RunLimits,
    /// The output of earlier attempts, or `None` if there were none.
    pub(super) output_before: Option<Box<OutputBefore>>,
    /// The size of the output that the log has already of this attempt, in bytes. The work gives it
    /// again.
    pub(super) logged_bytes: u64,
    pub(super) reports: mpsc::Sender<ActorMessage>,
    pub(super) stops: watch::Receiver<Option<Stop>>,
    /// The slot, which is released when the run ends, or `None` if the run needs none.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// The time of the last `Alive` report, or `None` if there was none.
    pub(super) last_alive: Option<Instant>,
}

/// The end of a run, as it is reported to the actor.
enum Ended {
    /// The work has ended.
    Finished(Box<Finish>),
    /// The work is lost: no report of its end will come.
    Lost(LossCause),
    /// The server stops, and ends the work with it.
    Interrupted,
    /// The server stops, and the work goes on.
    LeftRunning,
}

impl From<Finish> for Ended {
    fn from(finish: Finish) -> Self {
        Self::Finished(Box::new(finish))
    }
}

impl Run {
    /// Runs the work and reports its end, even if its code panics.
    pub(super) async fn execute(mut self, work: Box<Work>) {
        let running = self.shared.metrics.running_call();
        // Boxes of their own, as most tasks of runs wait for a process, and for long.
        let run = match *work {
            Work::Process(spec) => self.run_process(spec).boxed(),
            Work::InProcess(code) => self.run_in_process(code).boxed(),
            Work::Followed(events) => self.follow_events(events).boxed(),
        };
        let ended = AssertUnwindSafe(run).catch_unwind().await.ok();
        drop(running);
        self.conclude(ended).boxed().await;
    }

    /// Follows a process that an earlier server has started, and reports its end.
    pub(super) async fn follow_adopted(mut self, process: Box<dyn ProcessRun>) {
        let running = self.shared.metrics.running_call();
        let follow = self.follow_process(process).boxed();
        let ended = AssertUnwindSafe(follow).catch_unwind().await.ok();
        drop(running);
        self.conclude(ended).boxed().await;
    }

    /// Releases the slot and reports the end, or, if there is none, that the code has panicked.
    async fn conclude(mut self, ended: Option<Ended>) {
        let ended = ended.unwrap_or_else(|| {
            self.failed("the tool's code in the server panicked: see the log".into()).into()
        });
        let slot = self.slot.take();
        let call_id = self.call_id;
        if matches!(ended, Ended::LeftRunning) {
            // The work goes on in its slot: no other call begins in it while the server stops.
            slot.into_iter().for_each(OwnedSemaphorePermit::forget);
            return;
        }
        drop(slot);
        let command = match ended {
            Ended::Finished(mut finish) => {
                finish.result = flattened(finish.result);
                // A server may have repeated what it was sent.
                finish.result.error_message = redacted(&finish.result.error_message);
                limit_text(&mut finish.result.error_message);
                Command::Finish(finish)
            }
            Ended::Lost(cause) => {
                if let Some(restart) = prepare_lost(&self.shared, call_id).boxed().await {
                    // The owner of the last run must not take the next one for it.
                    self.shared.runner.release(call_id);
                    let restart = ActorMessage::Restart(call_id, Box::new(restart));
                    // The actor outlives its live calls, unless the store is gone.
                    let _sent = self.reports.send(restart).boxed().await;
                    return;
                }
                let loss = Loss { cause, last_known: self.shared.now() };
                Command::Lose { call_id, loss }
            }
            Ended::Interrupted if self.shared.stopping.is_cancelled() => {
                let with_runs = self.shared.options.stop_runs;
                let loss = with_runs.then_some(TurnLoss::StoppedWithRuns);
                Command::Interrupt { call_id, loss }
            }
            Ended::Interrupted | Ended::LeftRunning => return,
        };
        self.report(command).boxed().await;
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
            let output = unlogged(output, self.logged_bytes)?;
            return Some(Command::Output { call_id, output });
        }
        // Output that is not kept is a sign of life, reported often enough for the idle timeout.
        let limit = self.limits.idle_timeout?;
        let is_due = self.last_alive.is_none_or(|last| last.elapsed() >= limit / 4);
        is_due.then(|| {
            self.last_alive = Some(Instant::now());
            Command::Alive { call_id }
        })
    }

    /// Sends the tail of the output to the log, and returns the result with the output in it.
    async fn finish_output(&self, mut keeper: OutputKeeper, mut result: ToolResult) -> ToolResult {
        let logged = self.logged_bytes;
        for output in keeper.finish().into_iter().filter_map(|output| unlogged(output, logged)) {
            self.report(Command::Output { call_id: self.call_id, output }).boxed().await;
        }
        let summary = keeper.summary();
        self.shared.metrics.output(summary.combined.kept_bytes, summary.combined.dropped_bytes);
        result.content.splice(..0, keeper.content());
        result.output = summary;
        result
    }

    /// Follows work that runs outside of this server. Interrupted if the server stops or the actor has
    /// ended.
    async fn follow_events(&mut self, mut events: BoxStream<'static, WorkEvent>) -> Ended {
        let stopping = self.shared.stopping.clone();
        let mut keeper = OutputKeeper::new(self.limits.output_bytes_max);
        let mut stopped = false;
        let ended = loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Ended::Interrupted,
                changed = self.stops.changed() => {
                    if changed.is_err() {
                        return Ended::Interrupted;
                    }
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
        Finish { call_id: self.call_id, result, stopped, survivors: Vec::new() }.into()
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

/// Returns the part of a piece of output after the first `logged_bytes` of both streams together, or
/// `None` if it ends before.
fn unlogged(mut output: ToolOutput, logged_bytes: u64) -> Option<ToolOutput> {
    let logged = logged_bytes.saturating_sub(output.position.combined_offset);
    let logged_of_data = usize::try_from(logged).unwrap_or(usize::MAX).min(output.data.len());
    output.data.advance(logged_of_data);
    output.position.offset += logged_of_data as u64;
    output.position.combined_offset += logged_of_data as u64;
    (!output.data.is_empty()).then_some(output)
}

/// Truncates a text of a tool, which is part of an event and of the record of its call.
fn limit_text(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        *text = truncate_middle(text, TEXT_BYTES_MAX);
    }
}
