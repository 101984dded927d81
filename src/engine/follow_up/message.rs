//! The tasks that follow-ups are about, and the messages about them.

use crate::agent::prompts::follow_up_message;
use crate::engine::{Engine, Error};
use crate::model::{Call, CallId, FollowUp};
use crate::store::ToldFollowUp;

impl Engine {
    /// Returns a follow-up with its task, and the message to deliver.
    pub(super) async fn with_message(
        &self,
        record: FollowUp,
    ) -> Result<(ToldFollowUp, String), Error> {
        let task = self.task_of(record.call_id).await?;
        let message = follow_up_message([&task]);
        Ok((ToldFollowUp { record, task }, message))
    }

    /// Returns the task of a follow-up as it ended. More of its output than the record holds is
    /// added, unless the task has been removed since.
    pub(super) async fn task_of(&self, id: CallId) -> Result<Call, Error> {
        let stored = self.shared.store.told_follow_up(id).await?;
        let task = stored.ok_or_else(|| Error::FollowUpNotFound(id.follow_up()))?.task;
        match self.complete(task.clone()).await {
            Ok((task, _)) => Ok(task),
            Err(Error::TaskNotFound(_)) => Ok(task),
            Err(error) => Err(error),
        }
    }
}
