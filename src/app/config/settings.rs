//! The table of all settings: the one place for their names, help, defaults and bounds.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::{ListenAddress, SocketMode, TcpAddress};
use super::advertise::AdvertisedAddress;
use super::environment::Environment;
use super::store_address::StoreAddress;
use super::table::define_settings;
use super::value::{AuthMode, ByteSize, LogFilter, VariableName};
use crate::model::limits;
use crate::telemetry::LogFormat;

const SPAN_MAX: Duration = seconds(limits::SPAN_SECONDS_MAX);

/// The address of a server that only this machine reaches.
const LOOPBACK: ListenAddress = ListenAddress::Tcp(TcpAddress::Ip(SocketAddr::V4(
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, 50051),
)));

/// The variables that tools see: where programs, files and languages are.
const TOOL_VARIABLES: [&str; 9] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR"];

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn minutes(count: u64) -> Duration {
    seconds(60 * count)
}

const fn hours(count: u64) -> Duration {
    minutes(60 * count)
}

define_settings! {
    "Network" {
        /// Addresses that take gRPC: a host and a port (0 is any free one), or a Unix domain socket
        /// such as unix:/run/callpark.sock.
        listen: Vec<ListenAddress> = vec![LOOPBACK], "ADDRESS[,ADDRESS]";
        /// Permissions of the files of Unix domain sockets, in octal: 600 for the server's user, 660
        /// also for its group, 666 for everybody on this machine.
        socket_mode: SocketMode = SocketMode::OWNER, "MODE";
        /// Listen beyond loopback although nothing is encrypted: tokens and output can be read on
        /// the way.
        allow_remote_plaintext: bool = false, "BOOL";
        /// PEM file with the server's certificate, followed by its intermediate certificates.
        tls_cert: Option<PathBuf> = None, "FILE";
        /// PEM file with the key of the certificate.
        tls_key: Option<PathBuf> = None, "FILE";
        /// PEM file with root certificates; clients must show a certificate from one of them.
        tls_client_ca: Option<PathBuf> = None, "FILE";
        /// Address of the HTTP server for /metrics, /healthz and /readyz, which has no
        /// authentication.
        admin_listen: Option<TcpAddress> = None, "ADDRESS";
    }
    "Storage and access" {
        /// Store: `sqlite` for a database in the data folder, or the URL of a PostgreSQL database
        /// such as postgres://user@host/database?sslmode=require.
        store: StoreAddress = StoreAddress::Sqlite, "ADDRESS";
        /// File with the password of the PostgreSQL database. Without one it is that of the URL, of
        /// `$PGPASSWORD`, or of the database's line in `$PGPASSFILE` or `~/.pgpass`.
        store_password_file: Option<PathBuf> = None, "FILE";
        /// PEM file with root certificates of the PostgreSQL server, instead of those of the system.
        store_ca: Option<PathBuf> = None, "FILE";
        /// Time for which a start waits for a PostgreSQL database that cannot be reached.
        store_wait: Duration = seconds(30), "TIME" in Duration::ZERO..=hours(1);
        /// Address at which the other servers of a PostgreSQL database reach this one: a host and a port (0
        /// is that of the first address in `listen`), with `http://` or `https://` in front if it is not to
        /// follow from `tls-cert`.
        advertise: Option<AdvertisedAddress> = None, "ADDRESS";
        /// PEM file with root certificates of the other servers, instead of those of the system. With
        /// `tls-client-ca` the servers show each other their own certificates.
        replica_ca: Option<PathBuf> = None, "FILE";
        /// Folder of the server's files, which no other server may use; created if missing.
        data_dir: PathBuf
            => data_dir as "$XDG_STATE_HOME/callpark or ~/.local/state/callpark", "FOLDER";
        /// File with the token that callers must show; created if missing.
        token_file: PathBuf => token_file as "<data-dir>/token", "FILE";
        /// File with API keys, which `callpark keys` creates and revokes. The server reads it again when
        /// it changes.
        keys_file: PathBuf => keys_file as "<data-dir>/keys", "FILE";
        /// Authentication of callers, by the token, an API key, or a JSON Web Token of the tables
        /// `jwt_issuers`; `none` is for loopback addresses and Unix domain sockets only.
        auth: AuthMode = AuthMode::Token, "MODE";
        /// Accept callers on a Unix domain socket without a token if they run as the server's user.
        socket_user_auth: bool = false, "BOOL";
    }
    "Logs" {
        /// Format of the log on standard error.
        log_format: LogFormat = LogFormat::Text, "FORMAT";
        /// Filter of the log: a level, or directives such as info,callpark::engine=debug.
        log_filter: LogFilter = LogFilter::default(), "FILTER";
    }
    "Audit" {
        /// File with a line of JSON for everything that callers start, cancel, delete and close, for changes
        /// of keys and for refused credentials; `none` is no audit log.
        audit_file: Option<PathBuf> = None, "FILE";
        /// Size after which the audit log goes on in another file.
        audit_bytes_max: ByteSize
            = ByteSize::mib(64), "SIZE" in ByteSize::kib(64)..=ByteSize::mib(1024);
        /// Number of files of the audit log that are kept, with the one that is written.
        audit_files: usize = 10, "COUNT" in 2..=10_000;
    }
    "Connections" {
        /// Maximum number of connections; more are closed.
        max_connections: usize = 10_000, "COUNT" in 1..=1_000_000;
        /// Maximum number of connections from one IPv4 address or /64 network of IPv6, or of one user
        /// on Unix domain sockets.
        max_connections_per_peer: usize = 256, "COUNT" in 1..=1_000_000;
        /// Maximum number of connections whose handshake is under way.
        max_pending_handshakes: usize = 512, "COUNT" in 1..=100_000;
        /// Time that a new connection has for TLS and its first bytes of HTTP/2.
        handshake_timeout: Duration = seconds(5), "TIME" in millis(100)..=minutes(5);
        /// Maximum number of requests and streams at the same time on one connection.
        max_streams_per_connection: u32 = 128, "COUNT" in 1..=100_000;
        /// Number of malformed requests after which a connection is closed.
        max_local_error_resets: usize = 128, "COUNT" in 1..=100_000;
        /// Maximum size of the metadata of one request.
        max_header_list: ByteSize
            = ByteSize::kib(16), "SIZE" in ByteSize::kib(1)..=ByteSize::mib(1);
        /// Time between two HTTP/2 pings to a peer.
        keepalive_interval: Duration = seconds(20), "TIME" in seconds(1)..=hours(1);
        /// Time to answer such a ping before the connection is closed.
        keepalive_timeout: Duration = seconds(10), "TIME" in seconds(1)..=hours(1);
    }
    "Requests and streams" {
        /// Maximum size of one request.
        max_request: ByteSize
            = ByteSize::mib(4), "SIZE" in ByteSize::kib(64)..=ByteSize::mib(1024);
        /// Maximum size of one response, or of one message of a stream.
        max_response: ByteSize
            = ByteSize::mib(4), "SIZE" in ByteSize::mib(1)..=ByteSize::mib(1024);
        /// Time that the body of a request has to arrive.
        request_read_timeout: Duration = seconds(30), "TIME" in millis(100)..=hours(1);
        /// Time without a message after which a stream sends a heartbeat.
        heartbeat: Duration
            = millis(limits::HEARTBEAT_MS_DEFAULT), "TIME" in millis(100)..=hours(1);
        /// Age at which a stream ends and asks its client to resume, plus or minus a tenth.
        stream_age: Duration = hours(1), "TIME" in seconds(1)..=SPAN_MAX;
    }
    "Calls" {
        /// Time after which a call of a built-in tool is parked, unless the call says otherwise.
        call_budget: Duration
            = seconds(limits::CALL_BUDGET_SECONDS_DEFAULT), "TIME" in Duration::ZERO..=SPAN_MAX;
        /// Time after which a run is stopped, unless its tool or its call says otherwise.
        execution_timeout: Duration
            = seconds(limits::EXECUTION_TIMEOUT_SECONDS_DEFAULT), "TIME" in millis(1)..=SPAN_MAX;
        /// End running calls when the server stops, instead of leaving them to the next server.
        stop_runs: bool = false, "BOOL";
        /// Time between TERM and KILL when a run is stopped.
        grace: Duration = millis(limits::GRACE_MS_DEFAULT), "TIME"
            in Duration::ZERO..=millis(limits::GRACE_MS_MAX);
        /// Time for which output is read after a process has exited.
        output_drain: Duration
            = millis(limits::DRAIN_MS_DEFAULT), "TIME" in Duration::ZERO..=minutes(1);
        /// Maximum number of live calls of a session that sets none of its own.
        max_live_tasks: u32 = limits::LIVE_TASKS_DEFAULT, "COUNT" in 1..=limits::LIVE_TASKS_MAX;
        /// Maximum number of running calls on this server; more wait.
        max_running_calls: usize => max_running_calls as "64 x cores", "COUNT" in 1..=1_000_000;
        /// Folder in which command tools run, unless they or their calls name another; `none` is
        /// the folder of the server.
        working_directory: Option<PathBuf> = None, "FOLDER";
        /// Steps of `nice` by which processes of tools yield the processor to the server.
        tool_niceness: u32 = 5, "STEPS" in 0..=19;
        /// Names of the environment variables of the server that tools see. Tools also get
        /// `PYTHONUNBUFFERED=1`, unless they set it.
        tool_environment: Vec<VariableName>
            = TOOL_VARIABLES.map(VariableName::from_static).to_vec(), "NAME[,NAME]";
    }
    "Agents" {
        /// Name of the model for turns whose session names none; `none` is the first of the tables
        /// `models`.
        default_model: Option<String> = None, "NAME";
        /// Name of the model for turns in the background whose session names none; `none` is that of
        /// other turns.
        background_model: Option<String> = None, "NAME";
        /// System message of turns whose session has none.
        system_message: Option<String> = None, "TEXT";
        /// Pause before the second attempt at a request to a model. It doubles with each attempt, up
        /// to ten times as much, and is shortened by up to a half at random.
        model_retry_delay: Duration = seconds(3), "TIME" in millis(1)..=minutes(1);
        /// Half of the longest pause before the second attempt at delivering a follow-up. It doubles
        /// with each attempt, up to 5 minutes, and is shortened at random.
        follow_up_delay: Duration = seconds(1), "TIME" in millis(1)..=minutes(1);
    }
    "Lifetimes" {
        /// Time for which finished tasks and request ids are kept.
        retention: Duration
            = seconds(limits::RETENTION_SECONDS_DEFAULT), "TIME" in seconds(1)..=hours(360 * 24);
        /// Maximum number of events of one session; older ones are removed.
        session_events_max: u64
            = limits::SESSION_EVENTS_MAX_DEFAULT, "COUNT" in 1_000..=u64::MAX >> 1;
        /// Time between two removals of what has expired.
        sweep_interval: Duration
            = millis(limits::SWEEP_MS_DEFAULT), "TIME" in millis(100)..=hours(24);
        /// Time that requests and streams have to finish when the server stops.
        drain: Duration = seconds(20), "TIME" in Duration::ZERO..=hours(1);
    }
}

fn data_dir(_: &Config, environment: &Environment) -> Result<PathBuf, String> {
    let folder = environment.xdg("XDG_STATE_HOME", ".local/state");
    folder.map(|folder| folder.join("callpark")).ok_or_else(|| {
        "there is no default, because neither $XDG_STATE_HOME nor $HOME is set: name a folder"
            .to_owned()
    })
}

fn token_file(config: &Config, _: &Environment) -> Result<PathBuf, String> {
    // Without a data-dir there is an error already, and a second one would say nothing new.
    Ok(config.data_dir.as_deref().unwrap_or(Path::new("")).join("token"))
}

fn keys_file(config: &Config, _: &Environment) -> Result<PathBuf, String> {
    // Without a data-dir there is an error already, or a program that has a store of its own and no keys.
    Ok(config.data_dir.as_deref().map(|folder| folder.join("keys")).unwrap_or_default())
}

fn max_running_calls(_: &Config, _: &Environment) -> Result<usize, String> {
    // One core if their number is unknown.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(cores * limits::RUNNING_CALLS_PER_CORE)
}
