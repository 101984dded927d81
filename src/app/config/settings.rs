//! The table of all settings: each is declared here, once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::table::{Derivation, settings};
use super::value::{AuthMode, ByteSize, LogFilter, VariableName};
use crate::model::limits;
use crate::telemetry::LogFormat;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const SPAN_MAX: Duration = Duration::from_secs(limits::SPAN_SECONDS_MAX);
const GRACE_MAX: Duration = Duration::from_millis(limits::GRACE_MS_MAX);
const KIB: ByteSize = ByteSize::new(1 << 10);
const MIB: ByteSize = ByteSize::new(1 << 20);
const GIB: ByteSize = ByteSize::new(1 << 30);

settings! {
    "Network" {
        /// Addresses that take gRPC; port 0 is any free one.
        listen: Vec<SocketAddr> = "127.0.0.1:50051", "ADDRESS[,ADDRESS]";
        /// Listen beyond loopback although nothing is encrypted: tokens and output can be read on
        /// the way.
        allow_remote_plaintext: bool = "false", "BOOL";
        /// PEM file with the server's certificate and those between it and its root.
        tls_cert: Option<PathBuf> = "none", "FILE";
        /// PEM file with the key of the certificate.
        tls_key: Option<PathBuf> = "none", "FILE";
        /// PEM file with roots of clients' certificates; clients without one of them are refused.
        tls_client_ca: Option<PathBuf> = "none", "FILE";
        /// Address of the HTTP server for /metrics, /healthz and /readyz, which has no
        /// authentication.
        admin_listen: Option<SocketAddr> = "none", "ADDRESS";
    }
    "Storage and access" {
        /// Folder of the store; it is made if it is missing.
        data_dir: PathBuf = "$XDG_STATE_HOME/callpark or ~/.local/state/callpark"
            derived by data_dir, "FOLDER";
        /// File with the token that callers must show; it is written if it is missing.
        token_file: PathBuf = "<data-dir>/token" derived by token_file, "FILE";
        /// How callers show who they are; `none` is for loopback addresses only.
        auth: AuthMode = "token", "MODE";
    }
    "Logs" {
        /// How the lines of the log on standard error are written.
        log_format: LogFormat = "text", "FORMAT";
        /// What is logged: a level, or directives such as info,callpark::engine=debug.
        log_filter: LogFilter = "info,refinery_core=warn,rmcp=off", "FILTER";
    }
    "Connections" {
        /// Connections at the same time; one more is closed.
        max_connections: usize = "10000", "COUNT" in 1..=1_000_000;
        /// Connections at the same time from one IPv4 address or /64 network of IPv6.
        max_connections_per_peer: usize = "256", "COUNT" in 1..=1_000_000;
        /// Connections at the same time whose handshake isn't done.
        max_pending_handshakes: usize = "512", "COUNT" in 1..=100_000;
        /// How long a new connection may take for TLS and its first bytes of HTTP/2.
        handshake_timeout: Duration = "5s", "TIME" in SECOND / 10..=MINUTE * 5;
        /// Requests and streams at the same time on one connection.
        max_streams_per_connection: u32 = "128", "COUNT" in 1..=100_000;
        /// Malformed requests on one connection before it is closed.
        max_local_error_resets: usize = "128", "COUNT" in 1..=100_000;
        /// Metadata of one request.
        max_header_list: ByteSize = "16KiB", "SIZE" in KIB..=MIB;
        /// Pause between two HTTP/2 pings that ask whether a peer is still there.
        keepalive_interval: Duration = "20s", "TIME" in SECOND..=HOUR;
        /// How long the answer to such a ping may take before the connection is closed.
        keepalive_timeout: Duration = "10s", "TIME" in SECOND..=HOUR;
    }
    "Requests and streams" {
        /// One request.
        max_request: ByteSize = "4MiB", "SIZE" in ByteSize::new(64 << 10)..=GIB;
        /// One answer, or one message of a stream.
        max_response: ByteSize = "4MiB", "SIZE" in MIB..=GIB;
        /// How long the body of a request may take to arrive.
        request_read_timeout: Duration = "30s", "TIME" in SECOND / 10..=HOUR;
        /// A stream that was silent for this long says that it is alive.
        heartbeat: Duration = "15s", "TIME" in SECOND / 10..=HOUR;
        /// Age at which a stream is asked to come again, give or take a tenth.
        stream_age: Duration = "1h", "TIME" in SECOND..=SPAN_MAX;
    }
    "Calls" {
        /// How long a call of a built-in tool holds its caller before it is parked.
        call_budget: Duration = "10m", "TIME" in Duration::ZERO..=SPAN_MAX;
        /// How long a run may take unless its tool or its call says otherwise.
        execution_timeout: Duration = "1h", "TIME" in SECOND / 1000..=SPAN_MAX;
        /// From TERM to KILL when a run is stopped.
        grace: Duration = "5s", "TIME" in Duration::ZERO..=GRACE_MAX;
        /// How long output is read after a process has exited.
        output_drain: Duration = "2s", "TIME" in Duration::ZERO..=MINUTE;
        /// Live calls of a session that names no number of its own.
        max_live_tasks: u32 = "32", "COUNT" in 1..=limits::LIVE_TASKS_MAX;
        /// Calls that run at the same time on this server; others wait.
        max_running_calls: usize = "64 x cores" derived by max_running_calls, "COUNT"
            in 1..=1_000_000;
        /// Where command tools run unless they or their calls say otherwise; none: where the
        /// server runs.
        working_directory: Option<PathBuf> = "none", "FOLDER";
        /// How far processes of tools stand behind the server when both want a core: the steps of
        /// `nice` by which theirs is above the server's own.
        tool_niceness: u32 = "5", "STEPS" in 0..=19;
        /// Names of the server's variables that tools see.
        tool_environment: Vec<VariableName> =
            "PATH,HOME,LANG,LC_ALL,TZ,USER,LOGNAME,SHELL,TMPDIR", "NAME[,NAME]";
    }
    "Agents" {
        /// The model of turns whose session names none, by its name in the tables `models`; none: the
        /// first of them.
        default_model: Option<String> = "none", "NAME";
        /// The same for turns that are started in the background; none: that of other turns.
        background_model: Option<String> = "none", "NAME";
        /// The system message of turns whose session has none.
        system_message: Option<String> = "none", "TEXT";
        /// Pause before the second attempt at a request to a model. It doubles with each one, up to
        /// ten times as much; half of it or more is waited for, by chance.
        model_retry_delay: Duration = "3s", "TIME" in SECOND / 1000..=MINUTE;
        /// Half of the longest pause before the second attempt at delivering a follow-up. It doubles
        /// with each attempt, up to 5 min; a part of it is waited for, by chance.
        follow_up_delay: Duration = "1s", "TIME" in SECOND / 1000..=MINUTE;
    }
    "Lifetimes" {
        /// How long finished tasks and request ids are kept.
        retention: Duration = "1day", "TIME" in SECOND..=SPAN_MAX * 12;
        /// Events kept of one session; older ones are trimmed.
        session_events_max: u64 = "10000000", "COUNT" in 1_000..=u64::MAX >> 1;
        /// Pause between two removals of what has expired.
        sweep_interval: Duration = "1m", "TIME" in SECOND / 10..=HOUR * 24;
        /// How long requests and streams may take to end when the server stops.
        drain: Duration = "20s", "TIME" in Duration::ZERO..=HOUR;
    }
}

fn data_dir(from: &Derivation<'_>) -> Result<String, String> {
    match from.environment.xdg("XDG_STATE_HOME", ".local/state") {
        Some(folder) => Ok(folder.join("callpark").display().to_string()),
        None => Err("it has no default here, since neither $XDG_STATE_HOME nor $HOME is set: \
                     name a folder"
            .to_owned()),
    }
}

fn token_file(from: &Derivation<'_>) -> Result<String, String> {
    // Without a data-dir there is a fault already, and a second one would say nothing new.
    let folder = from.value("data_dir").unwrap_or_default();
    Ok(Path::new(folder).join("token").display().to_string())
}

fn max_running_calls(_: &Derivation<'_>) -> Result<String, String> {
    // Where the number of cores can't be told, as if there were one.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok((cores * limits::RUNNING_CALLS_PER_CORE).to_string())
}
