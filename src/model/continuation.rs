//! The parts of a call's record with which a later server goes on with its run: the owner of its process, and
//! the handle of work that is done elsewhere.

use serde::{Deserialize, Serialize};

use super::limits::WORK_HANDLE_BYTES_MAX;

/// The owner of a process that outlives its server: the number of a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunOwner(pub u64);

/// The name of work that is done outside of this server, under which a later server finds it again. Only
/// the tool that does the work reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkHandle(Box<str>);

impl WorkHandle {
    /// Creates a handle, or returns `None` if the text has more than [`WORK_HANDLE_BYTES_MAX`] bytes.
    pub fn new(text: impl Into<Box<str>>) -> Option<Self> {
        let text = text.into();
        (text.len() <= WORK_HANDLE_BYTES_MAX).then_some(Self(text))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
