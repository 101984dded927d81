//! Tests that the cache is never behind a state that was read. The conformance suite tests that it
//! answers as a store does.

use std::sync::Arc;

use super::CachedStore;
use super::calls::CallCache;
use super::pages::Pages;
use super::tails::Tails;
use crate::model::limits::{RECENT_LOG_EVENTS_MAX, RECENT_PAGES_MAX};
use crate::model::{CallId, PayloadKind, SessionId};
use crate::store::conformance::world::{SessionWriter, event, log_event};
use crate::store::{Append, EventPage, EventQuery, MemoryStore, Store, StoredEvent};
use crate::telemetry::Metrics;

fn query(session_id: SessionId, after: u64) -> EventQuery {
    EventQuery {
        session_id,
        after,
        kinds: Vec::new(),
        call_id: None,
        scan_max: 100,
        bytes_max: 1 << 20,
    }
}

fn append(log: &SessionWriter, from: u64, to: u64) -> Append {
    Append { events: (from..=to).map(event).collect(), ..log.append() }
}

fn page(from: u64, head: u64) -> EventPage {
    let events = (from..=head).map(log_event).collect();
    EventPage { events, scanned_to: head, head, first: 1, closed: false, stream_epoch: None }
}

fn sequences(page: Option<EventPage>) -> Option<Vec<u64>> {
    page.map(|page| page.events.iter().map(|event| event.sequence).collect())
}

/// The tails with one that ends at this head.
fn followed(log: &SessionWriter, head: u64) -> Tails {
    let tails = Tails::default();
    tails.begin_read(log.id()).complete(&page(1, head));
    tails
}

#[test]
fn a_reader_at_the_head_reads_new_events_from_memory() {
    let log = SessionWriter::new(0);
    let tails = followed(&log, 3);
    assert_eq!(sequences(tails.read(&query(log.id(), 3))), Some(vec![]));
    tails.begin(&append(&log, 4, 6)).complete();
    assert_eq!(sequences(tails.read(&query(log.id(), 4))), Some(vec![5, 6]));
    // A reader beyond the head gets nothing from memory.
    assert_eq!(sequences(tails.read(&query(log.id(), 7))), None);
}

#[test]
fn nothing_is_shown_before_it_is_durable() {
    let log = SessionWriter::new(0);
    let tails = followed(&log, 3);
    let pending = tails.begin(&append(&log, 4, 4));
    assert_eq!(sequences(tails.read(&query(log.id(), 3))), Some(vec![]));
    // The append may or may not be stored: the store must be asked.
    drop(pending);
    assert_eq!(sequences(tails.read(&query(log.id(), 3))), None);
}

#[test]
fn a_read_that_an_append_has_overtaken_is_not_remembered() {
    let log = SessionWriter::new(0);
    let tails = Tails::default();
    let slow = tails.begin_read(log.id());
    tails.begin(&append(&log, 4, 4)).complete();
    let quick = tails.begin_read(log.id());
    slow.complete(&page(1, 3));
    assert_eq!(sequences(tails.read(&query(log.id(), 3))), None);
    quick.complete(&page(1, 4));
    assert_eq!(sequences(tails.read(&query(log.id(), 4))), Some(vec![]));
}

#[test]
fn an_append_that_began_before_its_log_was_followed_makes_it_forgotten() {
    let log = SessionWriter::new(0);
    let tails = Tails::default();
    let pending = tails.begin(&append(&log, 4, 4));
    tails.begin_read(log.id()).complete(&page(1, 3));
    pending.complete();
    assert_eq!(sequences(tails.read(&query(log.id(), 3))), None);
}

#[test]
fn events_before_the_tail_are_read_from_the_store() {
    let log = SessionWriter::new(0);
    let tails = followed(&log, 3);
    for (after, known) in [(0, None), (2, None), (3, Some(vec![]))] {
        assert_eq!(sequences(tails.read(&query(log.id(), after))), known);
    }
}

#[test]
fn filters_omit_rows_that_do_not_match() {
    let log = SessionWriter::new(0);
    let tails = followed(&log, 1);
    let (kind, call_id) = (PayloadKind::ToolOutput, Some(CallId::random()));
    let events =
        vec![event(2), StoredEvent { kind, ..event(3) }, StoredEvent { call_id, ..event(4) }];
    tails.begin(&Append { events, ..log.append() }).complete();
    for (kinds, call_id, expected) in [
        (vec![], None, vec![2, 3, 4]),
        (vec![kind], None, vec![3]),
        (vec![], call_id, vec![4]),
        (vec![kind], call_id, vec![]),
    ] {
        let page = tails.read(&EventQuery { kinds, call_id, ..query(log.id(), 1) });
        assert_eq!(page.as_ref().map(|page| page.scanned_to), Some(4));
        assert_eq!(sequences(page), Some(expected));
    }
}

#[test]
fn a_tail_is_bounded_and_ends_without_readers() {
    let log = SessionWriter::new(0);
    let tails = followed(&log, 1);
    let most = RECENT_LOG_EVENTS_MAX as u64;
    tails.begin(&append(&log, 2, most + 11)).complete();
    assert_eq!(sequences(tails.read(&query(log.id(), 10))), None);
    assert!(tails.read(&query(log.id(), 11)).is_some());
    for round in 0..3 {
        let from = (round + 1) * most + 12;
        tails.begin(&append(&log, from, from + most - 1)).complete();
    }
    assert_eq!(sequences(tails.read(&query(log.id(), 4 * most + 11))), None);
}

