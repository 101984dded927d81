//! The names and descriptions of all metrics, and the buckets of the histograms.

use metrics::{KeyName, Recorder, Unit};

/// Calls accepted. Labels: `tool_kind`.
pub const CALLS_STARTED: &str = "callpark_calls_started_total";
/// Calls that were parked. Labels: `tool_kind`.
pub const CALLS_PARKED: &str = "callpark_calls_parked_total";
/// Calls that ended. Labels: `tool_kind`, `state`.
pub const CALLS_FINISHED: &str = "callpark_calls_finished_total";
/// Calls refused before they started. Labels: `cap`.
pub const CALLS_REFUSED: &str = "callpark_calls_refused_total";
/// Calls that haven't ended.
pub const CALLS_LIVE: &str = "callpark_calls_live";
/// Calls whose work is running.
pub const CALLS_RUNNING: &str = "callpark_calls_running";
/// Shims that this server is connected to.
pub const SHIMS: &str = "callpark_shims";
/// Runs of these shims.
pub const SHIM_RUNS: &str = "callpark_shim_runs";
/// Output that these shims had in files when this server connected to them.
pub const SHIM_SPOOLED_BYTES: &str = "callpark_shim_spooled_bytes";
/// Requests answered from the record of an earlier one with the same request id.
pub const REQUESTS_REPLAYED: &str = "callpark_requests_replayed_total";
/// Tasks removed after their retention.
pub const TASKS_EXPIRED: &str = "callpark_tasks_expired_total";

/// Follow-ups by outcome. Labels: `outcome`, which is `scheduled`, `delivered`, `suppressed`,
/// `dead_lettered`, or `failed` for an attempt.
pub const FOLLOW_UPS: &str = "callpark_follow_ups_total";
/// Follow-ups that could not be read back when they were looked at.
pub const RECORDS_UNREADABLE: &str = "callpark_records_unreadable_total";

/// Events written to the log.
pub const EVENTS_APPENDED: &str = "callpark_events_appended_total";
/// Events removed from the beginning of a session's log.
pub const SEQUENCES_TRIMMED: &str = "callpark_sequences_trimmed_total";
/// Output of calls. Labels: `disposition`, which is `kept` or `dropped`.
pub const OUTPUT_BYTES: &str = "callpark_output_bytes_total";
/// The time from sending an append to the store until it is durable.
pub const STORE_APPEND_SECONDS: &str = "callpark_store_append_duration_seconds";
/// Appends in one commit of the store.
pub const STORE_COMMIT_APPENDS: &str = "callpark_store_commit_appends";
/// Pages of logs that readers asked for. Labels: `source`, which is `store` or `memory`.
pub const LOG_READS: &str = "callpark_log_reads_total";

/// Finished attempts at requests to models, and at turns of agents that run their own loop. Labels: `model`, and `outcome`, which is `ok` or the name of the error.
pub const MODEL_REQUESTS: &str = "callpark_model_requests_total";
/// Tokens that models and agents have used. Labels: `model`, and `direction`, which is `input`,
/// `cached_input`, a part of the input, or `output`.
pub const MODEL_TOKENS: &str = "callpark_model_tokens_total";
/// Answers of models whose reasoning or signatures were not kept, because they exceed their limit.
/// Labels: `model`.
pub const PROVIDER_DATA_DROPPED: &str = "callpark_model_data_dropped_total";
/// Starts of MCP servers, and connections to them. Labels: `server`, and `outcome`, which is `started`
/// or `failed`.
pub const MCP_STARTS: &str = "callpark_mcp_starts_total";
/// Texts of MCP servers that are of no use: neither a message nor a part of one. Labels: `server`.
pub const MCP_UNREADABLE: &str = "callpark_mcp_unreadable_total";
/// Calls that agents made with their own tools and that were left out of the log, because a turn had
/// too many.
/// Labels: `model`.
pub const AGENT_CALLS_LEFT_OUT: &str = "callpark_agent_calls_left_out_total";

/// RPCs that ended. Labels: `method`, `code`.
pub const RPC_REQUESTS: &str = "callpark_rpc_requests_total";
/// The time from the head of a request to the end of its response. Labels: `method`.
pub const RPC_SECONDS: &str = "callpark_rpc_duration_seconds";
/// Requests that were forwarded to the server that owns their session. Labels: `outcome`, which is
/// `answered`, `not_owner`, `unreachable`, `lost` or `cancelled`.
pub const RPC_FORWARDED: &str = "callpark_rpc_forwarded_total";
/// Requests, calls and sessions that were refused because of a limit of their tenant. Labels: `limit`.
pub const QUOTA_REFUSED: &str = "callpark_quota_refused_total";
/// Losses of the lease of this server.
pub const LEASES_LOST: &str = "callpark_leases_lost_total";
/// Sessions with live calls that this server has taken over from others.
pub const SESSIONS_TAKEN_OVER: &str = "callpark_sessions_taken_over_total";
/// Steps of the machine's clock, which times do not follow. Labels: `direction`, which is `forward` or
/// `back`.
pub const CLOCK_STEPS: &str = "callpark_clock_steps_total";

/// Open response streams.
pub const STREAMS_OPEN: &str = "callpark_streams_open";

/// Open connections, from the end of their handshake.
pub const CONNECTIONS_OPEN: &str = "callpark_connections_open";
/// Connections whose handshake succeeded.
pub const CONNECTIONS_ACCEPTED: &str = "callpark_connections_accepted_total";
/// Connections closed before they could be used. Labels: `reason`.
pub const CONNECTIONS_REFUSED: &str = "callpark_connections_refused_total";
/// Failures of the operating system to accept a connection, such as too many open files.
pub const ACCEPT_ERRORS: &str = "callpark_accept_errors_total";

