//! The pages of logs that were read last: many readers of one session cost one read of the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::generations::Generations;
use crate::model::SessionId;
use crate::model::limits::RECENT_PAGES_MAX;
use crate::store::{EventPage, EventQuery, StoreError};

#[derive(Debug)]
pub(super) struct Pages(Mutex<Generations<PageKey, SharedRead>>);

/// A page, or the read that returns it. Every caller that waits for it polls it: the first one may
/// be the body of a response that is not polled.
type SharedRead = Shared<BoxFuture<'static, Result<Arc<EventPage>, StoreError>>>;

/// The parts of a query on which its page depends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PageKey {
    session_id: SessionId,
    after: u64,
    scan_max: usize,
    bytes_max: usize,
}

impl PageKey {
    fn of(query: &EventQuery) -> Self {
        let EventQuery { session_id, after, scan_max, bytes_max, .. } = *query;
        Self { session_id, after, scan_max, bytes_max }
    }
}

impl Default for Pages {
    fn default() -> Self {
        Self(Mutex::new(Generations::new(RECENT_PAGES_MAX / 2)))
    }
}

impl Pages {
    /// Returns whether the page of a query is cached. Pages with filters are not: there are too
    /// many.
    pub(super) fn is_cacheable(query: &EventQuery) -> bool {
        query.kinds.is_empty() && query.call_id.is_none()
    }

    /// Returns the page from memory, from a read that is under way, or from `read`, and whether it
    /// is one that another caller has read.
    pub(super) async fn read(
        &self,
        query: &EventQuery,
        read: impl FnOnce() -> BoxFuture<'static, Result<EventPage, StoreError>>,
    ) -> Result<(Arc<EventPage>, bool), StoreError> {
        let key = PageKey::of(query);
        let (page, is_shared) = {
            let mut pages = self.lock();
            match pages.get(&key) {
                Some(page) => (page.clone(), true),
                None => {
                    let page = read().map(|page| page.map(Arc::new)).boxed().shared();
                    pages.insert(key.clone(), page.clone());
                    (page, false)
                }
            }
        };
        let page = page.await;
        if page.is_err() {
            // The error may be transient.
            self.lock().remove(&key);
        }
        Ok((page?, is_shared))
    }

    /// Removes a page, unless another read of it has begun since.
    pub(super) fn forget(&self, query: &EventQuery, page: &Arc<EventPage>) {
        let key = PageKey::of(query);
        let mut pages = self.lock();
        let known = pages.get(&key).and_then(|known| known.peek());
        if known.is_some_and(|known| known.as_ref().is_ok_and(|known| Arc::ptr_eq(known, page))) {
            pages.remove(&key);
        }
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Generations<PageKey, SharedRead>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
