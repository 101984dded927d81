//! A run in a shim, from its start until its server has its end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::backlog::Backlog;
use super::frame::Outbox;
use super::memory::OutputMemory;
use super::message::{Exited, Output, Report, ReportKind, Run, RunStatus, id_bytes};
use crate::exec::{OutputBefore, ProcessRun, RunEvent, RunLimits, RunReport, Stop};
use crate::model::{CallId, ToolOutput};

/// The time by which a shim applies the execution timeout later than a server does. The server knows the
/// reason better.
const TIMEOUT_DELAY: Duration = Duration::from_secs(1);

/// The orders to a run that its task follows.
#[derive(Debug, Clone, Copy, Default)]
struct RunOrders {
    stop: Option<Stop>,
    /// The process is killed, because no server has given a sign in time.
    is_abandoned: bool,
    is_released: bool,
}

/// A run, as the connection of a server sees it.
pub(super) struct HostedRun {
    call_id: CallId,
    orders: watch::Sender<RunOrders>,
    delivery: Mutex<Delivery>,
    /// Notified when there may be room for more output.
    room: Notify,
}

/// The output and the end that a server has not acknowledged.
struct Delivery {
    backlog: Backlog,
    report: Option<Box<RunReport>>,
    /// `true` if the present server was sent the report.
    is_report_sent: bool,
    /// The server that follows the run, or `None` if there is none.
    server: Option<Arc<Outbox>>,
}

impl HostedRun {
    /// Creates a run that `server` has started, whose output comes after this.
    pub(super) fn new(
        call_id: CallId,
        spool: PathBuf,
        before: OutputBefore,
        memory: Arc<OutputMemory>,
        server: Arc<Outbox>,
    ) -> Self {
        let delivery = Delivery {
            backlog: Backlog::new(spool, before, memory),
            report: None,
            is_report_sent: false,
            server: Some(server),
        };
        Self {
            call_id,
            orders: watch::Sender::default(),
            delivery: Mutex::new(delivery),
            room: Notify::new(),
        }
    }

    /// Follows the process to its end. Returns once the run is released.
    pub(super) async fn drive(&self, process: Box<dyn ProcessRun>, limits: RunLimits) {
        let mut orders = self.orders.subscribe();
        // There may have been one already.
        orders.mark_changed();
        if let Some(report) = self.follow(process, limits, &mut orders).await {
            self.lock().report = Some(report);
            self.flush();
        }
        // It fails only if the run is gone, and this is a part of it.
        let _result = orders.wait_for(|orders| orders.is_released).await;
    }

    /// Returns the report of the process, or `None` if it was released before its end.
    async fn follow(
        &self,
        mut process: Box<dyn ProcessRun>,
        limits: RunLimits,
        orders: &mut watch::Receiver<RunOrders>,
    ) -> Option<Box<RunReport>> {
        let begin = Instant::now();
        let mut limit = limits.execution_timeout.and_then(|span| begin.checked_add(span));
        limit = limit.and_then(|limit| limit.checked_add(TIMEOUT_DELAY));
        let (mut is_stopped, mut is_timed_out, mut is_abandoned) = (false, false, false);
        loop {
            let has_room = self.has_room();
            tokio::select! {
                biased;
                changed = orders.changed() => {
                    let orders = *orders.borrow_and_update();
                    if changed.is_err() || orders.is_released {
                        return None;
                    }
                    if let Some(stop) = orders.stop {
                        is_stopped = true;
                        process.stop(stop);
                    }
                    if orders.is_abandoned {
                        is_abandoned |= !is_stopped;
                        is_stopped = true;
                        process.stop(Stop::Kill);
                    }
                }
                () = crate::exec::reached(limit) => {
                    limit = None;
                    is_timed_out = !is_stopped;
                    is_stopped = true;
                    process.stop(Stop::Graceful(limits.grace));
                }
                event = process.next_if(has_room), if has_room || is_stopped => match event {
                    None => {}
                    Some(RunEvent::Output(piece)) => {
                        self.keep(piece);
                        self.flush();
                    }
                    Some(RunEvent::Alive) => self.report_alive(),
                    Some(RunEvent::Exited(report)) => {
                        let timed_out = is_timed_out && report.stopped;
                        let abandoned = is_abandoned && report.stopped;
                        return Some(Box::new(RunReport { timed_out, abandoned, ..*report }));
                    }
                    // Of a run that was adopted, which no run of a shim is.
                    Some(RunEvent::Blocked(_)) => {}
                    Some(RunEvent::OwnerLost) => return None,
                },
                () = self.room.notified(), if !has_room => {}
            }
        }
    }

    /// Stops the process.
    pub(super) fn stop(&self, stop: Stop) {
        self.orders.send_modify(|orders| orders.stop = Some(stop));
    }

    /// Kills the process, and keeps its end for the next server that gives a sign.
    pub(super) fn abandon(&self) {
        self.orders.send_modify(|orders| orders.is_abandoned = true);
    }

    /// Forgets the run, and kills what is left of it.
    pub(super) fn release(&self) {
        self.orders.send_modify(|orders| orders.is_released = true);
    }

    /// Notes that the output up to an offset is durable.
    pub(super) fn acknowledge(&self, stored_bytes: u64) {
        self.lock().backlog.acknowledge(stored_bytes);
        self.flush();
        self.room.notify_one();
    }

    /// Sends the output from an offset on, and the end, to another server.
    pub(super) fn follow_from(&self, stored_bytes: u64, server: Arc<Outbox>) {
        {
            let mut delivery = self.lock();
            delivery.backlog.acknowledge(stored_bytes);
            delivery.backlog.rewind();
            delivery.is_report_sent = false;
            delivery.server = Some(server);
        }
        self.flush();
        self.room.notify_one();
    }

    /// Keeps output and end for the next server.
    pub(super) fn leave(&self) {
        self.lock().server = None;
        self.room.notify_one();
    }

    /// Returns the status, for a server that connects.
    pub(super) fn status(&self) -> RunStatus {
        let delivery = self.lock();
        RunStatus {
            call_id: id_bytes(self.call_id),
            spooled_bytes: delivery.backlog.spooled_bytes(),
            spool_error: delivery.backlog.error().to_owned(),
        }
    }

    fn keep(&self, piece: ToolOutput) {
        let mut delivery = self.lock();
        let is_read = delivery.server.is_some();
        delivery.backlog.push(piece, is_read);
    }

    fn has_room(&self) -> bool {
        let delivery = self.lock();
        delivery.backlog.has_room(delivery.server.is_some())
    }

    fn report_alive(&self) {
        if let Some(server) = &self.lock().server {
            server.push(&Report::from(ReportKind::Alive(Run { call_id: id_bytes(self.call_id) })));
        }
    }

    /// Sends what the present server has not been sent.
    fn flush(&self) {
        let mut delivery = self.lock();
        let Delivery { backlog, report, is_report_sent, server } = &mut *delivery;
        let Some(server) = server else { return };
        while let Some(piece) = backlog.next_unsent() {
            server.push(&Report::from(ReportKind::Output(Output::new(self.call_id, piece))));
        }
        if let Some(report) = report.as_mut().filter(|_| !*is_report_sent && backlog.is_sent()) {
            backlog.correct(&mut report.output);
            // Numbers, texts and bytes can always be written as JSON.
            let report = serde_json::to_vec(report).unwrap_or_default().into();
            let exited = Exited { call_id: id_bytes(self.call_id), report };
            server.push(&Report::from(ReportKind::Exited(exited)));
            *is_report_sent = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
