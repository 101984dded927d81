//! Listing tasks.

use super::{Engine, Error};
use crate::store::{CallPage, CallQuery};

impl Engine {
    /// Background tasks, newest first.
    pub async fn list(&self, query: CallQuery) -> Result<CallPage, Error> {
        Ok(self.shared.store.calls(query).await?)
    }
}
