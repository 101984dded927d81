//! Output: found by offset, from its tail, and counted.

use super::world::{SessionWriter, output_events};
use crate::model::OutputStream::{Stderr, Stdout};
use crate::model::{CallId, OutputStream, StreamSummary};
use crate::store::{OutputFrom, OutputPage, OutputQuery, OutputSelection, Store, StoredEvent};

const SELECTIONS: [OutputSelection; 3] =
    [OutputSelection::Stdout, OutputSelection::Stderr, OutputSelection::Combined];

/// Two streams with a hole in each, and pieces of many lengths.
const PIECES: [(OutputStream, u64, u64); 9] = [
    (Stdout, 0, 5),
    (Stdout, 0, 1),
    (Stderr, 0, 3),
    (Stdout, 0, 4),
    (Stdout, 7, 2),
    (Stderr, 2, 6),
    (Stderr, 0, 1),
    (Stdout, 0, 3),
    (Stdout, 11, 5),
];

/// A session whose call has written [`PIECES`] in several appends, between other events.
async fn written(store: &dyn Store) -> (CallId, Vec<StoredEvent>) {
    let mut log = SessionWriter::stored(store, 0).await;
    let call = log.task(0);
    log.put_one(store, &call).await;
    let mut events = output_events(call.id, 1, &PIECES);
    for (n, event) in events.iter_mut().enumerate() {
        if n % 4 == 3 {
            log.write(store, 1).await;
        }
        event.sequence = log.head.unwrap_or(0) + 1;
        let append = crate::store::Append { events: vec![event.clone()], ..log.append() };
        log.commit(store, append).await;
    }
    (call.id, events)
}

/// The pieces of a selection, each with its offset there and its length.
fn selected(events: &[StoredEvent], selection: OutputSelection) -> Vec<(StoredEvent, u64, u64)> {
    let mut pieces = Vec::new();
    for event in events {
        let (position, length) = event.output.unwrap();
        match (selection, position.stream) {
            (OutputSelection::Combined, _) => {
                pieces.push((event.clone(), position.combined_offset, length));
            }
            (OutputSelection::Stdout, Stdout) | (OutputSelection::Stderr, Stderr) => {
                pieces.push((event.clone(), position.offset, length));
            }
            (OutputSelection::Stdout, Stderr) | (OutputSelection::Stderr, Stdout) => {}
        }
    }
    pieces
}

async fn read(
    store: &dyn Store,
    call_id: CallId,
    selection: OutputSelection,
    from: OutputFrom,
    bytes_max: u64,
) -> Vec<StoredEvent> {
    let query = OutputQuery { call_id, selection, from, bytes_max };
    store.output(query).await.unwrap().unwrap().pieces
}

pub(super) async fn every_offset_finds_its_piece(store: &dyn Store) {
    let (call_id, events) = written(store).await;
    for selection in SELECTIONS {
        let pieces = selected(&events, selection);
        let (_, offset, length) = pieces.last().unwrap();
        for wanted in (0..offset + length + 3).chain([u64::MAX - 1, u64::MAX]) {
            let expected: Vec<StoredEvent> = pieces
                .iter()
                .skip_while(|(_, offset, length)| offset + length <= wanted)
                .map(|(event, ..)| event.clone())
                .collect();
            let from = OutputFrom::Offset(wanted);
            let found = read(store, call_id, selection, from, u64::MAX).await;
            assert_eq!(found, expected, "{selection:?} from {wanted}");
        }
    }
}

pub(super) async fn tails_hold_enough_bytes(store: &dyn Store) {
    let (call_id, events) = written(store).await;
    for selection in SELECTIONS {
        let pieces = selected(&events, selection);
        let kept: u64 = pieces.iter().map(|(.., length)| length).sum();
        for wanted in (0..kept + 2).chain([u64::MAX]) {
            let mut expected = Vec::new();
            let mut bytes = 0;
            for (event, _, length) in pieces.iter().rev() {
                if bytes < wanted {
                    bytes += length;
                    expected.insert(0, event.clone());
                }
            }
            let from = OutputFrom::Tail(wanted);
            let found = read(store, call_id, selection, from, u64::MAX).await;
            assert_eq!(found, expected, "{selection:?}, the last {wanted}");
        }
    }
}

