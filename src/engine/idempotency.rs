//! Idempotency of requests: a request id has its effect once, however often it is sent.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::engine::Error;
use crate::model::Tenant;
use crate::store::{RequestEffect, Store};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A request id of a caller, with a fingerprint of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The request id.
    pub id: String,
    /// The digest of the method and the content.
    pub fingerprint: [u8; 32],
}

type Key = (Tenant, String);

/// The ids of the requests that are under way.
///
/// A repetition waits until the first request has its record in the store, or has failed. So of
/// fifty equal requests one acts, and the others read its result. The map has one entry for each
/// request that is under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims {
    under_way: Arc<Mutex<HashMap<Key, watch::Sender<()>>>>,
}

/// The exclusive right to act for a request id, released when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    key: Key,
}

/// The result of a claim.
pub(crate) enum Claimed {
    /// The request is new: act, and hold the claim until the record is in the store. The claim is
    /// `None` if the request has no id.
    First(Option<Claim>),
    /// The request has had this effect before: answer from it.
    Replay(RequestEffect),
}

impl Claims {
    /// Waits for an equal request that is under way, then claims the id unless that request has had
    /// its effect.
    pub(crate) async fn claim(
        &self,
        store: &dyn Store,
        tenant: &Tenant,
        request: Option<&RequestKey>,
    ) -> Result<Claimed, Error> {
        let Some(request) = request else { return Ok(Claimed::First(None)) };
        let claim = self.acquire(tenant, &request.id).await;
        match store.request(tenant, &request.id).await? {
            None => Ok(Claimed::First(Some(claim))),
            Some(record) if record.fingerprint == request.fingerprint => {
                Ok(Claimed::Replay(record.effect))
            }
            Some(_) => Err(Error::RequestIdReused(request.id.clone())),
        }
    }

    async fn acquire(&self, tenant: &Tenant, id: &str) -> Claim {
        let key = (tenant.clone(), id.to_owned());
        loop {
            let mut ended = {
                let mut under_way = self.lock();
                match under_way.get(&key) {
                    Some(sender) => sender.subscribe(),
                    None => {
                        under_way.insert(key.clone(), watch::channel(()).0);
                        return Claim { claims: self.clone(), key };
                    }
                }
            };
            // The sender is dropped with the claim, so this ends with an error.
            let _ = ended.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<()>>> {
        // The map is consistent after a panic: every change to it is one call.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.key);
    }
}

/// Returns the error for a recorded effect of another method. The fingerprint includes the method,
/// so this is a defect of the server.
pub(crate) fn unexpected_effect() -> Error {
    Error::Internal("the request is recorded with the effect of another method".into())
}
