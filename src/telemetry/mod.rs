//! Metrics and logs.
//!
//! Every server has a registry of its own in its [`Metrics`]. Only the subscriber of the logs is
//! global, so several servers in one process have separate metrics.

mod audit;
mod configured;
mod follow_ups;
mod http;
mod label;
mod log;
mod log_rate;
mod metrics;
pub mod name;
pub mod operations;
mod quotas;
mod registry;
mod rejected_credentials;
mod replicas;
mod rpc;

pub use follow_ups::FollowUpMetrics;
pub use label::{
    CallCap, ConnectionRefusal, ForwardOutcome, HttpRefusal, HttpService, LogSource, RecordKind,
    TenantLimit,
};
pub use log::{LogFormat, TelemetryError, init_tracing};
pub use log_rate::LogRate;
pub use metrics::{GaugeGuard, Metrics};
pub use quotas::QuotaMetrics;
pub use replicas::ReplicaMetrics;
pub use rpc::RpcMetrics;
