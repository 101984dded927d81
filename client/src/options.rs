//! What a client is built from.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;

use crate::{error::Error, retry::Budget};

/// What a [`Client`](crate::Client) is built from. Every field has a default.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where the server is: `http://host:port`, `https://host:port` or `unix:/path`. Default:
    /// `http://127.0.0.1:50051`.
    pub endpoint: String,

    /// Where the bearer token comes from. Default: no token is sent.
    pub token: TokenSource,

    /// Certificates for an `https` endpoint. Default: the roots of the system, no client certificate.
    pub tls: TlsOptions,

    /// How long each call may take, from its start over all its tries. It is sent to the server,
    /// which answers in time. For a stream: how long it may live. Default: no bound.
    pub deadline: Option<Duration>,

    /// How often a call is tried, the first try included, and how often a stream is tried before its
    /// first message. Never reset. 0 counts as 1. Default: 5.
    pub start_attempts: u32,

    /// How often a stream is resumed, and a wait or a reader of output sent again, without anything
    /// new in between. A greater sequence, an answered wait or new output resets the count. Default:
    /// 10.
    pub resume_attempts: u32,

    /// The longest delay before the first repetition; it doubles with each one. The delay itself is
    /// random between 0 and that. A delay that the server names takes its place. Default: 100 ms.
    pub backoff: Duration,

    /// Where the doubling of `backoff` ends. Default: 10 s.
    pub backoff_max: Duration,

    /// How often the server sends a heartbeat on a silent stream. A stream that is silent for three
    /// of them is taken as cut. Default: 15 s.
    pub heartbeat_interval: Duration,

    /// How long connecting may take, TLS included. Default: 5 s.
    pub connect_timeout: Duration,

    /// How often a connection is probed, also while no call runs on it. Default: 20 s.
    pub keepalive_interval: Duration,

    /// How long a probe may stay unanswered before the connection is closed. Default: 10 s.
    pub keepalive_timeout: Duration,

    /// How much of one stream may be on its way or unread, in bytes. A replay waits for its client
    /// where it is smaller. Default: 2 MiB.
    pub stream_window_bytes: u32,

    /// How much of all streams of the client together may be on its way or unread, in bytes. With at
    /// least `stream_window_bytes` for each open stream, no unread stream stalls its neighbours.
    /// Default: 256 MiB, which is enough for 128 streams.
    pub connection_window_bytes: u32,

    /// The largest message that is accepted, in bytes. Default: 8 MiB.
    pub message_bytes_max: usize,

    /// Called before each delay that precedes a repetition. It must not block. Repetitions are traced
    /// too, at the level WARN. Default: none.
    pub on_retry: Option<OnRetry>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:50051".to_owned(),
            token: TokenSource::None,
            tls: TlsOptions::default(),
            deadline: None,
            start_attempts: 5,
            resume_attempts: 10,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            stream_window_bytes: 2 * 1024 * 1024,
            connection_window_bytes: 256 * 1024 * 1024,
            message_bytes_max: 8 * 1024 * 1024,
            on_retry: None,
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token)
            .field("tls", &self.tls)
            .field("deadline", &self.deadline)
            .field("start_attempts", &self.start_attempts)
            .field("resume_attempts", &self.resume_attempts)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .finish_non_exhaustive()
    }
}

/// Where the bearer token comes from.
///
/// After UNAUTHENTICATED the token is fetched anew and the call is sent once more; that repetition
/// draws on no budget.
#[derive(Clone, Debug, Default)]
pub enum TokenSource {
    /// No token is sent.
    #[default]
    None,
    /// This token.
    Value(SecretString),
    /// The content of this file, less white space at both ends. It is read again when the file has
    /// changed.
    File(PathBuf),
    /// What this command writes to its standard output, less white space at both ends. It runs at the
    /// first call and after UNAUTHENTICATED, for at most 30 s; its standard error is the caller's.
    Command {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<String>,
    },
}

/// Certificates for an `https` endpoint. All files are PEM and read when the client is built.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Certificates of the authorities that the server's is checked against, in place of those of
    /// the system.
    pub ca_file: Option<PathBuf>,

    /// The client's own certificate, with its chain. Goes with `key_file`.
    pub certificate_file: Option<PathBuf>,

    /// The private key of `certificate_file`.
    pub key_file: Option<PathBuf>,

    /// The name that the server's certificate must carry, when it isn't the host of the endpoint.
    pub server_name: Option<String>,
}

impl TlsOptions {
    pub(crate) fn is_empty(&self) -> bool {
        let Self { ca_file, certificate_file, key_file, server_name } = self;
        ca_file.is_none()
            && certificate_file.is_none()
            && key_file.is_none()
            && server_name.is_none()
    }
}

/// Called before each delay that precedes a repetition.
pub type OnRetry = Arc<dyn Fn(&RetryNotice<'_>) + Send + Sync>;

/// A try failed, and another follows.
#[derive(Debug)]
#[non_exhaustive]
pub struct RetryNotice<'a> {
    /// The RPC, as `Service.Method`.
    pub rpc: &'static str,

    /// How many tries there have been, the failed one included.
    pub tries: u32,

    /// The budget that the repetition draws on. `None`: on none, because the server announced the
    /// end of the stream or the token was fetched anew.
    pub budget: Option<Budget>,

    /// The time until the next try.
    pub delay: Duration,

    /// The cursor that a stream resumes after. `None`: it has none, or the call is no stream.
    pub after_sequence: Option<i64>,

    /// Why the try failed.
    pub error: &'a Error,
}
