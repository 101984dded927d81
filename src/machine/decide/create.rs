//! A new session is stored.

use super::super::Decision;

/// Nothing changes: a new session's first append stores it, and this makes one happen.
pub(super) fn decide() -> Decision {
    Decision::nothing()
}
