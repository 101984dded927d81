//! A live call, as its actor holds it.

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::time::delay_queue;

use crate::exec::{OutputBefore, Stop};
use crate::tool::Work;

/// The actor's state of a live call, beside the call's record.
#[derive(Default)]
pub(super) struct LiveCall {
    /// The number of callers that wait for the call in the foreground.
    pub(super) callers: u32,
    /// The work, until it runs.
    pub(super) work: Option<Box<Work>>,
    /// The output of earlier attempts, until the work runs.
    pub(super) output_before: Option<Box<OutputBefore>>,
    /// The slot, until the work runs.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// Ends the search for a slot.
    pub(super) slot_search: Option<CancellationToken>,
    /// The sender of stop requests, once the work runs.
    pub(super) stops: Option<watch::Sender<Option<Stop>>>,
    /// The size of the output that the log has already of the attempt, in bytes.
    pub(super) logged_bytes: u64,
    /// `true` if the work is a process, which may outlive this server.
    pub(super) is_process: bool,
    pub(super) timers: [Option<delay_queue::Key>; 3],
}
