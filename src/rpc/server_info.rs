//! The answer of GetServerInfo.

use std::time::Duration;

use callpark_proto::v1;

use super::MessageLimits;
use super::convert::{duration, timestamp};
use crate::auth::Caller;
use crate::exec::ShimStatus;
use crate::model::Timestamp;
use crate::model::limits::{
    ARGUMENTS_BYTES_MAX, ARGUMENTS_DEPTH_MAX, EVENT_BYTES_MAX, LIVE_TASKS_MAX, OUTPUT_BYTES_MAX,
    PAGE_SIZE_MAX, STDIN_BYTES_MAX, WAIT_SECONDS_MAX,
};

/// Facts about this server that its callers may ask for.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// The kind of store, such as `sqlite`.
    pub store: &'static str,
    /// The limits on the sizes of messages.
    pub limits: MessageLimits,
    /// The number of calls that may run at the same time.
    pub running_calls_max: usize,
    /// The default budget of a call.
    pub call_budget: Duration,
    /// The default execution timeout of a call.
    pub execution_timeout: Duration,
    /// The time for which finished tasks are kept.
    pub retention: Duration,
    /// The time at which the server started.
    pub start_time: Timestamp,
}

/// The optional parts that the server was built with.
const FEATURES: &[&str] = &[
    #[cfg(feature = "acp")]
    "acp",
    #[cfg(feature = "jwt")]
    "jwt",
    #[cfg(feature = "mcp")]
    "mcp",
    #[cfg(feature = "openai")]
    "openai",
    #[cfg(feature = "postgres")]
    "postgres",
];

impl ServerInfo {
    pub(super) fn response(
        &self,
        shims: Vec<ShimStatus>,
        caller: &Caller,
        now: Timestamp,
    ) -> v1::GetServerInfoResponse {
        let bytes = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        let seconds = |seconds: u64| Some(duration(Duration::from_secs(seconds)));
        let limits = v1::ServerLimits {
            request_bytes_max: bytes(self.limits.request_bytes_max),
            arguments_bytes_max: bytes(ARGUMENTS_BYTES_MAX),
            arguments_depth_max: i32::try_from(ARGUMENTS_DEPTH_MAX).unwrap_or(i32::MAX),
            output_bytes_max: i64::try_from(OUTPUT_BYTES_MAX).unwrap_or(i64::MAX),
            event_bytes_max: bytes(EVENT_BYTES_MAX),
            page_size_max: count(PAGE_SIZE_MAX),
            running_calls_max: bytes(self.running_calls_max),
            live_tasks_max: count(LIVE_TASKS_MAX),
            call_budget_default: Some(duration(self.call_budget)),
            execution_timeout_default: Some(duration(self.execution_timeout)),
            wait_max: seconds(WAIT_SECONDS_MAX),
            retention: Some(duration(self.retention)),
            stdin_bytes_max: bytes(STDIN_BYTES_MAX),
        };
        v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: FEATURES.iter().map(|name| (*name).to_owned()).collect(),
            store: self.store.to_owned(),
            limits: Some(limits),
            start_time: Some(timestamp(self.start_time)),
            current_time: Some(timestamp(now)),
            shims: shims.into_iter().map(shim).collect(),
            caller: Some(v1::Caller {
                tenant: caller.principal.tenant.as_str().to_owned(),
                name: caller.principal.name.to_string(),
                scopes: caller.principal.scopes.iter().map(|scope| scope.to_string()).collect(),
                credential_id: caller.credential_id.as_deref().unwrap_or_default().to_owned(),
                expire_time: caller.expire_time.map(timestamp),
            }),
        }
    }
}

fn shim(status: ShimStatus) -> v1::Shim {
    let ShimStatus { pid, version, runs, spooled_bytes } = status;
    v1::Shim {
        pid: i32::try_from(pid).unwrap_or_default(),
        version,
        running_calls: i32::try_from(runs).unwrap_or(i32::MAX),
        spooled_bytes: i64::try_from(spooled_bytes).unwrap_or(i64::MAX),
    }
}
