//! The end of an actor whose session this server does not own any more.

use super::SessionActor;

impl SessionActor {
    /// Leaves the session to another replica. Nothing more is written: the runs of its calls end with the
    /// actor. The owner of their processes ends these, and still knows them, so that no replica takes
    /// them for processes that were never started.
    pub(super) fn abandon(&mut self) {
        let id = self.projection.session.id;
        let live = i32::try_from(self.projection.live_calls().count()).unwrap_or(i32::MAX);
        tracing::warn!(session_id = %id, live, "the session is left to another server");
        self.shared.metrics.live_calls_changed(-live);
        self.shared.directory.remove(id);
        self.is_abandoned = true;
        self.term.end();
    }
}
