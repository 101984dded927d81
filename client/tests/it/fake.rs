//! A server that follows a script, over connections in memory.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use callpark_client::{BoxIo, Client, ClientOptions, Connector, v1};
use callpark_proto::v1::{
    background_tasks_server::BackgroundTasksServer, tool_runner_server::ToolRunnerServer,
};
use futures::FutureExt as _;
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, codec::CompressionEncoding, metadata::MetadataMap, transport::Server,
};

use crate::{proxy::Pages, service::Service};

/// Enough time for everything in memory to arrive; paused time passes only when all tasks wait.
pub(crate) const SETTLE: Duration = Duration::from_millis(1);

/// A number of refusals that stands for a server which does not answer to connections.
pub(crate) const HANG: u32 = u32::MAX;

/// The behaviour of the server at one attempt.
pub(crate) enum Play<T> {
    Answer(T),
    Fail(Status),
    /// Waits, then answers.
    After(Duration, T),
    /// Waits, then fails.
    FailAfter(Duration, Status),
    /// Accepts the request, and loses the connection before it answers.
    Cut,
    Never,
}

/// A step of the server on one stream. After the last step the stream ends OK.
pub(crate) enum Step<T> {
    Send(T),
    Wait(Duration),
    Fail(Status),
    Cut,
    Hang,
    /// As the first step: the stream does not even open.
    Never,
}

/// One RPC: the behaviour at each attempt, and the requests that were received.
pub(crate) struct Script<Q, P> {
    plays: Mutex<VecDeque<P>>,
    asked: Mutex<Vec<Asked<Q>>>,
}

#[derive(Clone)]
pub(crate) struct Asked<Q> {
    pub(crate) at: Instant,
    pub(crate) request: Q,
    pub(crate) metadata: MetadataMap,
}

impl<Q, P> Default for Script<Q, P> {
    fn default() -> Self {
        Self { plays: Mutex::default(), asked: Mutex::default() }
    }
}

impl<Q: Clone, P> Script<Q, P> {
    pub(crate) fn plays(&self, plays: impl IntoIterator<Item = P>) {
        self.plays.lock().unwrap().extend(plays);
    }

    pub(crate) fn asked(&self) -> Vec<Asked<Q>> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn requests(&self) -> Vec<Q> {
        self.asked().into_iter().map(|asked| asked.request).collect()
    }

    pub(crate) fn next(&self, request: Request<Q>) -> Result<P, Status> {
        let (metadata, _, request) = request.into_parts();
        self.asked.lock().unwrap().push(Asked { at: Instant::now(), request, metadata });
        // A code that is never retried, so that an unexpected attempt is noticed.
        self.plays
            .lock()
            .unwrap()
            .pop_front()
            .ok_or_else(|| Status::aborted("one attempt too many"))
    }
}

pub(crate) type Unary<Q, A> = Script<Q, Play<A>>;
pub(crate) type Streamed<Q, M> = Script<Q, Vec<Step<M>>>;

#[derive(Default)]
pub(crate) struct Scripts {
    pub(crate) list_tools: Unary<v1::ListToolsRequest, v1::ListToolsResponse>,
    pub(crate) run_tool: Unary<v1::RunToolRequest, v1::RunToolResponse>,
    pub(crate) run_turn: Unary<v1::RunTurnRequest, v1::RunTurnResponse>,
    pub(crate) update_session: Unary<v1::UpdateSessionRequest, v1::UpdateSessionResponse>,
    pub(crate) list_messages: Unary<v1::ListMessagesRequest, v1::ListMessagesResponse>,
    pub(crate) server_info: Unary<v1::GetServerInfoRequest, v1::GetServerInfoResponse>,
    pub(crate) start: Unary<v1::StartRequest, v1::StartResponse>,
    pub(crate) get: Unary<v1::GetRequest, v1::GetResponse>,
    pub(crate) wait: Unary<v1::WaitRequest, v1::WaitResponse>,
    pub(crate) wait_many: Unary<v1::WaitManyRequest, v1::WaitManyResponse>,
    pub(crate) cancel: Unary<v1::CancelRequest, v1::CancelResponse>,
    pub(crate) read_output: Unary<v1::ReadOutputRequest, v1::ReadOutputResponse>,
    pub(crate) list_follow_ups: Unary<v1::ListFollowUpsRequest, v1::ListFollowUpsResponse>,
    pub(crate) lease_follow_ups: Unary<v1::LeaseFollowUpsRequest, v1::LeaseFollowUpsResponse>,
    pub(crate) acknowledge_follow_up:
        Unary<v1::AcknowledgeFollowUpRequest, v1::AcknowledgeFollowUpResponse>,
    pub(crate) retry_follow_up: Unary<v1::RetryFollowUpRequest, v1::RetryFollowUpResponse>,
    pub(crate) stream_session: Streamed<v1::StreamSessionRequest, v1::SessionUpdate>,
    pub(crate) stream_tool: Streamed<v1::RunToolRequest, v1::SessionUpdate>,
    pub(crate) stream_turn: Streamed<v1::RunTurnRequest, v1::SessionUpdate>,
    pub(crate) watch: Streamed<v1::WatchRequest, v1::WatchResponse>,
}

