//! What stands for `tokio::task` and `tokio_util::task`: shuttle's.

pub use shuttle_tokio::task::spawn_blocking;
pub use shuttle_tokio_util::task::TaskTracker;