/// Open connections of the services on HTTP/1. Labels: `service`.
pub const HTTP_CONNECTIONS_OPEN: &str = "callpark_http_connections_open";
/// Connections of those services that were closed without use, or before their end. Labels:
/// `service`, `reason`.
pub const HTTP_CONNECTIONS_REFUSED: &str = "callpark_http_connections_refused_total";

/// Lines of the audit log that were written.
pub const AUDIT_LINES: &str = "callpark_audit_lines_total";
/// Entries of the audit log that were lost. Labels: `reason`, which is `disk`, `full` or `closed`.
pub const AUDIT_LOST: &str = "callpark_audit_lost_total";

/// The buckets of RPC times in seconds: from a quick answer from memory to the longest wait.
pub(super) const RPC_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 600.0];
/// The buckets of append times in seconds. A durable write takes a fraction of a millisecond on a
/// good disk.
pub(super) const APPEND_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// The buckets of commits, in appends.
pub(super) const COMMIT_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

const COUNTERS: &[(&str, Unit, &str)] = &[
    (CALLS_STARTED, Unit::Count, "Calls accepted"),
    (CALLS_PARKED, Unit::Count, "Calls that were parked"),
    (CALLS_FINISHED, Unit::Count, "Calls that ended, by terminal state"),
    (CALLS_REFUSED, Unit::Count, "Calls refused before they started, by limit"),
    (REQUESTS_REPLAYED, Unit::Count, "Requests answered from the record of an earlier one"),
    (TASKS_EXPIRED, Unit::Count, "Tasks removed after their retention"),
    (FOLLOW_UPS, Unit::Count, "Follow-ups by outcome"),
    (RECORDS_UNREADABLE, Unit::Count, "Reads of records that could not be read back"),
    (EVENTS_APPENDED, Unit::Count, "Events written to the log"),
    (SEQUENCES_TRIMMED, Unit::Count, "Events removed from the beginning of a session's log"),
    (OUTPUT_BYTES, Unit::Bytes, "Output of calls, kept or dropped"),
    (CLOCK_STEPS, Unit::Count, "Steps of the machine's clock, which times do not follow"),
    (LOG_READS, Unit::Count, "Pages of logs that readers asked for, by source"),
    (MODEL_REQUESTS, Unit::Count, "Attempts at requests to models, by outcome"),
    (MODEL_TOKENS, Unit::Count, "Tokens that models have used"),
    (
        PROVIDER_DATA_DROPPED,
        Unit::Count,
        "Answers of models whose reasoning or signatures were not kept",
    ),
    (MCP_STARTS, Unit::Count, "Starts of MCP servers, by outcome"),
    (MCP_UNREADABLE, Unit::Count, "Texts of MCP servers that are of no use"),
    (
        AGENT_CALLS_LEFT_OUT,
        Unit::Count,
        "Calls of agents left out of the log, in turns with too many",
    ),
    (RPC_REQUESTS, Unit::Count, "RPCs that ended, by status code"),
    (QUOTA_REFUSED, Unit::Count, "Requests, calls and sessions refused by a limit of their tenant"),
    (LEASES_LOST, Unit::Count, "Losses of the lease of this server"),
    (SESSIONS_TAKEN_OVER, Unit::Count, "Sessions that this server has taken over from others"),
    (RPC_FORWARDED, Unit::Count, "Requests forwarded to other servers of the store, by outcome"),
    (CONNECTIONS_ACCEPTED, Unit::Count, "Connections whose handshake ended well"),
    (CONNECTIONS_REFUSED, Unit::Count, "Connections closed before they could be used"),
    (
        HTTP_CONNECTIONS_REFUSED,
        Unit::Count,
        "Connections on HTTP/1 that were closed without use, or before their end",
    ),
    (ACCEPT_ERRORS, Unit::Count, "Failures of the system to accept a connection"),
    (AUDIT_LINES, Unit::Count, "Lines of the audit log that were written"),
    (AUDIT_LOST, Unit::Count, "Entries of the audit log that were lost, by reason"),
];

const GAUGES: &[(&str, &str)] = &[
    (CALLS_LIVE, "Calls that haven't ended"),
    (CALLS_RUNNING, "Calls whose work is running"),
    (SHIMS, "Shims that this server is connected to"),
    (SHIM_RUNS, "Runs of these shims"),
    (SHIM_SPOOLED_BYTES, "Output that these shims had in files when this server connected"),
    (STREAMS_OPEN, "Open response streams"),
    (CONNECTIONS_OPEN, "Open connections"),
    (HTTP_CONNECTIONS_OPEN, "Open connections on HTTP/1, by service"),
];

const HISTOGRAMS: &[(&str, Unit, &str)] = &[
    (RPC_SECONDS, Unit::Seconds, "Time from the head of a request to the end of its response"),
    (
        STORE_APPEND_SECONDS,
        Unit::Seconds,
        "Time from sending an append to the store until it is durable",
    ),
    (STORE_COMMIT_APPENDS, Unit::Count, "Appends in one commit of the store"),
];

/// Registers the description of each metric.
pub(super) fn describe(recorder: &impl Recorder) {
    for (name, unit, help) in COUNTERS {
        recorder.describe_counter(KeyName::from(*name), Some(*unit), (*help).into());
    }
    for (name, help) in GAUGES {
        recorder.describe_gauge(KeyName::from(*name), Some(Unit::Count), (*help).into());
    }
    for (name, unit, help) in HISTOGRAMS {
        recorder.describe_histogram(KeyName::from(*name), Some(*unit), (*help).into());
    }
}
