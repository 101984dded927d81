//! The columns of a session, which change more often than the rest of it.

use serde_json::Value;

use super::record;
use crate::model::{Session, Timestamp};

/// The number by which the change numbers of all tasks grow when epochs change, so that those who
/// watch tasks get each of them once more. No server makes as many changes.
pub(super) const CHANGES_SKIPPED: u64 = 1 << 32;

/// The columns of a session's row that the writer needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionRow {
    pub(super) key: i64,
    pub(super) head: u64,
    pub(super) first: u64,
    pub(super) live: u64,
    /// The number of stored calls and follow-ups. The session is kept while there are any.
    pub(super) calls: u64,
}

impl SessionRow {
    /// Returns whether only the head differs, and the length of the log has as many binary digits.
    pub(super) fn only_head_differs(self, other: Self) -> bool {
        (self.live, self.calls, self.log_digits()) == (other.live, other.calls, other.log_digits())
    }

    /// Returns the binary digits of the length of the log, by which long logs are found.
    pub(super) fn log_digits(self) -> u32 {
        u64::BITS - self.length().leading_zeros()
    }

    /// Returns the number of events in the log.
    pub(super) fn length(self) -> u64 {
        self.head.saturating_add(1).saturating_sub(self.first)
    }
}

/// Returns the session without the fields that have columns. While it is equal, its JSON need not
/// be written.
pub(super) fn body_of(session: Session) -> Session {
    Session {
        update_time: Timestamp::default(),
        live_tasks: 0,
        head_sequence: 0,
        first_sequence: 1,
        ..session
    }
}

/// Returns the session with the fields that have columns.
pub(super) fn session_of(body: Session, row: SessionRow, update_time: Timestamp) -> Session {
    Session {
        update_time,
        live_tasks: u32::try_from(row.live).unwrap_or(u32::MAX),
        head_sequence: row.head,
        first_sequence: row.first,
        ..body
    }
}

/// Returns the JSON of a session with a new epoch, or `None` if it cannot be read.
pub(super) fn with_new_epoch(body: &str) -> Option<String> {
    let mut session: Value = serde_json::from_str(record::json(body).ok()?).ok()?;
    *session.get_mut("stream_epoch")? = uuid::Uuid::new_v4().simple().to_string().into();
    record::encode(&session).ok()
}
