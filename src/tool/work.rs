//! The work that a call becomes: a process, code inside the server, or work that is done elsewhere.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::model::limits::OUTPUT_CHUNK_BYTES_MAX;
use crate::model::{CallId, ProcessSpec, Progress, ToolResult, WorkHandle};

/// The work that a tool asks the engine to do for a call.
pub enum Work {
    /// A process, whose output is the result.
    Process(ProcessSpec),
    /// Code inside the server.
    InProcess(Box<dyn InProcess>),
    /// Work that is done elsewhere, followed by its events. Stopping the call stops the following,
    /// not the work. A stream that ends without [`WorkEvent::Ended`] is a failure.
    Followed(BoxStream<'static, WorkEvent>),
}

/// An event of work that is done elsewhere.
#[derive(Debug)]
pub enum WorkEvent {
    /// The progress of the work.
    Progress(Progress),
    /// More output.
    Output(Bytes),
    /// The end. The result repeats nothing of the output.
    Ended(Box<ToolResult>),
}

/// Work that runs inside the server.
#[async_trait]
pub trait InProcess: Send {
    /// Runs to the end.
    ///
    /// Once [`ToolContext::cancellation_token`] is cancelled, the result isn't wanted any more: the
    /// work has the grace of the stop to return, and is dropped after it.
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult;
}

/// A report of work that runs inside the server.
#[derive(Debug)]
pub enum WorkReport {
    /// The progress of the work.
    Progress(Progress),
    /// More output.
    Output(Bytes),
    /// The handle under which a later server finds the work again.
    Handle(WorkHandle),
    /// The work cannot be found under its handle.
    HandleForgotten,
}

/// The run that code inside the server belongs to: its call, its reports, and its cancellation.
#[derive(Debug, Clone)]
pub struct ToolContext {
    call_id: CallId,
    reports: mpsc::Sender<WorkReport>,
    cancellation: CancellationToken,
}

impl ToolContext {
    /// Creates the context of one run, and the receiver of its reports, of which `reports_max` may
    /// wait.
    pub(crate) fn new(call_id: CallId, reports_max: usize) -> (Self, mpsc::Receiver<WorkReport>) {
        let (reports, receiver) = mpsc::channel(reports_max);
        (Self { call_id, reports, cancellation: CancellationToken::new() }, receiver)
    }

    /// Returns the id of the call.
    pub fn call_id(&self) -> CallId {
        self.call_id
    }

    /// Returns the token that is cancelled when the result isn't wanted any more.
    pub fn cancellation_token(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Reports progress. Waits while the session's log takes no more.
    pub async fn progress(&self, progress: Progress) {
        self.report(WorkReport::Progress(progress)).await;
    }

    /// Appends to the output of the call, which readers see at once and which is part of the
    /// result. Waits while the session's log takes no more.
    pub async fn output(&self, data: impl Into<Bytes>) {
        let mut data = data.into();
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(OUTPUT_CHUNK_BYTES_MAX));
            self.report(WorkReport::Output(piece)).await;
        }
    }

    /// Keeps the handle of work that is done outside of this server, with which a later server
    /// [takes it up](super::CallableTool::take_up). The work should not be waited for before this returns.
    pub async fn keep_handle(&self, handle: WorkHandle) {
        self.report(WorkReport::Handle(handle)).await;
    }

    /// Reports that the work cannot be found under its handle. The result is not used then: the call is
    /// LOST, or run again if its tool is idempotent.
    pub async fn forget_handle(&self) {
        self.report(WorkReport::HandleForgotten).await;
    }

    async fn report(&self, report: WorkReport) {
        // The receiver is gone once the run is over: the report is of no use then.
        let _over = self.reports.send(report).await;
    }
}
