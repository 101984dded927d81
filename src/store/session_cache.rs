//! A writer's cache of the sessions that it wrote last.

use std::collections::HashMap;

use crate::model::SessionId;

/// The most sessions in the cache. One more clears it: sessions are read again when they are
/// needed.
const SESSIONS_MAX: usize = 4_096;
/// The most bytes of JSON of the sessions in the cache. Beyond it the cache is cleared, too.
const SESSIONS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A writer's copy of sessions, as it has written them last. It must be cleared after a rollback, and
/// after any change of sessions that bypasses it.
#[derive(Debug)]
pub(super) struct SessionCache<T> {
    known: HashMap<SessionId, T>,
    bytes: usize,
}

impl<T> Default for SessionCache<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), bytes: 0 }
    }
}

impl<T> SessionCache<T> {
    pub(super) fn get(&self, id: SessionId) -> Option<&T> {
        self.known.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut T> {
        self.known.get_mut(&id)
    }

    /// Adds a session whose body takes `bytes` bytes of JSON.
    pub(super) fn insert(&mut self, id: SessionId, session: T, bytes: usize) {
        if self.known.len() >= SESSIONS_MAX || self.bytes.saturating_add(bytes) > SESSIONS_BYTES_MAX
        {
            self.clear();
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.known.insert(id, session);
    }

    /// Removes a session, which another writer may change.
    #[cfg(feature = "postgres")]
    pub(super) fn remove(&mut self, id: SessionId) {
        self.known.remove(&id);
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded() {
        for (count, bytes, most) in [(100, 1024 * 1024, 16), (SESSIONS_MAX + 10, 1, SESSIONS_MAX)] {
            let mut sessions = SessionCache::default();
            for _ in 0..count {
                sessions.insert(SessionId::random(), (), bytes);
                assert!(sessions.known.len() <= most);
            }
        }
    }
}
