//! The claims and releases of sessions that wait for the writer.

use tokio::sync::oneshot;

use crate::model::SessionId;
use crate::store::{Claimed, StoreError};

/// The claims and releases that wait for the writer.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) claims: Vec<(SessionId, oneshot::Sender<Result<Claimed, StoreError>>)>,
    pub(super) releases: Vec<(SessionId, u64)>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.claims.len() + self.releases.len()
    }
}
