//! Request ids: the same id has its effect once, however often and however quickly it comes.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::Error;
use crate::model::Tenant;
use crate::store::{RequestEffect, Store};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A request id as a caller sent it, with a digest of what it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The id.
    pub id: String,
    /// A digest of the method and the content.
    pub fingerprint: [u8; 32],
}

type Key = (Tenant, String);

/// The ids whose requests are under way.
///
/// A repetition waits until the first has its record in the store, or has failed; so of fifty
/// equal requests one acts, and the others read what it did. One entry a request under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims {
    under_way: Arc<Mutex<HashMap<Key, watch::Sender<()>>>>,
}

/// The right to act for a request id, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    key: Key,
}

/// What to do about a request.
pub(crate) enum Claimed {
    /// Act, and keep the claim until the record is in the store. None: it has no id.
    First(Option<Claim>),
    /// It was done before: answer by this.
    Replay(RequestEffect),
}

impl Claims {
    /// Waits for an equal request that is under way, then says whether this one is to act.
    pub(crate) async fn claim(
        &self,
        store: &dyn Store,
        tenant: &Tenant,
        request: Option<&RequestKey>,
    ) -> Result<Claimed, Error> {
        let Some(request) = request else { return Ok(Claimed::First(None)) };
        let claim = self.take(tenant, &request.id).await;
        match store.request(tenant, &request.id).await? {
            None => Ok(Claimed::First(Some(claim))),
            Some(record) if record.fingerprint == request.fingerprint => {
                Ok(Claimed::Replay(record.effect))
            }
            Some(_) => Err(Error::RequestIdReused(request.id.clone())),
        }
    }

    async fn take(&self, tenant: &Tenant, id: &str) -> Claim {
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
            // Ends with an error when the holder drops its claim: that is the news.
            let _ = ended.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<()>>> {
        // A map that a panic left behind is whole: every change to it is one call.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.key);
    }
}
