//! The server, from its start to its stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

use super::access::Access;
use super::admin;
use super::config::Config;
use super::error::Error;
use super::health::Health;
use super::listener::Incoming;
use super::tls::{ServerTls, TlsRenewal};
#[cfg(feature = "cli")]
use super::vitals::Vitals;
use crate::engine::Engine;
use crate::model::Timestamp;
use crate::model::limits::{OPEN_REQUEST_BYTES_MAX, RUNNING_CALLS_PER_CORE};
use crate::rpc::{self, Forwarder, MessageLimits, RequestLayer, ServerInfo};
use crate::store::DataLock;
use crate::telemetry::Metrics;

/// The longest time that the engine has to stop.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The time that the last answers have after `drain`.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A server that holds its store and its addresses, and serves once it [runs](Server::run).
///
/// ```no_run
/// use callpark::config::AuthMode;
/// use callpark::{Config, Server};
/// use tokio_util::sync::CancellationToken;
///
/// # async fn serve() -> Result<(), callpark::Error> {
/// let config = Config {
///     listen: vec![([127, 0, 0, 1], 0).into()],
///     data_dir: Some("/var/lib/example".into()),
///     auth: AuthMode::None,
///     ..Config::default()
/// };
/// let server = Server::builder(config).build().await?;
/// println!("http://{}", server.addresses()[0]);
/// server.run(CancellationToken::new()).await
/// # }
/// ```
pub struct Server {
    pub(super) engine: Engine,
    pub(super) incoming: Incoming,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) sockets: Vec<PathBuf>,
    pub(super) admin: Option<(TcpListener, SocketAddr)>,
    pub(super) layer: RequestLayer,
    /// The way to the other servers of the store, or `None` if there are none.
    pub(super) forwarder: Option<Forwarder>,
    /// True while the server is serving.
    pub(super) ready: watch::Sender<bool>,
    pub(super) metrics: Metrics,
    pub(super) access: Access,
    pub(super) listener_tls: Option<ServerTls>,
    pub(super) forwarder_tls: Option<TlsRenewal<TlsConnector>>,
    /// The kind of store, for GetServerInfo.
    pub(super) store: &'static str,
    /// The lock of the data folder, unless the store has it. It is kept until the server has stopped.
    pub(super) data_lock: Option<DataLock>,
    pub(super) config: Config,
}

impl Server {
    /// Returns the addresses of the network that take gRPC, with the ports that port 0 became.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the paths of the Unix domain sockets that take gRPC.
    pub fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// Returns the address of the HTTP server for operators, or `None` if there is none.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// Returns the file with the token that callers must show, or `None` if they need none.
    pub fn token_file(&self) -> Option<&Path> {
        self.access.token_file()
    }

    /// Returns a function that counts the calls that run at the moment, also while the server serves.
    #[cfg(feature = "cli")]
    pub(crate) fn running_calls(&self) -> impl Fn() -> usize + use<> {
        let engine = self.engine.clone();
        move || engine.running_calls()
    }

    /// Returns the state of the server, also while it serves.
    #[cfg(feature = "cli")]
    pub(crate) fn vitals(&self) -> Vitals {
        Vitals { engine: self.engine.clone(), ready: self.ready.subscribe() }
    }

    /// Serves until `stop` is cancelled. Requests and streams then have the configured time to finish,
    /// and processes two seconds more.
    ///
    /// # Errors
    /// The transport failed.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let (forwarder, audit) = (self.forwarder.clone(), self.access.audit());
        let Self {
            engine,
            incoming,
            admin,
            layer,
            ready,
            metrics,
            config,
            store,
            data_lock,
            access,
            listener_tls,
            forwarder_tls,
            ..
        } = self;
        let info = server_info(&config, store, engine.now());
        let (health, routes) = Health::add_to(rpc::routes(&engine, info), ready).await?;
        engine.sweep();
        engine.follow_ups().start_delivery();
        let serving = transport(&config)
            .layer(layer)
            .add_routes(with_reflection(routes)?)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let over = CancellationToken::new();
        let drained = async {
            health.follow(&engine, stop.clone()).await;
            engine.drain();
            forwarder.iter().for_each(Forwarder::drain);
            tokio::time::sleep(config.drain).await;
        };
        let listener = admin.map(|(listener, _)| listener);
        let admin = serve_operators(listener, &engine, &metrics, health.ready(), &over);
        let main = async {
            let mut serving = std::pin::pin!(serving);
            let served = tokio::select! {
                served = &mut serving => Some(served),
                () = drained => None,
            };
            // Waits are answered while the engine stops. The transport needs time to send the answers.
            let last = async {
                match served {
                    Some(served) => served,
                    None => {
                        tokio::time::timeout(LAST_ANSWERS, serving).await.unwrap_or_else(|_| {
                            tracing::warn!("requests were aborted: they took longer than `drain`");
                            Ok(())
                        })
                    }
                }
            };
            let (served, ()) = tokio::join!(last, stop_engine(&engine));
            over.cancel();
            served
        };
        let tls = [keep_up(listener_tls, &over), keep_up(forwarder_tls, &over)];
        let (upkeep, access) = (metrics.upkeep(over.clone()), access.keep_up(&over));
        let (served, (), (), (), _) = tokio::join!(main, admin, access, upkeep, join_all(tls));
        if let Some(forwarder) = &forwarder {
            forwarder.close().await;
        }
        if let Some(audit) = &audit {
            audit.close().await;
        }
        // Another server may have the folder now.
        drop(data_lock);
        Ok(served?)
    }
}

