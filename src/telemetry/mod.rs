//! What the server tells of itself: metrics and logs.
//!
//! Every server has a registry of its own in its [`Metrics`]: nothing here is global but the
//! subscriber of the logs, so several servers in one process count apart.

mod configured;
mod follow_ups;
mod label;
mod log;
mod metrics;
pub mod name;
mod rpc;

pub use follow_ups::FollowUpMetrics;
pub use label::{CallCap, ConnectionRefusal, LogSource};
pub use log::{LogFormat, TelemetryError, init_tracing};
pub use metrics::{Held, Metrics};
pub use rpc::RpcMetrics;