#[tokio::test]
async fn the_record_of_a_call_is_never_older_than_what_was_read() {
    let (memory, log) = (MemoryStore::new(), SessionWriter::new(0));
    let store = CachedStore::new(Arc::new(memory), Metrics::default());
    let call = log.call(1);
    store.append(Append { calls: vec![call.clone()], ..log.append() }).await.unwrap();
    assert_eq!(store.call(call.id).await.unwrap().as_ref(), Some(&call));
    let calls = CallCache::default();
    let under_way = calls.begin(&Append { calls: vec![call.clone()], ..log.append() });
    assert_eq!(calls.get(call.id), None);
    // Records that expired in between are not cached again.
    calls.clear();
    under_way.complete();
    assert_eq!(calls.get(call.id), None);
}

#[test]
fn of_two_appends_under_way_none_is_remembered_that_the_other_may_have_overtaken() {
    let log = SessionWriter::new(0);
    let older = log.call(1);
    let newer = crate::model::Call { revision: older.revision + 1, ..older.clone() };
    let changes = [&older, &newer].map(|call| Append { calls: vec![call.clone()], ..log.append() });
    let deletes = Append { deleted_calls: vec![older.id], ..log.append() };
    let known = |calls: &CallCache| calls.get(older.id).map(|call| call.revision);

    let calls = CallCache::default();
    let [first, second] = changes.each_ref().map(|append| calls.begin(append));
    first.complete();
    assert_eq!(known(&calls), None, "the second may have been seen");
    second.complete();
    assert_eq!(known(&calls), Some(newer.revision));

    let [first, second] = changes.each_ref().map(|append| calls.begin(append));
    second.complete();
    first.complete();
    assert_eq!(known(&calls), None, "it is older than what is stored");

    let [first, second] = changes.each_ref().map(|append| calls.begin(append));
    drop(second);
    first.complete();
    assert_eq!(known(&calls), Some(older.revision), "the second has failed");

    let (first, second) = (calls.begin(&changes[0]), calls.begin(&deletes));
    second.complete();
    first.complete();
    assert_eq!(known(&calls), None, "it is deleted");
}

#[test]
fn a_tail_takes_appends_in_their_order_only() {
    let log = SessionWriter::new(0);
    let tails = followed(&log, 3);
    let [first, second] = [(4, 5), (6, 7)].map(|(from, to)| tails.begin(&append(&log, from, to)));
    first.complete();
    assert_eq!(sequences(tails.read(&query(log.id(), 3))), Some(vec![4, 5]));
    second.complete();
    assert_eq!(sequences(tails.read(&query(log.id(), 3))), Some(vec![4, 5, 6, 7]));
    let [first, second] = [(8, 8), (9, 9)].map(|(from, to)| tails.begin(&append(&log, from, to)));
    second.complete();
    assert_eq!(sequences(tails.read(&query(log.id(), 3))), None, "it has a hole");
    first.complete();
    assert_eq!(sequences(tails.read(&query(log.id(), 3))), None);
}

#[tokio::test]
async fn many_readers_of_a_page_cost_one_read() {
    use futures::FutureExt;
    let pages = Pages::default();
    let log = SessionWriter::new(0);
    let read = |head| {
        let page = EventPage { head, ..page(1, 3) };
        move || async move { Ok(page) }.boxed()
    };
    let whole = query(log.id(), 0);
    assert!(!pages.read(&whole, read(9)).await.unwrap().1);
    let (again, is_shared) = pages.read(&whole, read(10)).await.unwrap();
    assert_eq!((again.head, is_shared), (9, true));
    for after in 10..10 + RECENT_PAGES_MAX as u64 {
        pages.read(&query(log.id(), after), read(9)).await.unwrap();
    }
    assert!(!pages.read(&whole, read(9)).await.unwrap().1, "it is bounded");
}

#[tokio::test]
async fn the_end_of_a_log_that_another_has_read_is_brought_up_to_now() {
    let mut log = SessionWriter::new(0);
    let metrics = Metrics::default();
    let store = CachedStore::new(Arc::new(MemoryStore::new()), metrics.clone());
    log.write(&store, RECENT_LOG_EVENTS_MAX as u64 * 2).await;
    let whole = EventQuery { scan_max: usize::MAX, ..query(log.id(), 0) };
    for more in [0, 0, 3, 5] {
        if more > 0 {
            log.write(&store, more).await;
        }
        let page = store.events(whole.clone()).await.unwrap();
        let head = log.head.unwrap();
        assert_eq!((page.head, page.scanned_to), (head, head));
        assert_eq!(sequences(Some(page)), Some((1..=head).collect()));
    }
    let reads = "callpark_log_reads_total{source=\"store\"} 1";
    assert!(metrics.render().lines().any(|line| line == reads), "{}", metrics.render());
}

/// The first caller may be the body of a response whose client does not read.
#[tokio::test]
async fn a_reader_that_is_not_polled_blocks_no_other() {
    use futures::FutureExt;
    use std::task::Poll;
    let pages = Pages::default();
    let log = SessionWriter::new(0);
    let whole = query(log.id(), 0);
    let slow = || {
        async {
            tokio::task::yield_now().await;
            Ok(EventPage { head: 9, ..page(1, 3) })
        }
        .boxed()
    };
    let mut asleep = Box::pin(pages.read(&whole, slow));
    let once = futures::future::poll_fn(|context| {
        assert!(asleep.poll_unpin(context).is_pending());
        Poll::Ready(())
    });
    once.await;
    let (_, is_shared) = pages.read(&whole, slow).await.unwrap();
    assert!(is_shared);
    drop(asleep);
}
