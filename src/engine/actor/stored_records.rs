//! Decisions on records that are in the store only: calls that have ended, and follow-ups.
//!
//! The records are read once every earlier append is durable. So no decision uses a record that has
//! changed since, and a deleted one does not come back.

use super::SessionActor;
use super::batch::Batch;
use super::inbox::{ActorMessage, Answer};
use crate::engine::Error;
use crate::machine::{Command, Reply};
use crate::model::{CallId, FollowUp};
use crate::store::{RequestRecord, Store, StoreError};

impl SessionActor {
    /// Reads the records that the message needs, and decides it.
    pub(super) async fn decide_on_stored(&mut self, message: ActorMessage, batch: &mut Batch) {
        match message {
            ActorMessage::Acknowledge { call_id, answer } => {
                let command = acknowledge(self.shared.store.as_ref(), call_id).await;
                self.decide_stored(command, answer, None, batch);
            }
            ActorMessage::FollowUp { call_id, order, request, answer } => {
                let record = self.shared.store.follow_up(call_id).await;
                let command = match record {
                    Ok(Some(record)) => {
                        Ok(Some(Command::FollowUp { record: Box::new(record), order }))
                    }
                    Ok(None) => Err(Error::FollowUpNotFound(call_id.follow_up())),
                    Err(error) => Err(error.into()),
                };
                self.decide_stored(command, answer, request, batch);
            }
            ActorMessage::TakeFollowUps { turn, call_ids, answer } => {
                let records = follow_ups(self.shared.store.as_ref(), call_ids).await;
                let take = |records| Some(Command::TakeFollowUps { call_id: turn, records });
                let command = records.map(take).map_err(Error::from);
                self.decide_stored(command, answer, None, batch);
            }
            ActorMessage::Start { mut start, work, attach, request, claim, hold, answer } => {
                batch.claims.extend(claim);
                let records = start.turn.as_mut().and_then(|turn| turn.follow_ups.as_mut());
                if let Some(records) = records {
                    let ids = records.iter().map(|record| record.call_id).collect();
                    match follow_ups(self.shared.store.as_ref(), ids).await {
                        Ok(stored) => *records = stored,
                        Err(error) => {
                            batch.answers.push((answer, Err(error.into())));
                            return;
                        }
                    }
                }
                self.decide_start(*start, work, (attach, hold), batch, (answer, request));
            }
            other => self.decide(other, batch),
        }
    }

    /// Decides a command; if there is none, the answer is that nothing is left to do.
    fn decide_stored(
        &mut self,
        command: Result<Option<Command>, Error>,
        answer: Answer,
        request: Option<RequestRecord>,
        batch: &mut Batch,
    ) {
        match command {
            Ok(Some(command)) => {
                let now = self.shared.now();
                batch.decide(&mut self.projection, command, now, Some((answer, request)));
            }
            Ok(None) => batch.answers.push((answer, Ok(Reply::Done))),
            Err(error) => batch.answers.push((answer, Err(error))),
        }
    }
}

/// Returns the command for an acknowledgement, or `None` if the call no longer exists.
async fn acknowledge(store: &dyn Store, call_id: CallId) -> Result<Option<Command>, Error> {
    let Some(call) = store.call(call_id).await? else { return Ok(None) };
    // The task is acknowledged even if its follow-up cannot be read back.
    let follow_up = match store.follow_up(call_id).await {
        Ok(follow_up) => follow_up.map(Box::new),
        Err(StoreError::Corrupt(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Some(Command::Acknowledge { call: Box::new(call), follow_up }))
}

async fn follow_ups(store: &dyn Store, call_ids: Vec<CallId>) -> Result<Vec<FollowUp>, StoreError> {
    let mut records = Vec::with_capacity(call_ids.len());
    for call_id in call_ids {
        records.extend(store.follow_up(call_id).await?);
    }
    Ok(records)
}
