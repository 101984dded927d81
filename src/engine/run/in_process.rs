//! Runs of code inside the server.

use std::future::Future;
use std::pin::Pin;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Ended, Run};
use crate::engine::actor::ActorMessage;
use crate::engine::sleep_until;
use crate::exec::{OutputKeeper, Stop};
use crate::machine::{Command, Finish, LossCause};
use crate::model::{OutputStream, ToolResult};
use crate::tool::{InProcess, ToolContext, WorkReport};

/// Reports of code inside the server that wait to be stored. A tool that reports faster waits.
const WORK_REPORTS_MAX: usize = 16;

/// Code that runs, and the state of its run.
struct RunningCode {
    code: Pin<Box<dyn Future<Output = ToolResult> + Send>>,
    reports: mpsc::Receiver<WorkReport>,
    stop: CancellationToken,
    /// The keeper of the output, or `None` if there was none yet. Most such code has none.
    keeper: Option<Box<OutputKeeper>>,
    /// The work is done outside of this server, under a handle.
    has_handle: bool,
    /// The work cannot be found under its handle.
    is_forgotten: bool,
}

impl Run {
    /// Runs code inside the server. Interrupted if the server stops or the actor has ended.
    pub(super) async fn run_in_process(&mut self, code: Box<dyn InProcess>) -> Ended {
        let (context, reports) = ToolContext::new(self.call_id, WORK_REPORTS_MAX);
        let max_bytes = self.limits.output_bytes_max;
        let before = self.output_before.take();
        let mut running = RunningCode {
            stop: context.cancellation_token().clone(),
            code: code.run(context),
            reports,
            keeper: before.map(|before| Box::new(OutputKeeper::after(*before, max_bytes))),
            has_handle: false,
            is_forgotten: false,
        };
        let Some((result, held)) = self.result_of(&mut running).boxed().await else {
            return Ended::Interrupted;
        };
        let mut next = held;
        loop {
            if let Some(command) = next {
                self.report(command).boxed().await;
            }
            let Ok(report) = running.reports.try_recv() else { break };
            next = self.work_report(report, &mut running);
        }
        let stopped = running.stop.is_cancelled();
        if running.is_forgotten && !stopped {
            return Ended::Lost(LossCause::HandleForgotten);
        }
        let result = match running.keeper {
            Some(keeper) => self.finish_output(*keeper, result).boxed().await,
            None => result,
        };
        Finish { call_id: self.call_id, result, stopped, survivors: Vec::new() }.into()
    }

    /// Passes on the reports of code until it returns. Returns its result and a report that waits to be
    /// stored, or `None` if the run is interrupted.
    async fn result_of(
        &mut self,
        running: &mut RunningCode,
    ) -> Option<(ToolResult, Option<Command>)> {
        let stopping = self.shared.stopping.clone();
        let log = self.reports.clone();
        let mut deadline = None;
        let mut is_interrupted = false;
        // A report that waits to be stored. Further reports wait behind it.
        let mut held: Option<Command> = None;
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled(), if !is_interrupted => {
                    if !(running.has_handle && self.shared.options.stop_runs) {
                        return None;
                    }
                    // The work would go on elsewhere.
                    is_interrupted = true;
                    running.stop.cancel();
                    deadline = Some(Instant::now() + self.shared.options.stop_grace);
                }
                permit = log.reserve(), if held.is_some() => match (permit, held.take()) {
                    (Ok(permit), Some(command)) => permit.send(ActorMessage::Report(command)),
                    _ => return None,
                },
                Some(report) = running.reports.recv(), if held.is_none() => {
                    held = self.work_report(report, running);
                }
                result = &mut running.code => {
                    return (!is_interrupted).then_some((result, held));
                }
                changed = self.stops.changed(), if !is_interrupted => {
                    if changed.is_err() {
                        return None;
                    }
                    running.stop.cancel();
                    deadline = self.stops.borrow_and_update().map(|stop| match stop {
                        Stop::Graceful(grace) => Instant::now() + grace,
                        Stop::Kill => Instant::now(),
                    });
                }
                () = sleep_until(deadline) => {
                    let error_message =
                        "the tool was asked to stop and did not: its result is discarded".into();
                    let result =
                        ToolResult { error_message, is_error: true, ..ToolResult::default() };
                    return (!is_interrupted).then_some((result, held));
                }
            }
        }
    }

    /// Returns the command that a report of code inside the server becomes, if any.
    fn work_report(&mut self, report: WorkReport, running: &mut RunningCode) -> Option<Command> {
        match report {
            WorkReport::Progress(progress) => self.progress_report(progress),
            WorkReport::Output(data) => {
                let max_bytes = self.limits.output_bytes_max;
                let keeper =
                    running.keeper.get_or_insert_with(|| Box::new(OutputKeeper::new(max_bytes)));
                self.keep(keeper, OutputStream::Stdout, data)
            }
            WorkReport::Handle(handle) => {
                running.has_handle = true;
                Some(Command::KeepHandle { call_id: self.call_id, handle })
            }
            WorkReport::HandleForgotten => {
                running.is_forgotten = true;
                None
            }
        }
    }
}
