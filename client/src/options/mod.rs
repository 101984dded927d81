//! The options of a client.

mod compression;
mod credentials;
mod retry_notice;

use std::{fmt, time::Duration};

pub use compression::Compression;
pub use credentials::{TlsOptions, TokenSource};
pub use retry_notice::{OnRetry, RetryBudget, RetryNotice};

/// The options of a [`Client`](crate::Client). Every option has a default.
///
/// ```
/// use std::time::Duration;
///
/// use callpark_client::{ClientOptions, TokenSource};
///
/// let options = ClientOptions::new("https://tools.example.com:50051")
///     .with_token(TokenSource::File("/run/secrets/callpark-token".into()))
///     .with_deadline(Duration::from_secs(60));
/// assert_eq!(options.start_attempts, 5);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The endpoints of the server, in order: `http://host:port`, `https://host:port` or `unix:/path`
    /// each, at most 64. With several, the servers must be equal: each request may go to any of them.
    /// Each address of a host is an endpoint of its own. Default: `http://127.0.0.1:50051` alone.
    pub endpoints: Vec<String>,

    /// The source of the bearer token. Default: no token is sent.
    pub token: TokenSource,

    /// Certificates for an `https` endpoint. Default: the authorities of the operating system, no
    /// client certificate.
    pub tls: TlsOptions,

    /// The time that each call may take over all its attempts, or `None` for no limit. It is sent to
    /// the server, which answers in time. For a stream: the time that it may stay open. Default:
    /// `None`.
    pub deadline: Option<Duration>,

    /// The number of attempts of each call, including the first, and of a stream before its first
    /// message. Never reset. 0 counts as 1. Default: 5.
    pub start_attempts: u32,

    /// The number of times in a row that a stream is resumed, or a long wait or an output reader
    /// retried, without receiving anything new. A higher sequence, an answered wait or new output
    /// resets the count. Default: 10.
    pub resume_attempts: u32,

    /// The maximum delay before the first retry. It doubles with each retry. The delay itself is
    /// random between 0 and that maximum. A delay that the server asks for takes precedence.
    /// Default: 100 ms.
    pub backoff: Duration,

    /// The limit of the doubling of `backoff`. Default: 10 s.
    pub backoff_max: Duration,

    /// The interval at which the server sends heartbeats on a silent stream. A stream that is silent
    /// for three intervals counts as interrupted. Default: 15 s.
    pub heartbeat_interval: Duration,

    /// The time that connecting may take, including TLS. Default: 5 s.
    pub connect_timeout: Duration,

    /// The interval at which a connection is probed, also while it carries no call. Default: 20 s.
    pub keepalive_interval: Duration,

    /// The time after which a connection is closed if a probe was not answered. Default: 10 s.
    pub keepalive_timeout: Duration,

    /// The number of bytes of one stream that may be under way or unread. A replay waits for its
    /// reader when this is small. Default: 2 MiB.
    pub stream_window_bytes: u32,

    /// The number of bytes of all streams of the client that may be under way or unread. With at
    /// least `stream_window_bytes` for each open stream, an unread stream never stalls the others.
    /// Default: 256 MiB, which is enough for 128 streams.
    pub connection_window_bytes: u32,

    /// The size of the largest message that is accepted, in bytes, once it is decompressed. Default:
    /// 8 MiB.
    pub message_bytes_max: usize,

    /// The compression of requests, and of the answers that the server sends. Default: none.
    pub compression: Compression,

    /// A callback that is invoked before each delay that precedes a retry, or `None`. It must not
    /// block. Retries are also logged through `tracing` at the level WARN. Default: `None`.
    pub on_retry: Option<OnRetry>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:50051".to_owned()],
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
            compression: Compression::Off,
            on_retry: None,
        }
    }
}

macro_rules! with_setters {
    ($($setter:ident: $field:ident: $type:ty,)*) => {
        $(
            #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
            #[must_use]
            pub fn $setter(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            }
        )*
    };
}

impl ClientOptions {
    /// Creates options for the server at this endpoint.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self::default().with_endpoints([endpoint])
    }

    /// Sets [`endpoints`](Self::endpoints).
    #[must_use]
    pub fn with_endpoints(
        mut self,
        endpoints: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`deadline`](Self::deadline).
    #[must_use]
    pub fn with_deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// Sets [`on_retry`](Self::on_retry).
    #[must_use]
    pub fn with_on_retry(mut self, on_retry: OnRetry) -> Self {
        self.on_retry = Some(on_retry);
        self
    }

    with_setters! {
        with_token: token: TokenSource,
        with_tls: tls: TlsOptions,
        with_start_attempts: start_attempts: u32,
        with_resume_attempts: resume_attempts: u32,
        with_backoff: backoff: Duration,
        with_backoff_max: backoff_max: Duration,
        with_heartbeat_interval: heartbeat_interval: Duration,
        with_connect_timeout: connect_timeout: Duration,
        with_keepalive_interval: keepalive_interval: Duration,
        with_keepalive_timeout: keepalive_timeout: Duration,
        with_stream_window_bytes: stream_window_bytes: u32,
        with_connection_window_bytes: connection_window_bytes: u32,
        with_message_bytes_max: message_bytes_max: usize,
        with_compression: compression: Compression,
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("endpoints", &self.endpoints)
            .field("token", &self.token)
            .field("tls", &self.tls)
            .field("deadline", &self.deadline)
            .field("start_attempts", &self.start_attempts)
            .field("resume_attempts", &self.resume_attempts)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .finish_non_exhaustive()
    }
}
