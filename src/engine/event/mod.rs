//! Streams of events and of task changes.

mod cursor;
mod scope;
mod stream;
mod task_changes;

use std::sync::Arc;

use rand::RngExt;
use tokio::time::Instant;

use super::Shared;

pub use stream::{GapPolicy, StreamItem, StreamQuery};
pub use task_changes::TaskUpdate;

/// The streams of an engine.
#[derive(Debug, Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

impl Events {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone() }
    }

    /// Returns the time at which a stream that starts now must end. It varies, so that clients
    /// whose streams started together do not all attach again together.
    fn expiry(&self) -> Instant {
        let factor = rand::rng().random_range(0.9..=1.1);
        Instant::now() + self.shared.options.stream_age.mul_f64(factor)
    }
}