/// Follows the files of TLS, if there are any, until `over` is cancelled.
fn keep_up<T: Clone + Send + Sync + 'static>(
    renewal: Option<TlsRenewal<T>>,
    over: &CancellationToken,
) -> BoxFuture<'static, ()> {
    let over = over.clone();
    async move {
        if let Some(renewal) = renewal {
            renewal.keep_up(over).await;
        }
    }
    .boxed()
}

/// Stops the engine, and says what becomes of its running calls.
async fn stop_engine(engine: &Engine) {
    let calls = engine.running_calls();
    if calls > 0 && engine.leaves_runs() {
        tracing::info!(calls, "running calls are left to the next server");
    } else if calls > 0 {
        tracing::warn!(calls, "running calls end with the server: they are lost");
    }
    if tokio::time::timeout(STOP_MAX, engine.stop()).await.is_err() {
        tracing::warn!("not all work has stopped in time: its calls are lost");
    }
}

/// Serves the page for operators, if there is one, until `over` is cancelled.
async fn serve_operators(
    listener: Option<TcpListener>,
    engine: &Engine,
    metrics: &Metrics,
    ready: watch::Receiver<bool>,
    over: &CancellationToken,
) {
    let Some(listener) = listener else { return over.cancelled().await };
    let engine = engine.clone();
    let refresh = Arc::new(move |metrics: &Metrics| show_shims(&engine, metrics));
    admin::serve(listener, metrics.clone(), refresh, ready, over.clone()).await;
}

fn show_shims(engine: &Engine, metrics: &Metrics) {
    let shims = engine.shims();
    let runs = shims.iter().map(|shim| shim.runs).sum();
    metrics.shims(shims.len(), runs, shims.iter().map(|shim| shim.spooled_bytes).sum());
}

fn server_info(config: &Config, store: &'static str, start_time: Timestamp) -> ServerInfo {
    ServerInfo {
        store,
        limits: MessageLimits {
            request_bytes_max: config.max_request.as_usize(),
            response_bytes_max: config.max_response.as_usize(),
        },
        running_calls_max: config.max_running_calls.unwrap_or(RUNNING_CALLS_PER_CORE),
        call_budget: config.call_budget,
        execution_timeout: config.execution_timeout,
        retention: config.retention,
        start_time,
    }
}

/// The number of streams, beside those that may be open, which a client may reset before the server has
/// looked at them: some that took the places of others when the deadlines of all passed together. More
/// end the connection.
const RESETS_BESIDE_OPEN_STREAMS: usize = 32;

fn transport(config: &Config) -> tonic::transport::Server {
    let streams = usize::try_from(config.max_streams_per_connection).unwrap_or(usize::MAX);
    tonic::transport::Server::builder()
        .max_concurrent_streams(Some(config.max_streams_per_connection))
        .http2_max_pending_accept_reset_streams(Some(
            streams.saturating_add(RESETS_BESIDE_OPEN_STREAMS),
        ))
        .http2_max_local_error_reset_streams(Some(config.max_local_error_resets))
        .http2_max_header_list_size(Some(config.max_header_list.bytes()))
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
}

/// Adds both versions of reflection to the services.
fn with_reflection(routes: Routes) -> Result<Routes, Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(callpark_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection()
        .build_v1()?
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(OPEN_REQUEST_BYTES_MAX);
    let v1alpha = reflection()
        .build_v1alpha()?
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(OPEN_REQUEST_BYTES_MAX);
    Ok(routes.add_service(v1).add_service(v1alpha))
}
