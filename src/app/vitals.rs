//! The signs of life of a server that serves, for the supervisor of the process.

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, Error};

/// The state of a server, which can be asked while the server serves.
pub(crate) struct Vitals {
    pub(super) engine: Engine,
    pub(super) ready: watch::Receiver<bool>,
}

impl Vitals {
    /// Waits until the server serves.
    pub(crate) async fn ready(&self) {
        // Without a sender the server has ended, and the future is dropped with it.
        if self.ready.clone().wait_for(|&ready| ready).await.is_err() {
            std::future::pending().await
        }
    }

    /// Returns the number of calls that run at the moment.
    pub(crate) fn running_calls(&self) -> usize {
        self.engine.running_calls()
    }

    /// Checks that the runtime runs tasks and that changes can be stored. Does not return while one of
    /// them hangs.
    ///
    /// # Errors
    /// The store's reason for taking no changes until the server is started again.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        let task = TaskTracker::new().spawn(async {});
        // A task without content has no way to fail, unless the runtime is about to end.
        let _done = task.await;
        self.engine.check().await
    }
}
