//! What probes are told: serving, or not.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Error;
use crate::engine::Engine;
use crate::model::limits::OPEN_REQUEST_BYTES_MAX;
use crate::rpc::SERVICES;

/// How often the store is asked whether it still takes writes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells gRPC's health service and the operators' page the same.
pub(super) struct Health {
    reporter: HealthReporter,
    ready: watch::Sender<bool>,
}

impl Health {
    /// The services with health beside them: serving, each and all.
    pub(super) async fn beside(routes: Routes) -> Result<(Self, Routes), Error> {
        let (reporter, service) = tonic_health::server::health_reporter();
        let service = service.max_decoding_message_size(OPEN_REQUEST_BYTES_MAX);
        let health = Self { reporter, ready: watch::Sender::new(false) };
        health.set(true).await;
        Ok((health, routes.add_service(service)))
    }

    /// Whether it serves, for the operators' page.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Follows the store until `stop`, then says that nothing is served any more.
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
