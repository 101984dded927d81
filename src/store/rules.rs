//! The rules that all adapters share: the checks of an append, the times at which follow-ups are due, and the
//! messages that fit a page.

use super::{Append, MessagePage, MessageSlice, StoreError, StoredMessage};
use crate::model::limits::HISTORY_MESSAGES_MAX;
use crate::model::{
    CallId, Delivery, FollowUp, FollowUpPut, FollowUpState, Labels, OutputPosition, OutputStream,
    SessionId, StreamSummary, Timestamp,
};

/// Refuses an append that does not follow `head`, the end of the log, or that contradicts itself:
/// with a gap in its events, a session, a call or a follow-up of another log, or a call twice.
pub(super) fn check_append(append: &Append, head: Option<u64>) -> Result<(), StoreError> {
    let next = head.unwrap_or(0).saturating_add(1);
    let gapless = append.events.iter().zip(next..).all(|(event, place)| event.sequence == place);
    let own = append.session.id == append.session_id
        && append.calls.iter().all(|call| call.session_id == append.session_id)
        && append.follow_ups.iter().all(|put| is_own(put, append.session_id));
    let ids = || append.calls.iter().map(|call| call.id).enumerate();
    let distinct = ids().all(|(n, id)| ids().take(n).all(|(_, earlier)| earlier != id));
    let numbered = append.messages.windows(2).all(|pair| pair[0].number + 1 == pair[1].number);
    if append.expected_head == head && gapless && own && distinct && numbered {
        Ok(())
    } else {
        Err(StoreError::Conflict { head })
    }
}

fn is_own(put: &FollowUpPut, session_id: SessionId) -> bool {
    let of_task = put.task.as_ref().is_none_or(|task| task.id == put.record.call_id);
    put.record.session_id == session_id && of_task
}

/// Refuses a follow-up of another session, and a new one without its task. `owner` returns the
/// session of a stored one.
pub(super) fn check_follow_ups<E: From<StoreError>>(
    append: &Append,
    head: Option<u64>,
    mut owner: impl FnMut(CallId) -> Result<Option<SessionId>, E>,
) -> Result<(), E> {
    let mut new = Vec::new();
    for FollowUpPut { record, task } in &append.follow_ups {
        let fits = match owner(record.call_id)? {
            Some(session_id) => session_id == append.session_id,
            None if task.is_some() => {
                new.push(record.call_id);
                true
            }
            None => new.contains(&record.call_id),
        };
        if !fits {
            return Err(StoreError::Conflict { head }.into());
        }
    }
    Ok(())
}

/// The action for which a follow-up is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Delivery by the engine.
    Delivery,
    /// A lease to a consumer.
    Lease,
    /// The end of a lease that has expired.
    LeaseExpiry,
}

impl Due {
    /// The number that a database keeps for this value.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Delivery => 1,
            Self::Lease => 2,
            Self::LeaseExpiry => 3,
        }
    }
}

/// Returns the action for which a follow-up is due, and the time, or `None` if it is settled.
pub(super) fn due(record: &FollowUp) -> Option<(Due, Timestamp)> {
    let what = match (record.state, record.delivery) {
        (FollowUpState::Pending, Delivery::Engine) => Due::Delivery,
        (FollowUpState::Pending, Delivery::Lease) => Due::Lease,
        (FollowUpState::Leased, Delivery::Engine | Delivery::Lease) => Due::LeaseExpiry,
        (FollowUpState::Delivered | FollowUpState::Suppressed | FollowUpState::DeadLettered, _) => {
            return None;
        }
    };
    record.due_time.map(|time| (what, time))
}

/// Returns the id of the request for which a follow-up is leased, or `None` if there is none.
pub(super) fn lease_request(record: &FollowUp) -> Option<&str> {
    let lease = record.lease.as_ref().filter(|_| record.state == FollowUpState::Leased)?;
    lease.request_id.as_deref()
}

