//! Runs whose processes are children of this program.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{OutputKeeper, ProcessRun, RunEvent, RunReport, RunSpec, Runner};
use crate::exec::{Executor, ExitReport, Process, ProcessEvent, StartError, Stop, Survivor};
use crate::model::{CallId, OutputSummary, ToolOutput};

/// The signs of life in the idle timeout of a run.
const SIGNS_OF_LIFE: u32 = 4;

/// Starts runs as children of this program, with which they end.
pub struct LocalRunner {
    executor: Arc<dyn Executor>,
}

impl LocalRunner {
    /// Creates a runner of the processes of an executor.
    pub fn new(executor: Arc<dyn Executor>) -> Self {
        Self { executor }
    }
}

#[async_trait]
impl Runner for LocalRunner {
    async fn start(&self, spec: RunSpec) -> Result<Box<dyn ProcessRun>, StartError> {
        let process = self.executor.start(spec.call_id, spec.process)?;
        Ok(Box::new(LocalRun {
            process,
            keeper: Box::new(OutputKeeper::after(spec.output_before, spec.limits.output_bytes_max)),
            tail: VecDeque::new(),
            exited: None,
            idle_timeout: spec.limits.idle_timeout,
            last_sign: None,
        }))
    }

    fn kill_leftovers(&self, calls: &[CallId]) -> Vec<Survivor> {
        self.executor.kill_leftovers(calls)
    }

    fn leftover_calls(&self) -> Vec<CallId> {
        self.executor.leftover_calls()
    }

    async fn close(&self) {
        self.executor.reaped().await;
    }
}

/// A process with the filter of its output.
struct LocalRun {
    process: Box<dyn Process>,
    keeper: Box<OutputKeeper>,
    /// The output that is returned once the process has ended.
    tail: VecDeque<ToolOutput>,
    exited: Option<Exited>,
    idle_timeout: Option<Duration>,
    /// The time of the last sign of life, or `None` if there was none.
    last_sign: Option<Instant>,
}

/// The end of a process, until it is returned.
enum Exited {
    Due(Box<ExitReport>),
    Returned,
}

impl LocalRun {
    fn end(&mut self, report: ExitReport) {
        self.tail = self.keeper.finish().into();
        self.exited = Some(Exited::Due(Box::new(report)));
    }

    /// Returns the next event of a run whose process has ended, or `None` after the last one.
    fn last_event(&mut self) -> Option<RunEvent> {
        if let Some(piece) = self.tail.pop_front() {
            return Some(RunEvent::Output(piece));
        }
        match self.exited.replace(Exited::Returned) {
            Some(Exited::Due(report)) => Some(RunEvent::Exited(self.report(*report))),
            _ => None,
        }
    }

    fn report(&self, report: ExitReport) -> Box<RunReport> {
        let ExitReport { exit, stopped, survivors, left, output_incomplete } = report;
        Box::new(RunReport {
            exit,
            stopped,
            timed_out: false,
            abandoned: false,
            survivors,
            left,
            content: self.keeper.content(),
            output: OutputSummary { incomplete: output_incomplete, ..self.keeper.summary() },
        })
    }

    /// Returns whether output that is not kept is to be reported as a sign of life.
    fn shows_life(&mut self) -> bool {
        let Some(limit) = self.idle_timeout else { return false };
        let is_due = self.last_sign.is_none_or(|last| last.elapsed() >= limit / SIGNS_OF_LIFE);
        if is_due {
            self.last_sign = Some(Instant::now());
        }
        is_due
    }
}

#[async_trait]
impl ProcessRun for LocalRun {
    async fn next(&mut self) -> RunEvent {
        loop {
            if self.exited.is_some() {
                match self.last_event() {
                    Some(event) => return event,
                    None => return pending().await,
                }
            }
            match self.process.next().await {
                ProcessEvent::Output { stream, data } => match self.keeper.push(stream, data) {
                    Some(piece) => return RunEvent::Output(piece),
                    None if self.shows_life() => return RunEvent::Alive,
                    None => {}
                },
                ProcessEvent::Exited(report) => self.end(report),
            }
        }
    }

    async fn run_on(&mut self) {
        loop {
            if self.exited.is_some() {
                return pending().await;
            }
            match self.process.next().await {
                ProcessEvent::Output { stream, data } => {
                    self.keeper.end_head();
                    let kept = self.keeper.push(stream, data);
                    debug_assert!(kept.is_none(), "the head has ended");
                }
                ProcessEvent::Exited(report) => return self.end(report),
            }
        }
    }

    fn stop(&mut self, stop: Stop) {
        self.process.stop(stop);
    }
}
