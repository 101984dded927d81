//! The way in which a connection reports its end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::transport::fault::ConnectFault;

/// Reports the end of a connection to its pool.
#[derive(Clone)]
pub(super) struct ConnectionHandle {
    answered: Arc<AtomicBool>,
    on_loss: Arc<dyn Fn(bool, Option<ConnectFault>) + Send + Sync>,
}

impl ConnectionHandle {
    /// Creates the handle of a connection that is about to be opened. `on_loss` is called with whether it
    /// has answered, and with its fault.
    pub(super) fn new(
        on_loss: impl Fn(bool, Option<ConnectFault>) + Send + Sync + 'static,
    ) -> Self {
        Self { answered: Arc::default(), on_loss: Arc::new(on_loss) }
    }

    /// Returns the mark of a connection that has answered.
    pub(super) fn answered(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.answered)
    }

    /// Reports that the connection takes no further requests, and its fault.
    pub(super) fn lost(&self, fault: Option<ConnectFault>) {
        (self.on_loss)(self.answered.load(Ordering::Relaxed), fault);
    }
}
