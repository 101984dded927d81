//! The tasks that follow-ups are about, and the messages about them.

use super::FollowUps;
use crate::agent::prompts::follow_up_message;
use crate::engine::Error;
use crate::engine::call::Calls;
use crate::model::{Call, CallId, FollowUp};
use crate::store::FollowUpWithTask;

impl FollowUps {
    /// Returns a follow-up with its task, and the message to deliver.
    pub(super) async fn with_message(
        &self,
        record: FollowUp,
    ) -> Result<(FollowUpWithTask, String), Error> {
        let task = self.task_of(record.call_id).await?;
        let message = follow_up_message([&task]);
        Ok((FollowUpWithTask { record, task }, message))
    }

    /// Returns the task of a follow-up as it ended. More of its output than the record holds is
    /// added, unless the task has been removed since.
    pub(super) async fn task_of(&self, id: CallId) -> Result<Call, Error> {
        let stored = self.shared.store.follow_up_with_task(id).await?;
        let task = stored.ok_or_else(|| Error::FollowUpNotFound(id.follow_up()))?.task;
        match Calls::new(&self.shared).with_full_output(task.clone()).await {
            Ok((task, _)) => Ok(task),
            Err(Error::TaskNotFound(_)) => Ok(task),
            Err(error) => Err(error),
        }
    }
}
