//! The health of the server, for probes.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Error;
use crate::engine::Engine;
use crate::model::limits::OPEN_REQUEST_BYTES_MAX;
use crate::rpc::SERVICES;

/// The time between two checks whether the store takes writes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The state of the server, for the health service of gRPC and for the HTTP server of operators.
pub(super) struct Health {
    reporter: HealthReporter,
    ready: watch::Sender<bool>,
}

impl Health {
    /// Adds the health service to the services, and reports all of them as serving, also on `ready`.
    pub(super) async fn add_to(
        routes: Routes,
        ready: watch::Sender<bool>,
    ) -> Result<(Self, Routes), Error> {
        let (reporter, service) = tonic_health::server::health_reporter();
        let service = service
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .max_decoding_message_size(OPEN_REQUEST_BYTES_MAX);
        let health = Self { reporter, ready };
        health.set(true).await;
        Ok((health, routes.add_service(service)))
    }

    /// Returns a receiver that is `true` while the server is serving.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Follows the state of the store until `stop` is cancelled. Nothing is serving after that.
    pub(super) async fn follow(&self, engine: &Engine, stop: CancellationToken) {
        loop {
            let pause = tokio::time::sleep(CHECK_INTERVAL);
            if stop.run_until_cancelled(pause).await.is_none() {
                break;
            }
            let checked = engine.check().await;
            let is_ready = *self.ready.borrow();
            if let (Err(error), true) = (&checked, is_ready) {
                tracing::error!(%error, "not serving: the store takes no writes");
            }
            if checked.is_ok() != is_ready {
                self.set(checked.is_ok()).await;
            }
        }
        self.set(false).await;
    }

    async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES.into_iter().chain([""]) {
            self.reporter.set_service_status(service, status).await;
        }
        self.ready.send_replace(serving);
    }
}
