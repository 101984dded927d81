//! Requests to the other replicas of the store: those that this one forwards to the owner of a session,
//! and the question whether a replica can write.

mod body;
mod connection;
mod connector;
mod key;
mod peers;
mod pool;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::auth::AuthError;
use crate::model::Principal;
use crate::store::Replicas;

pub(super) use body::KeptBody;
pub(super) use connection::Slot;
pub(super) use hyper::body::Incoming as AnswerBody;
use key::ForwardKey;
use pool::Pool;

/// The options of a [`Forwarder`].
pub struct ForwarderOptions {
    /// The replicas, which have a key and a time in common.
    pub replicas: Arc<dyn Replicas>,
    /// TLS of new connections to replicas whose address begins with `https://`, or `None` if they cannot be reached.
    pub tls: Option<watch::Receiver<TlsConnector>>,
    /// The largest message of a request that is forwarded, in bytes.
    pub request_bytes_max: usize,
}

/// The reason why a request has no answer of another replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendError {
    /// The replica has not processed the request.
    Unprocessed,
    /// The request was sent, and may have been processed.
    Lost,
}

/// Sends requests to the other replicas of the store.
#[derive(Clone)]
pub struct Forwarder(Arc<Shared>);

struct Shared {
    key: ForwardKey,
    replicas: Arc<dyn Replicas>,
    pool: Pool,
    request_bytes_max: usize,
    draining: CancellationToken,
}

impl Forwarder {
    /// Creates a forwarder without connections.
    pub fn new(options: ForwarderOptions) -> Self {
        let ForwarderOptions { replicas, tls, request_bytes_max } = options;
        Self(Arc::new(Shared {
            key: ForwardKey::new(&replicas.key()),
            replicas,
            pool: Pool::new(tls),
            request_bytes_max,
            draining: CancellationToken::new(),
        }))
    }

    /// Ends the streams that are forwarded, as [`Engine::drain`](crate::engine::Engine::drain) ends those
    /// of this replica.
    pub fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    /// Waits for [`drain`](Self::drain).
    pub(super) fn drained(&self) -> WaitForCancellationFutureOwned {
        self.0.draining.clone().cancelled_owned()
    }

    /// Returns the largest message of a request that is forwarded, in bytes.
    pub(super) fn request_bytes_max(&self) -> usize {
        self.0.request_bytes_max
    }

    /// Adds the headers that tell another replica who has sent the request.
    pub(super) fn sign(&self, headers: &mut HeaderMap, path: &str, principal: &Principal) {
        self.0.key.sign(headers, path, principal, self.0.replicas.time());
    }

    /// Returns the principal of a request that another replica has forwarded, or `None` if the caller has
    /// sent it here.
    pub(super) fn verify(
        &self,
        headers: &HeaderMap,
        path: &str,
    ) -> Option<Result<Principal, AuthError>> {
        self.0.key.verify(headers, path, self.0.replicas.time())
    }

    /// Logs that the replica at this address gives no answer of use.
    pub(super) fn log_failure(&self, address: &str, failure: &dyn fmt::Display) {
        self.0.pool.log_failure(address, failure);
    }

    /// Sends a request to the replica at this address. The slot of the answer is held until its body has
    /// ended.
    pub(super) async fn send(
        &self,
        address: &str,
        request: Request<KeptBody>,
    ) -> Result<(Response<AnswerBody>, Slot), SendError> {
        let slot = self.0.pool.slot(address).await.ok_or(SendError::Unprocessed)?;
        let response = slot.send(request).await?;
        Ok((response, slot))
    }
}
