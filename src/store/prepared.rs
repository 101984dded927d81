//! An append with its checksums and its records as JSON: what is made of it before the writer has its turn.

use super::session_row::body_of;
use super::{Append, StoreError, event_row, record};
use crate::model::{FollowUpPut, Timestamp};

/// An append after the work that needs neither the database nor the writer's thread.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The append, with the [`body_of`] its session.
    pub(super) append: Append,
    pub(super) update_time: Timestamp,
    /// The checksums of the events, in the order of the append.
    pub(super) checksums: Vec<u32>,
    /// The calls as JSON, in the order of the append.
    pub(super) call_bodies: Vec<String>,
    /// The follow-ups as JSON, in the order of the append.
    pub(super) follow_ups: Vec<FollowUpBodies>,
    /// The effects of the requests as JSON, in the order of the append.
    pub(super) effects: Vec<String>,
}

/// A follow-up as JSON.
#[derive(Debug)]
pub(super) struct FollowUpBodies {
    pub(super) record: String,
    /// The task, or `None` if the record came without it.
    pub(super) task: Option<String>,
}

impl Prepared {
    pub(super) fn new(mut append: Append) -> Result<Self, StoreError> {
        let update_time = append.session.update_time;
        append.session = body_of(append.session);
        let checksums = append.events.iter().map(event_row::checksum).collect();
        let call_bodies = append.calls.iter().map(record::encode).collect::<Result<_, _>>()?;
        let follow_ups = append.follow_ups.iter().map(bodies).collect::<Result<_, _>>()?;
        let effects = append.requests.iter().map(|request| record::encode(&request.effect));
        let effects = effects.collect::<Result<_, _>>()?;
        Ok(Self { append, update_time, checksums, call_bodies, follow_ups, effects })
    }
}

fn bodies(put: &FollowUpPut) -> Result<FollowUpBodies, StoreError> {
    let task = put.task.as_ref().map(record::encode).transpose()?;
    Ok(FollowUpBodies { record: record::encode(&put.record)?, task })
}
