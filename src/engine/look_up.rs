//! Commands about records that are in the store only: those of calls that have ended, and of
//! follow-ups. They are read when all that came before is there, so that nothing is decided by a
//! record that has changed since, and one that was deleted doesn't come back.

use super::Error;
use super::batch::Batch;
use super::inbox::{Answer, Message};
use super::session::Actor;
use crate::machine::{Command, Reply};
use crate::model::{CallId, FollowUp};
use crate::store::{RequestRecord, Store, StoreError};

impl Actor {
    /// Reads what the message is about, and decides.
    pub(super) async fn look_up(&mut self, message: Message, batch: &mut Batch) {
        match message {
            Message::Acknowledge { call_id, answer } => {
                let command = acknowledge(self.shared.store.as_ref(), call_id).await;
                self.decide_stored(command, answer, None, batch);
            }
            Message::FollowUp { call_id, order, request, answer } => {
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
            Message::TakeFollowUps { turn, call_ids, answer } => {
                let records = follow_ups(self.shared.store.as_ref(), call_ids).await;
                let take = |records| Some(Command::TakeFollowUps { call_id: turn, records });
                let command = records.map(take).map_err(Error::from);
                self.decide_stored(command, answer, None, batch);
            }
            Message::Start { mut start, work, attach, request, claim, answer } => {
                batch.claims.extend(claim);
                let told = start.turn.as_mut().and_then(|turn| turn.follow_ups.as_mut());
                if let Some(told) = told {
                    let ids = told.iter().map(|record| record.call_id).collect();
                    match follow_ups(self.shared.store.as_ref(), ids).await {
                        Ok(records) => *told = records,
                        Err(error) => {
                            batch.answers.push((answer, Err(error.into())));
                            return;
                        }
                    }
                }
                self.take_start(*start, work, attach, batch, (answer, request));
            }
            other => self.take(other, batch),
        }
    }

    /// Decides a command; without one there is nothing to do.
    fn decide_stored(
        &mut self,
        command: Result<Option<Command>, Error>,
        answer: Answer,
        request: Option<RequestRecord>,
        batch: &mut Batch,
    ) {
        match command {
            Ok(Some(command)) => {
                let now = self.shared.clock.now();
                batch.decide(&mut self.projection, command, now, Some((answer, request)));
            }
            Ok(None) => batch.answers.push((answer, Ok(Reply::Done))),
            Err(error) => batch.answers.push((answer, Err(error))),
        }
    }
}

/// None: there is no such call any more.
async fn acknowledge(store: &dyn Store, call_id: CallId) -> Result<Option<Command>, Error> {
    let Some(call) = store.call(call_id).await? else { return Ok(None) };
    // One that can't be read back is no reason not to acknowledge the task.
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
