//! The availability of the database to the writer.

use std::sync::{Mutex, PoisonError};

/// The reason why nothing can be written now, or `None` if the writer has the lock.
#[derive(Debug, Default)]
pub(super) struct Availability(Mutex<Option<String>>);

impl Availability {
    pub(super) fn cause(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, cause: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }
}
