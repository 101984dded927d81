//! A process that takes some steps and ends, and the count of those that run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::pause;
use crate::exec::{Executor, ExitReport, Process, ProcessEvent, StartError, Stop, Survivor};
use crate::model::{CallId, Exit, ProcessSpec};

/// The steps of a process that ends only when it is stopped.
pub const FOR_EVER: u32 = u32::MAX;

/// Starts processes whose first argument is the number of their steps.
#[derive(Debug, Default)]
pub struct Steps {
    count: Arc<Count>,
}

#[derive(Debug, Default)]
struct Count {
    started: AtomicUsize,
    running: AtomicUsize,
    running_max: AtomicUsize,
}

impl Steps {
    /// The most that ran at once.
    pub fn running_max(&self) -> usize {
        self.count.running_max.load(Ordering::SeqCst)
    }

    /// All that were started.
    pub fn started(&self) -> usize {
        self.count.started.load(Ordering::SeqCst)
    }
}

struct Stepping {
    count: Arc<Count>,
    steps_left: u32,
    stopped: bool,
    exited: bool,
}

#[async_trait]
impl Executor for Steps {
    fn start(&self, _call_id: CallId, spec: ProcessSpec) -> Result<Box<dyn Process>, StartError> {
        self.count.started.fetch_add(1, Ordering::SeqCst);
        let running = self.count.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.count.running_max.fetch_max(running, Ordering::SeqCst);
        let steps = spec.argv.first().and_then(|steps| steps.parse().ok());
        Ok(Box::new(Stepping {
            count: self.count.clone(),
            steps_left: steps.expect("a number of steps"),
            stopped: false,
            exited: false,
        }))
    }

    fn kill_leftovers(&self, _calls: &[CallId]) -> Vec<Survivor> {
        Vec::new()
    }

    async fn reaped(&self) {}
}

#[async_trait]
impl Process for Stepping {
    fn pid(&self) -> u32 {
        1
    }

    async fn next(&mut self) -> ProcessEvent {
        if self.steps_left == FOR_EVER && !self.stopped {
            std::future::pending::<()>().await;
        }
        while self.steps_left > 0 && !self.stopped {
            self.steps_left -= 1;
            pause().await;
        }
        if std::mem::replace(&mut self.exited, true) {
            std::future::pending::<()>().await;
        }
        let exit = if self.stopped { Exit::Signal(15) } else { Exit::Code(0) };
        let stopped = self.stopped;
        ProcessEvent::Exited(ExitReport {
            exit,
            stopped,
            survivors: Vec::new(),
            left: None,
            output_incomplete: false,
        })
    }

    fn stop(&mut self, _stop: Stop) {
        self.stopped = true;
    }
}

impl Drop for Stepping {
    fn drop(&mut self) {
        self.count.running.fetch_sub(1, Ordering::SeqCst);
    }
}