/// Refuses an append that uses a request id twice.
pub(super) fn check_requests(append: &Append) -> Result<(), StoreError> {
    let ids = || append.requests.iter().map(|request| (&request.tenant, &request.request_id));
    match ids().enumerate().find(|(n, id)| ids().take(*n).any(|earlier| earlier == *id)) {
        Some((_, (_, request_id))) => {
            Err(StoreError::RequestTaken { request_id: request_id.clone() })
        }
        None => Ok(()),
    }
}

/// Returns whether a message is too old to be kept beside the newest.
pub(super) fn is_forgotten(number: u64, newest: u64) -> bool {
    number.saturating_add(HISTORY_MESSAGES_MAX) <= newest
}

/// Takes messages, newest first, as long as they fit into `bytes_max`.
pub(super) fn newest_that_fit(
    messages: impl Iterator<Item = StoredMessage>,
    bytes_max: u64,
) -> MessagePage {
    let mut room = bytes_max;
    let mut page = MessagePage::default();
    for message in messages {
        let Some(left) = room.checked_sub(message.body.len() as u64) else {
            page.omitted = page.omitted.max(message.number);
            break;
        };
        room = left;
        page.omitted = message.number.saturating_sub(1);
        page.messages.push(message);
    }
    page.messages.reverse();
    page
}

/// Returns the first messages that together take at most `bytes_max`, at most `limit` of them, and at
/// least one.
pub(super) fn first_that_fit(
    messages: impl Iterator<Item = StoredMessage>,
    limit: u32,
    bytes_max: usize,
) -> MessageSlice {
    let mut slice = MessageSlice::default();
    let mut bytes = 0;
    for message in messages {
        bytes += message.body.len();
        let is_full = slice.messages.len() >= limit as usize || bytes > bytes_max;
        if is_full && !slice.messages.is_empty() {
            slice.has_more = true;
            break;
        }
        slice.messages.push(message);
    }
    slice
}

/// Returns whether `labels` has all of the `wanted` ones.
pub(super) fn has_labels(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Divides a page into its records and the positions of those that cannot be read.
pub(super) fn split<P, T>(found: Vec<(P, Option<T>)>) -> (Vec<T>, Vec<P>) {
    let (mut records, mut unreadable) = (Vec::with_capacity(found.len()), Vec::new());
    for (position, record) in found {
        match record {
            Some(record) => records.push(record),
            None => unreadable.push(position),
        }
    }
    (records, unreadable)
}

/// The counts of a call's output, updated with each piece, so that reading them costs the same
/// however long the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OutputCounts {
    pub(super) stdout: StreamSummary,
    pub(super) stderr: StreamSummary,
    pub(super) combined: StreamSummary,
}

impl OutputCounts {
    /// Counts a piece that was appended to the log.
    pub(super) fn add(&mut self, position: &OutputPosition, length: u64) {
        extend(self.of(position.stream), position.offset, length);
        extend(&mut self.combined, position.combined_offset, length);
    }

    /// Counts a piece that was trimmed from the front of the log.
    pub(super) fn trim(&mut self, stream: OutputStream, length: u64) {
        if length > 0 {
            trim_front(self.of(stream), length);
            trim_front(&mut self.combined, length);
        }
    }

    fn of(&mut self, stream: OutputStream) -> &mut StreamSummary {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }
}

fn extend(summary: &mut StreamSummary, offset: u64, length: u64) {
    if offset > summary.total_bytes {
        summary.cut_offset.get_or_insert(summary.total_bytes);
    }
    summary.kept_bytes = summary.kept_bytes.saturating_add(length);
    summary.total_bytes = summary.total_bytes.max(offset.saturating_add(length));
    summary.dropped_bytes = summary.total_bytes.saturating_sub(summary.kept_bytes);
}

fn trim_front(summary: &mut StreamSummary, length: u64) {
    summary.kept_bytes = summary.kept_bytes.saturating_sub(length);
    summary.dropped_bytes = summary.total_bytes.saturating_sub(summary.kept_bytes);
    summary.cut_offset = Some(0);
}
