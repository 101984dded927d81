//! The client.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use callpark_proto::v1::{
    background_tasks_client::BackgroundTasksClient, tool_runner_client::ToolRunnerClient,
};
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::{
    connect::{Channels, Connector},
    error::Error,
    options::{ClientOptions, OnRetry},
    parked::ParkedCall,
    part_stream::{ToolStream, TurnStream},
    session_stream::SessionStream,
    token::Tokens,
    v1,
    watch::WatchStream,
};

/// A client of callpark. It is cheap to clone, and the clones share their connections.
///
/// Calls and streams go over two connections, which are made when they are first used and made again
/// when they are lost. A connection holds up to 128 streams on a server with its defaults; one that
/// is opened beyond them waits for its turn.
///
/// Dropping a call or a stream ends it on the server too. The work that it started goes on, unless
/// the request said otherwise.
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
    deadline: Option<Duration>,
    on_retry: Option<OnRetry>,
}

/// What the clones share.
pub(crate) struct Core {
    pub(crate) options: ClientOptions,
    pub(crate) channels: Channels,
    pub(crate) tokens: Tokens,
    /// The server has answered something: it was there.
    pub(crate) answered: AtomicBool,
}

impl Client {
    /// Makes a client. Reads the files of [`ClientOptions::tls`], and connects to nothing yet.
    ///
    /// # Errors
    /// [`Origin::Options`](crate::Origin::Options): an endpoint that is no address, a file that can't
    /// be read, certificates that are no good.
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        Self::build(options, None)
    }

    /// Makes a client whose connections come from `connector`. The endpoint of the options names the
    /// server and says whether TLS is spoken; it isn't resolved.
    ///
    /// # Errors
    /// As for [`Client::new`].
    pub fn with_connector(options: ClientOptions, connector: Connector) -> Result<Self, Error> {
        Self::build(options, Some(connector))
    }

    fn build(options: ClientOptions, connector: Option<Connector>) -> Result<Self, Error> {
        let channels = Channels::new(&options, connector)?;
        let tokens = Tokens::new(options.token.clone());
        let (deadline, on_retry) = (options.deadline, options.on_retry.clone());
        let answered = AtomicBool::new(false);
        let core = Arc::new(Core { options, channels, tokens, answered });
        Ok(Self { core, deadline, on_retry })
    }

    /// The options that the client was built from.
    pub fn options(&self) -> &ClientOptions {
        &self.core.options
    }

    /// The same client, each of whose calls may take this long over all its tries.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// The same client, without a bound on its calls.
    #[must_use]
    pub fn without_deadline(&self) -> Self {
        Self { deadline: None, ..self.clone() }
    }

    /// The same client, with another callback for repetitions.
    #[must_use]
    pub fn with_on_retry(&self, on_retry: OnRetry) -> Self {
        Self { on_retry: Some(on_retry), ..self.clone() }
    }

    /// A handle on a background task, from its id: `bg-` and 32 hex digits. Asks the server nothing.
    pub fn parked_call(&self, background_id: impl Into<String>) -> ParkedCall {
        ParkedCall::new(self, background_id.into(), None)
    }

    /// Streams the events of a session: live, after a sequence, or all of a closed one. Opens at the
    /// first poll.
    ///
    /// The items may end with an error: NOT_FOUND `SESSION_NOT_FOUND`; OUT_OF_RANGE `SEQUENCE_AHEAD`,
    /// `SEQUENCE_TRIMMED` with [`OnGap::Fail`](v1::OnGap::Fail), or `STREAM_EPOCH_MISMATCH` when the
    /// request names an epoch that isn't the log's.
    pub fn stream_session(&self, request: v1::StreamSessionRequest) -> SessionStream {
        SessionStream::new(self, request)
    }

    /// Runs one call of a tool and streams its events. Opens at the first poll.
    ///
    /// A cut in between is the going away that
    /// [`on_disconnect`](v1::RunToolRequest::on_disconnect) is about: by default the call is parked
    /// then, and the resumed stream ends with `tool_call_parked`.
    ///
    /// The items may end with one of the errors of [`run_tool`](Self::run_tool).
    pub fn stream_tool(&self, request: v1::RunToolRequest) -> ToolStream {
        ToolStream::new(self, request)
    }

    /// Sends a prompt to an agent and streams the events of its turn. Opens at the first poll.
    ///
    /// A cut in between parks the turn, which goes on; the resumed stream gives the rest of it.
    ///
    /// The items may end with one of the errors of [`run_turn`](Self::run_turn).
    pub fn stream_turn(&self, request: v1::RunTurnRequest) -> TurnStream {
        TurnStream::new(self, request)
    }

    /// Streams the changes of tasks. Opens at the first poll.
    ///
    /// The items may end with an error: NOT_FOUND `SESSION_NOT_FOUND`; OUT_OF_RANGE `SEQUENCE_AHEAD`
    /// or `SEQUENCE_TRIMMED`, after which the tasks have to be listed again.
    pub fn watch(&self, request: v1::WatchRequest) -> WatchStream {
        WatchStream::new(self, request)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn on_retry(&self) -> Option<&OnRetry> {
        self.on_retry.as_ref()
    }

    /// When a call that begins now must be over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.and_then(|deadline| Instant::now().checked_add(deadline))
    }

    pub(crate) fn tool_runner(&self) -> ToolRunnerClient<Channel> {
        ToolRunnerClient::new(self.core.channels.unary())
            .max_decoding_message_size(self.options().message_bytes_max)
    }

    pub(crate) fn background_tasks(&self) -> BackgroundTasksClient<Channel> {
        BackgroundTasksClient::new(self.core.channels.unary())
            .max_decoding_message_size(self.options().message_bytes_max)
    }

    pub(crate) fn tool_runner_streams(&self) -> ToolRunnerClient<Channel> {
        ToolRunnerClient::new(self.core.channels.streams())
            .max_decoding_message_size(self.options().message_bytes_max)
    }

    pub(crate) fn background_tasks_streams(&self) -> BackgroundTasksClient<Channel> {
        BackgroundTasksClient::new(self.core.channels.streams())
            .max_decoding_message_size(self.options().message_bytes_max)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.options().endpoint)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