/// The server, and the network between it and its clients. Dropping it ends everything.
#[derive(Clone)]
pub(crate) struct Fake {
    /// The answers of a proxy before the server.
    pub(crate) pages: Pages,
    scripts: Arc<Scripts>,
    wires: Arc<Wires>,
}

pub(crate) struct Wires {
    tasks: Mutex<JoinSet<()>>,
    open: Mutex<Vec<AbortHandle>>,
    incoming: mpsc::Sender<io::Result<DuplexStream>>,
    refusals: AtomicU32,
    dials: AtomicU32,
}

impl Fake {
    pub(crate) fn start() -> Self {
        Self::start_with(Server::builder())
    }

    /// A server that tells each connection at this age that it takes no further requests, and ends it
    /// after the last one.
    pub(crate) fn aging(age: Duration) -> Self {
        Self::start_with(Server::builder().max_connection_age(age))
    }

    fn start_with(builder: Server) -> Self {
        let (incoming, connections) = mpsc::channel(64);
        let wires = Arc::new(Wires {
            tasks: Mutex::default(),
            open: Mutex::default(),
            incoming,
            refusals: AtomicU32::new(0),
            dials: AtomicU32::new(0),
        });
        let fake = Self { pages: Pages::default(), scripts: Arc::default(), wires };
        let service =
            Service { scripts: Arc::clone(&fake.scripts), wires: Arc::downgrade(&fake.wires) };
        let service = Arc::new(service);
        let gzip = CompressionEncoding::Gzip;
        let tool_runner = ToolRunnerServer::from_arc(Arc::clone(&service));
        let background_tasks = BackgroundTasksServer::from_arc(service);
        let server = builder
            .layer(fake.pages.clone())
            .add_service(tool_runner.accept_compressed(gzip).send_compressed(gzip))
            .add_service(background_tasks.accept_compressed(gzip).send_compressed(gzip))
            .serve_with_incoming(ReceiverStream::new(connections));
        fake.wires.tasks.lock().unwrap().spawn(server.map(|_| ()));
        fake
    }

    /// Refuses the next connections, this many. With [`HANG`] they are neither opened nor refused.
    pub(crate) fn refuse(&self, connections: u32) {
        self.wires.refusals.store(connections, Ordering::SeqCst);
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(ClientOptions::default())
    }

    pub(crate) fn client_with(&self, options: ClientOptions) -> Client {
        Client::with_connector(options, connector(std::slice::from_ref(self))).unwrap()
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.wires.cut();
    }

    /// The number of connections that clients have asked for.
    pub(crate) fn dials(&self) -> u32 {
        self.wires.dials.load(Ordering::SeqCst)
    }
}

/// Makes connections to the servers in turn: the endpoint that ends with `:0` is the first one. Other
/// endpoints are the first one as well.
pub(crate) fn connector(fakes: &[Fake]) -> Connector {
    let all: Vec<_> = fakes.iter().map(|fake| Arc::clone(&fake.wires)).collect();
    Arc::new(move |endpoint| {
        let number = endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
        let number = number.filter(|number: &usize| *number < all.len()).unwrap_or(0);
        let wires = Arc::clone(&all[number]);
        async move { wires.connect().await }.boxed()
    })
}

impl std::ops::Deref for Fake {
    type Target = Scripts;

    fn deref(&self) -> &Scripts {
        &self.scripts
    }
}

impl Wires {
    /// Opens two pipes with a copier between them: aborting the copier cuts the connection.
    async fn connect(&self) -> io::Result<BoxIo> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        let left = self.refusals.load(Ordering::SeqCst);
        if left == HANG {
            std::future::pending::<()>().await;
        }
        if left > 0 {
            self.refusals.store(left - 1, Ordering::SeqCst);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (client, mut near) = tokio::io::duplex(64 * 1024);
        let (server, mut far) = tokio::io::duplex(64 * 1024);
        let copying = async move {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        };
        let wire = self.tasks.lock().unwrap().spawn(copying);
        self.open.lock().unwrap().push(wire);
        self.incoming.send(Ok(server)).await.map_err(io::Error::other)?;
        Ok(Box::new(client))
    }

    pub(crate) fn cut(&self) {
        for wire in self.open.lock().unwrap().drain(..) {
            wire.abort();
        }
    }
}
