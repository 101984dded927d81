//! The wall clock, which is read here and nowhere else, and sleeping until a deadline.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::model::Timestamp;

/// A source of the wall-clock time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "only this function reads the clock")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// Sleeps until the deadline, or forever if there is none.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
