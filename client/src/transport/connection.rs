//! The shared state of a client and its clones.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callpark_proto::v1::{
    background_tasks_client::BackgroundTasksClient, tool_runner_client::ToolRunnerClient,
};
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;
use tonic_health::pb::health_client::HealthClient;

use crate::{
    error::Error,
    options::{ClientOptions, Compression, OnRetry},
    transport::{
        connect::Connector,
        pool::{PooledChannel, Pools},
        token::Tokens,
    },
};

/// Applies the options to a generated client. The generated types have these methods in common, but no
/// trait.
macro_rules! configured {
    ($client:expr, $options:expr) => {{
        let options: &ClientOptions = $options;
        let client = $client.max_decoding_message_size(options.message_bytes_max);
        match options.compression {
            Compression::Off => client,
            Compression::Gzip => client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip),
        }
    }};
}

/// The connection of one client: pools, tokens and options that its clones share, and a deadline
/// and a retry callback of its own.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    deadline: Option<Duration>,
    on_retry: Option<OnRetry>,
}

struct Shared {
    options: ClientOptions,
    pools: Pools,
    tokens: Tokens,
    /// `true` once the server has answered anything.
    answered: AtomicBool,
}

impl Connection {
    pub(crate) fn new(options: ClientOptions, connector: Option<Connector>) -> Result<Self, Error> {
        let pools = Pools::new(&options, connector.as_ref())?;
        let tokens = Tokens::new(options.token.clone());
        let (deadline, on_retry) = (options.deadline, options.on_retry.clone());
        let shared = Shared { options, pools, tokens, answered: AtomicBool::new(false) };
        Ok(Self { shared: Arc::new(shared), deadline, on_retry })
    }

    /// Returns a connection to each endpoint alone, with its name.
    pub(crate) async fn split(&self) -> Vec<(String, Self)> {
        let split = self.shared.pools.split(self.options()).await;
        let alone = split.into_iter().map(|(name, endpoint, pools)| {
            let mut options = self.options().clone();
            options.endpoints = vec![endpoint];
            let tokens = Tokens::new(options.token.clone());
            let shared = Shared { options, pools, tokens, answered: AtomicBool::new(false) };
            (name, Self { shared: Arc::new(shared), ..self.clone() })
        });
        alone.collect()
    }

    #[must_use]
    pub(crate) fn with_deadline(&self, deadline: Option<Duration>) -> Self {
        Self { deadline, ..self.clone() }
    }

    #[must_use]
    pub(crate) fn with_on_retry(&self, on_retry: OnRetry) -> Self {
        Self { on_retry: Some(on_retry), ..self.clone() }
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    pub(crate) fn on_retry(&self) -> Option<&OnRetry> {
        self.on_retry.as_ref()
    }

    /// The time at which a call that begins now must have finished.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.and_then(|deadline| Instant::now().checked_add(deadline))
    }

    pub(crate) fn record_answer(&self) {
        self.shared.answered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn was_answered(&self) -> bool {
        self.shared.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn tool_runner(&self) -> ToolRunnerClient<PooledChannel> {
        self.tool_runner_on(self.shared.pools.unary.clone())
    }

    pub(crate) fn background_tasks(&self) -> BackgroundTasksClient<PooledChannel> {
        self.background_tasks_on(self.shared.pools.unary.clone())
    }

    pub(crate) fn health(&self) -> HealthClient<PooledChannel> {
        configured!(HealthClient::new(self.shared.pools.unary.clone()), self.options())
    }

    pub(crate) fn tool_runner_streams(&self) -> ToolRunnerClient<PooledChannel> {
        self.tool_runner_on(self.shared.pools.streams.clone())
    }

    pub(crate) fn background_tasks_streams(&self) -> BackgroundTasksClient<PooledChannel> {
        self.background_tasks_on(self.shared.pools.streams.clone())
    }

    fn tool_runner_on(&self, channel: PooledChannel) -> ToolRunnerClient<PooledChannel> {
        configured!(ToolRunnerClient::new(channel), self.options())
    }

    fn background_tasks_on(&self, channel: PooledChannel) -> BackgroundTasksClient<PooledChannel> {
        configured!(BackgroundTasksClient::new(channel), self.options())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("endpoints", &self.options().endpoints)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
