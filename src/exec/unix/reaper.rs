//! The tasks that outlive the process that they are about.

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks that reap leaders which were dropped alive, and that search for what calls have left.
#[derive(Debug, Clone)]
pub(super) struct Reaper {
    pub(super) tasks: TaskTracker,
    pub(super) runtime: Handle,
    /// Cancelled when the tasks must no longer be delayed.
    pub(super) closing: CancellationToken,
}
