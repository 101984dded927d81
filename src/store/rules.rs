//! What every adapter judges in the same way.

use super::{Append, MessagePage, StoreError, StoredMessage};
use crate::model::limits::HISTORY_MESSAGES_MAX;
use crate::model::{Labels, OutputPosition, OutputStream, StreamSummary};

/// Refuses an append that doesn't follow `head`, the end of the log that there is, or that
/// contradicts itself: events with a gap, a session or a call of another log, a call twice.
pub(super) fn check_append(append: &Append, head: Option<u64>) -> Result<(), StoreError> {
    let next = head.unwrap_or(0).saturating_add(1);
    let gapless = append.events.iter().zip(next..).all(|(event, place)| event.sequence == place);
    let own = append.session.id == append.session_id
        && append.calls.iter().all(|call| call.session_id == append.session_id);
    let ids = || append.calls.iter().map(|call| call.id).enumerate();
    let distinct = ids().all(|(n, id)| ids().take(n).all(|(_, earlier)| earlier != id));
    let numbered = append.messages.windows(2).all(|pair| pair[0].number + 1 == pair[1].number);
    if append.expected_head == head && gapless && own && distinct && numbered {
        Ok(())
    } else {
        Err(StoreError::Conflict { head })
    }
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

/// Whether a message is too old to be kept beside the newest.
pub(super) fn is_forgotten(number: u64, newest: u64) -> bool {
    number.saturating_add(HISTORY_MESSAGES_MAX) <= newest
}

/// Of messages, newest first, those that together take at most `bytes_max`.
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

/// Whether `labels` holds every one that is wanted.
pub(super) fn has_labels(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Counts of a call's output, kept up to date piece by piece, so that reading them costs the
/// same however long the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OutputCounts {
    pub(super) stdout: StreamSummary,
    pub(super) stderr: StreamSummary,
    pub(super) combined: StreamSummary,
}

impl OutputCounts {
    /// A piece came to the log.
    pub(super) fn add(&mut self, position: &OutputPosition, length: u64) {
        extend(self.of(position.stream), position.offset, length);
        extend(&mut self.combined, position.combined_offset, length);
    }

    /// A piece left the front of the log.
    pub(super) fn trim(&mut self, stream: OutputStream, length: u64) {
        if length > 0 {
            cut_front(self.of(stream), length);
            cut_front(&mut self.combined, length);
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

fn cut_front(summary: &mut StreamSummary, length: u64) {
    summary.kept_bytes = summary.kept_bytes.saturating_sub(length);
    summary.dropped_bytes = summary.total_bytes.saturating_sub(summary.kept_bytes);
    summary.cut_offset = Some(0);
}
