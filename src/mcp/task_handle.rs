//! The handles under which later servers find tasks of MCP servers again.

use serde::{Deserialize, Serialize};

use crate::model::WorkHandle;
use crate::tool::ToolContext;

/// The handle of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskHandle {
    /// The server's id of the task.
    pub(super) task_id: String,
    /// The protocol of the task.
    pub(super) protocol: TaskProtocol,
}

/// A version of the protocol, as far as tasks depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TaskProtocol {
    /// Tasks that a call asks for.
    #[serde(rename = "2025-11-25")]
    AskedFor,
    /// Tasks that a server makes of calls by itself.
    #[serde(rename = "2026-07-28")]
    MadeByServer,
}

impl TaskHandle {
    /// Reads a handle, or returns `None` if it is none of a task.
    pub(super) fn read(handle: &WorkHandle) -> Option<Self> {
        serde_json::from_str(handle.as_str()).ok()
    }

    /// Keeps the handle in the record of the call. One with a very long id is not kept: the call is lost
    /// at a restart then.
    pub(super) async fn keep(&self, context: &ToolContext) {
        let text = serde_json::to_string(self).unwrap_or_default();
        match WorkHandle::new(text) {
            Some(handle) => context.keep_handle(handle).await,
            None => tracing::warn!(
                call_id = %context.call_id(),
                bytes = self.task_id.len(),
                "the id of a task is too long to be kept: its call does not outlive this server"
            ),
        }
    }
}

/// The reason why a task has no result, as the end of a sentence.
pub(super) enum TaskError {
    /// The task has failed, or cannot be followed.
    Failed(String),
    /// The server does not know the task.
    Forgotten(String),
}

impl TaskError {
    /// Returns the text.
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Failed(reason) | Self::Forgotten(reason) => reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_as_it_was_kept() {
        for protocol in [TaskProtocol::AskedFor, TaskProtocol::MadeByServer] {
            let handle = TaskHandle { task_id: "a \"task\" of ü".into(), protocol };
            let text = serde_json::to_string(&handle).unwrap();
            assert_eq!(TaskHandle::read(&WorkHandle::new(text).unwrap()), Some(handle));
        }
        assert_eq!(TaskHandle::read(&WorkHandle::new("of another tool").unwrap()), None);
    }
}
