//! Pages of logs that were read last: many readers of one session cost one read of the store.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::generations::Generations;
use crate::model::SessionId;
use crate::model::limits::RECENT_PAGES_MAX;
use crate::store::{EventPage, EventQuery, StoreError};

/// The pages.
#[derive(Debug)]
pub(super) struct Pages(Mutex<Generations<Key, Arc<OnceCell<EventPage>>>>);

/// What a page depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    session_id: SessionId,
    after: u64,
    scan_max: usize,
    bytes_max: usize,
}

impl Default for Pages {
    fn default() -> Self {
        Self(Mutex::new(Generations::new(RECENT_PAGES_MAX / 2)))
    }
}

impl Pages {
    /// Pages with all events of a session are remembered; filters are too many.
    pub(super) fn holds(query: &EventQuery) -> bool {
        query.kinds.is_empty() && query.call_id.is_none()
    }

    /// The page from memory, from a read that is under way, or from `read`; and whether it is
    /// somebody else's.
    pub(super) async fn read(
        &self,
        query: &EventQuery,
        read: impl Future<Output = Result<EventPage, StoreError>>,
    ) -> Result<(EventPage, bool), StoreError> {
        let EventQuery { session_id, after, scan_max, bytes_max, .. } = *query;
        let key = Key { session_id, after, scan_max, bytes_max };
        let cell = {
            let mut pages = self.lock();
            match pages.get(&key) {
                Some(cell) => cell.clone(),
                None => {
                    let cell = Arc::new(OnceCell::new());
                    pages.insert(key.clone(), cell.clone());
                    cell
                }
            }
        };
        let mut is_shared = true;
        let own = async {
            is_shared = false;
            read.await
        };
        let page = cell.get_or_try_init(|| own).await?.clone();
        // The end of a log will be another.
        if !is_shared && page.scanned_to >= page.head {
            self.lock().remove(&key);
        }
        Ok((page, is_shared))
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Generations<Key, Arc<OnceCell<EventPage>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
