//! Metrics and logs.
//!
//! Every server has a registry of its own in its [`Metrics`]. Only the subscriber of the logs is
//! global, so several servers in one process have separate metrics.

mod configured;
mod follow_ups;
mod label;
mod log;
mod metrics;
pub mod name;
mod registry;
mod rpc;

pub use follow_ups::FollowUpMetrics;
pub use label::{CallCap, ConnectionRefusal, LogSource, RecordKind};
pub use log::{LogFormat, TelemetryError, init_tracing};
pub use metrics::{GaugeGuard, Metrics};
pub use rpc::RpcMetrics;
