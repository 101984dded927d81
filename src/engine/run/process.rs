//! Runs of processes, started here or adopted from an earlier server.

use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;

use super::{Ended, Run, limit_text};
use crate::engine::actor::ActorMessage;
use crate::engine::sleep_until;
use crate::exec::{OutputBefore, ProcessRun, RunEvent, RunReport, RunSpec, StartError, Stop};
use crate::machine::{Command, Finish, LossCause};
use crate::model::{ProcessSpec, StopCause, StreamSummary, ToolResult};

/// The time after the last signal for which a server that stops waits for the end of a process.
const GIVE_UP: Duration = Duration::from_millis(500);

/// The end of the events of a process.
enum ProcessEnd {
    Exited(Box<RunReport>),
    OwnerLost,
    /// The server stops, or the actor has ended.
    Left,
}

impl Run {
    /// Starts a process and follows it.
    pub(super) fn run_process(&mut self, process: ProcessSpec) -> impl Future<Output = Ended> {
        // What only the start needs has a box of its own, for as long as the start.
        let start = self.start_process(process).boxed();
        async move {
            match start.await {
                Ok(process) => self.follow_process(process).await,
                Err(error) => self.failed(error.to_string()).into(),
            }
        }
    }

    fn start_process(
        &mut self,
        process: ProcessSpec,
    ) -> impl Future<Output = Result<Box<dyn ProcessRun>, StartError>> + use<> {
        let output_before = std::mem::take(&mut self.output_before);
        let output_before = output_before.map_or_else(OutputBefore::default, |before| *before);
        let spec = RunSpec { call_id: self.call_id, process, limits: self.limits, output_before };
        let runner = self.shared.runner.clone();
        async move { runner.start(spec).await }
    }

    /// Reports the output of a process and returns its end.
    pub(super) async fn follow_process(&mut self, mut process: Box<dyn ProcessRun>) -> Ended {
        let report = match self.read_process(process.as_mut()).await {
            ProcessEnd::Exited(report) if report.abandoned => {
                return Ended::Lost(LossCause::ServerSilent);
            }
            ProcessEnd::Exited(report) => report,
            ProcessEnd::OwnerLost => return Ended::Lost(LossCause::OwnerEnded),
            ProcessEnd::Left if self.leaves_running() => return Ended::LeftRunning,
            // Another server has the call. The process ends in time, and its owner keeps its end.
            ProcessEnd::Left if self.term.is_over() => return Ended::Interrupted,
            ProcessEnd::Left => {
                self.shared.runner.release(self.call_id);
                return Ended::Interrupted;
            }
        };
        if report.timed_out {
            // The owner of the process was first, while no server was there or this one was slow.
            let command =
                Command::Timeout { call_id: self.call_id, cause: StopCause::ExecutionTimeout };
            self.report(command).boxed().await;
        }
        let RunReport { exit, stopped, survivors, left, content, output, .. } = *report;
        let StreamSummary { kept_bytes, dropped_bytes, .. } = output.combined;
        self.shared.metrics.output(kept_bytes, dropped_bytes);
        let call_id = self.call_id;
        if let Some(left) = &left {
            tracing::info!(%call_id, count = left.count, programs = left.programs.join(", "),
                "processes that a call had left behind were killed");
        }
        let is_error = !exit.is_success();
        let exit = Some(exit);
        let result = ToolResult { content, is_error, exit, output, left, ..ToolResult::default() };
        Finish { call_id, result, stopped, survivors }.into()
    }

    /// Returns whether the process goes on after this server.
    fn leaves_running(&self) -> bool {
        self.shared.stopping.is_cancelled() && self.shared.leaves_runs()
    }

    /// Reads the events of the process to the end. While a report waits to be stored, the process is
    /// not read, and blocks. A process that is being stopped goes on all the same, or it could not end.
    async fn read_process(&mut self, process: &mut dyn ProcessRun) -> ProcessEnd {
        let stopping = self.shared.stopping.clone();
        let reports = self.reports.clone();
        let (mut leaving, mut stopped) = (false, false);
        // The time at which a process that ends with the server is given up.
        let mut given_up = None;
        // A report that waits to be stored.
        let mut held: Option<Command> = None;
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled(), if !leaving => {
                    if self.leaves_running() {
                        return ProcessEnd::Left;
                    }
                    (leaving, stopped) = (true, true);
                    let grace = self.shared.options.stop_grace;
                    process.stop(Stop::Graceful(grace));
                    given_up = Some(Instant::now() + grace + GIVE_UP);
                }
                () = sleep_until(given_up) => return ProcessEnd::Left,
                changed = self.stops.changed(), if !leaving => match changed {
                    Ok(()) => if let Some(stop) = *self.stops.borrow_and_update() {
                        stopped = true;
                        process.stop(stop);
                    },
                    Err(_) if self.term.is_over() => return ProcessEnd::Left,
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
                event = process.next_if(held.is_none()), if held.is_none() || stopped => match event {
                    None => {}
                    Some(RunEvent::Output(output)) => {
                        held = Some(Command::Output { call_id: self.call_id, output });
                    }
                    Some(RunEvent::Alive) => held = Some(Command::Alive { call_id: self.call_id }),
                    Some(RunEvent::Blocked(mut cause)) => {
                        limit_text(&mut cause);
                        held = Some(Command::BlockOutput { call_id: self.call_id, cause });
                    }
                    Some(_) if leaving => return ProcessEnd::Left,
                    Some(RunEvent::Exited(report)) => return ProcessEnd::Exited(report),
                    Some(RunEvent::OwnerLost) => return ProcessEnd::OwnerLost,
                },
            }
        }
    }
}