pub(super) async fn pages_hold_enough_bytes(store: &dyn Store) {
    let (call_id, events) = written(store).await;
    for selection in SELECTIONS {
        let all = selected(&events, selection);
        let start = OutputFrom::Offset(0);
        let pieces = read(store, call_id, selection, start, u64::MAX).await;
        let lengths = pieces.iter().map(|event| event.output.unwrap().1);
        let ends: Vec<u64> = lengths
            .scan(0, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect();
        for bytes_max in 0..=ends[ends.len() - 1] + 1 {
            let enough = ends.iter().position(|end| *end >= bytes_max);
            let count = enough.map_or(pieces.len(), |last| last + 1);
            let found = read(store, call_id, selection, start, bytes_max).await;
            assert_eq!(found, pieces[..count], "{selection:?}, {bytes_max}");
        }
        // A tail comes whole, or its end would be missing.
        let tail = read(store, call_id, selection, OutputFrom::Tail(6), u64::MAX).await;
        for bytes_max in 0..=7 {
            let found = read(store, call_id, selection, OutputFrom::Tail(6), bytes_max).await;
            assert_eq!(found, tail, "{selection:?}, {bytes_max}");
        }
        // Page by page nothing is lost.
        let mut paged = Vec::new();
        let mut next = 0;
        loop {
            let from = OutputFrom::Offset(next);
            let page = read(store, call_id, selection, from, 1).await;
            let Some(last) = page.last() else { break };
            let (_, offset, length) = all.iter().find(|(event, ..)| event == last).unwrap();
            next = offset + length;
            paged.extend(page);
        }
        let all: Vec<StoredEvent> = all.into_iter().map(|(event, ..)| event).collect();
        assert_eq!(paged, all);
    }
}

pub(super) async fn counts_of_kept_and_dropped_bytes_are_exact(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let call = log.task(0);
    log.put_one(store, &call).await;
    let events = output_events(call.id, 1, &PIECES);
    for written in 1..=events.len() {
        let append =
            crate::store::Append { events: vec![events[written - 1].clone()], ..log.append() };
        log.commit(store, append).await;
        // The counts are those of the whole log, whatever is asked for.
        for selection in SELECTIONS {
            let from = OutputFrom::Tail(0);
            let query = OutputQuery { call_id: call.id, selection, from, bytes_max: 1 };
            let page = store.output(query).await.unwrap().unwrap();
            let of = |selection| summary(&selected(&events[..written], selection));
            assert_eq!(page.stdout, of(OutputSelection::Stdout));
            assert_eq!(page.stderr, of(OutputSelection::Stderr));
            assert_eq!(page.combined, of(OutputSelection::Combined));
        }
    }
}

/// Counted from scratch.
fn summary(pieces: &[(StoredEvent, u64, u64)]) -> StreamSummary {
    let mut summary = StreamSummary::default();
    for (_, offset, length) in pieces {
        if *offset > summary.total_bytes && summary.cut_offset.is_none() {
            summary.cut_offset = Some(summary.total_bytes);
        }
        summary.dropped_bytes += offset - summary.total_bytes;
        summary.kept_bytes += length;
        summary.total_bytes = offset + length;
    }
    assert_eq!(summary.total_bytes, summary.kept_bytes + summary.dropped_bytes);
    summary
}

pub(super) async fn a_call_without_output_is_empty_and_one_that_is_not_there_is_none(
    store: &dyn Store,
) {
    let mut log = SessionWriter::stored(store, 0).await;
    let call = log.task(0);
    log.put_one(store, &call).await;
    let (stdout, stderr, combined) = Default::default();
    let empty = OutputPage { pieces: vec![], stdout, stderr, combined };
    for (call_id, expected) in [(call.id, Some(empty)), (CallId::random(), None)] {
        for selection in SELECTIONS {
            for from in [OutputFrom::Offset(0), OutputFrom::Tail(1)] {
                let query = OutputQuery { call_id, selection, from, bytes_max: 1 };
                assert_eq!(store.output(query).await, Ok(expected.clone()));
            }
        }
    }
    // One stream may be silent while the other is not.
    log.write_output(store, call.id, &[(Stdout, 0, 3)]).await;
    let from = OutputFrom::Offset(0);
    assert_eq!(read(store, call.id, OutputSelection::Stderr, from, 9).await, []);
}

pub(super) async fn calls_do_not_mix(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let (one, two) = (log.task(0), log.task(0));
    log.put(store, &[one.clone(), two.clone()]).await;
    let first = log.write_output(store, one.id, &[(Stdout, 0, 3), (Stdout, 0, 3)]).await;
    // One append with output of both.
    let mut mixed = output_events(two.id, 3, &[(Stdout, 0, 4)]);
    let last = &output_events(one.id, 2, &[(Stdout, 6, 1), (Stdout, 0, 1)])[1];
    mixed.push(StoredEvent { sequence: 4, ..last.clone() });
    let append = crate::store::Append { events: mixed.clone(), ..log.append() };
    log.commit(store, append).await;
    let all = |call_id| {
        let (selection, from) = (OutputSelection::Combined, OutputFrom::Offset(0));
        store.output(OutputQuery { call_id, selection, from, bytes_max: u64::MAX })
    };
    let of_one = all(one.id).await.unwrap().unwrap();
    assert_eq!(of_one.pieces, [first, vec![mixed[1].clone()]].concat());
    assert_eq!((of_one.stdout.total_bytes, of_one.stdout.dropped_bytes), (8, 1));
    let of_two = all(two.id).await.unwrap().unwrap();
    assert_eq!((of_two.pieces, of_two.stdout.total_bytes), (vec![mixed[0].clone()], 4));
}
