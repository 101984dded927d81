//! Reads of logs and of output in memory.

use super::{MemoryState, StoredOutput};
use crate::model::limits::OUTPUT_PAGE_PIECES_MAX;
use crate::model::{OutputStream, SessionState};
use crate::store::{EventPage, EventQuery, OutputFrom, OutputPage, OutputQuery, OutputSelection};
use crate::store::{StoredEvent, rules::OutputCounts};

pub(super) fn events(state: &MemoryState, query: &EventQuery) -> EventPage {
    let Some(log) = state.sessions.get(&query.session_id) else {
        let (head, first, closed) = (0, 1, false);
        let (scanned_to, stream_epoch) = (query.after, None);
        return EventPage { events: vec![], scanned_to, head, first, closed, stream_epoch };
    };
    let first = log.session.first_sequence;
    let mut scanned_to = query.after.max(first.saturating_sub(1));
    let mut bytes = 0;
    let mut events = Vec::new();
    for event in log.events.range(log.index_after(scanned_to)..).take(query.scan_max) {
        if matches(query, event) {
            bytes += event.bytes.len();
            if bytes > query.bytes_max && !events.is_empty() {
                break;
            }
            events.push(event.into());
        }
        scanned_to = event.sequence;
    }
    let head = log.session.head_sequence;
    let closed = log.session.state == SessionState::Closed;
    EventPage { events, scanned_to, head, first, closed, stream_epoch: None }
}

pub(super) fn output(state: &MemoryState, query: &OutputQuery) -> Option<OutputPage> {
    let Some(output) = state.outputs.get(&query.call_id) else {
        let is_known = state.calls.contains_key(&query.call_id);
        return is_known.then(|| page(Vec::new(), &OutputCounts::default()));
    };
    let all = pieces(state, output, query.selection);
    let start = match query.from {
        OutputFrom::Offset(offset) => first_from(&all, offset),
        OutputFrom::Tail(bytes) => first_of_tail(&all, bytes),
    };
    let from_offset = matches!(query.from, OutputFrom::Offset(_));
    let mut bytes: u64 = 0;
    let mut pieces = Vec::new();
    for (event, _, length) in all.into_iter().skip(start) {
        pieces.push(event.clone());
        bytes = bytes.saturating_add(length);
        // A tail is returned whole.
        let is_full = bytes >= query.bytes_max || pieces.len() >= OUTPUT_PAGE_PIECES_MAX;
        if from_offset && is_full {
            break;
        }
    }
    Some(page(pieces, &output.counts))
}

/// Returns the pieces of the selected stream.
fn pieces<'a>(
    state: &'a MemoryState,
    output: &StoredOutput,
    selection: OutputSelection,
) -> Vec<OutputPiece<'a>> {
    let Some(log) = state.sessions.get(&output.session_id) else { return Vec::new() };
    let of_log = |sequence: &u64| log.events.get(log.index_after(sequence.saturating_sub(1)));
    let mut pieces = Vec::new();
    for event in output.sequences.iter().filter_map(of_log) {
        let Some((position, length)) = event.output else { continue };
        let offset = match (selection, position.stream) {
            (OutputSelection::Combined, _) => position.combined_offset,
            (OutputSelection::Stdout, OutputStream::Stdout)
            | (OutputSelection::Stderr, OutputStream::Stderr) => position.offset,
            (OutputSelection::Stdout, OutputStream::Stderr)
            | (OutputSelection::Stderr, OutputStream::Stdout) => continue,
        };
        pieces.push((event, offset, length));
    }
    pieces
}

/// A piece of output, its offset in the selected stream, and its length.
type OutputPiece<'a> = (&'a StoredEvent, u64, u64);

fn matches(query: &EventQuery, event: &StoredEvent) -> bool {
    (query.kinds.is_empty() || query.kinds.contains(&event.kind))
        && query.call_id.is_none_or(|id| event.call_id == Some(id))
}

/// Returns the index of the piece that holds offset `wanted`, or else of the next one.
fn first_from(pieces: &[OutputPiece<'_>], wanted: u64) -> usize {
    let ends_behind =
        |(_, offset, length): &OutputPiece<'_>| offset.saturating_add(*length) > wanted;
    pieces.iter().position(ends_behind).unwrap_or(pieces.len())
}

/// Returns the index of the first of the last pieces that together have `wanted` bytes.
fn first_of_tail(pieces: &[OutputPiece<'_>], wanted: u64) -> usize {
    let mut bytes: u64 = 0;
    let mut start = pieces.len();
    for (_, _, length) in pieces.iter().rev().take(OUTPUT_PAGE_PIECES_MAX) {
        if bytes >= wanted {
            break;
        }
        bytes = bytes.saturating_add(*length);
        start -= 1;
    }
    start
}

fn page(pieces: Vec<StoredEvent>, counts: &OutputCounts) -> OutputPage {
    let OutputCounts { stdout, stderr, combined } = *counts;
    OutputPage { pieces, stdout, stderr, combined }
}
