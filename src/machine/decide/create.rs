//! `Create`: a new session is stored.

use super::super::Decision;

/// Changes nothing: the append of this decision stores the session.
pub(super) fn decide() -> Decision {
    Decision::nothing()
}
