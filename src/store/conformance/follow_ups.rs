//! Follow-ups: their records, their tasks and their lists.

use std::cmp::Reverse;

use super::world::{SessionWriter, at, conflict, keep_all, later_put, new_put, tenant};
use crate::model::{
    Call, CallId, Delivery, DeliveryError, FollowUp, FollowUpPut, FollowUpState, Lease,
    SessionState, Tenant, TurnId,
};
use crate::store::{
    Append, CallCursor, Expired, ExpiryPolicy, FollowUpPage, FollowUpQuery, FollowUpWithTask, Store,
};

fn all(limit: u32) -> FollowUpQuery {
    FollowUpQuery { tenant: tenant(), session_id: None, states: vec![], cursor: None, limit }
}

/// Every page of a list, one after the other.
async fn all_pages(store: &dyn Store, mut query: FollowUpQuery) -> Vec<FollowUpPage> {
    let mut pages = Vec::new();
    loop {
        let page = store.follow_ups(query.clone()).await.unwrap();
        query.cursor = page.next;
        pages.push(page);
        if query.cursor.is_none() {
            return pages;
        }
    }
}

fn ids(page: &FollowUpPage) -> Vec<CallId> {
    page.follow_ups.iter().map(|follow_up| follow_up.record.call_id).collect()
}

fn full(record: FollowUp) -> FollowUp {
    FollowUp {
        call_attempt: 3,
        delivery: Delivery::Lease,
        state: FollowUpState::Leased,
        reason: "why \"not\"\0é".to_owned(),
        attempt: 2,
        attempts_max: 5,
        update_time: at(9),
        due_time: Some(at(11)),
        lease: Some(Lease {
            token: "token".to_owned(),
            request_id: Some("request".to_owned()),
            consumer: "consumer".to_owned(),
        }),
        turn_id: Some(TurnId::random()),
        last_error: Some(DeliveryError { code: 14, message: "unreachable".to_owned() }),
        expire_time: Some(at(99)),
        ..record
    }
}

pub(super) async fn every_field_comes_back(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let task = log.ended(3, 8);
    let empty = log.follow_up(&task, 5);
    log.add_follow_up(store, &empty, &task).await;
    assert_eq!(store.follow_up(task.id).await, Ok(Some(empty.clone())));
    let follow_up = FollowUpWithTask { record: empty.clone(), task: task.clone() };
    assert_eq!(store.follow_up_with_task(task.id).await, Ok(Some(follow_up)));

    let full = full(empty);
    log.put_follow_ups(store, std::slice::from_ref(&full)).await;
    assert_eq!(store.follow_up(task.id).await, Ok(Some(full.clone())));
    let follow_up = FollowUpWithTask { record: full, task: task.clone() };
    assert_eq!(store.follow_up_with_task(task.id).await, Ok(Some(follow_up.clone())));
    let page = FollowUpPage { follow_ups: vec![follow_up], unreadable: vec![], next: None };
    assert_eq!(store.follow_ups(all(9)).await, Ok(page));
    assert_eq!(store.call(task.id).await, Ok(None), "it is no call");
    assert_eq!(store.follow_up(CallId::random()).await, Ok(None));
    assert_eq!(store.follow_up_with_task(CallId::random()).await, Ok(None));
}

pub(super) async fn puts_of_one_append_follow_each_other(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let task = log.ended(0, 9);
    let first = log.follow_up(&task, 5);
    let second = FollowUp { attempt: 1, due_time: None, ..first.clone() };
    let third = FollowUp { state: FollowUpState::Delivered, expire_time: Some(at(9)), ..second };
    let follow_ups = vec![new_put(&first, &task), later_put(&third)];
    log.commit(store, Append { follow_ups, ..log.append() }).await;
    let follow_up = FollowUpWithTask { record: third, task };
    assert_eq!(store.follow_ups(all(9)).await.unwrap().follow_ups, [follow_up]);

    let other = log.ended(1, 9);
    let pending = log.follow_up(&other, 5);
    log.add_follow_up(store, &pending, &other).await;
    let leased = FollowUp { state: FollowUpState::Leased, ..pending.clone() };
    let again = FollowUp { attempt: 7, ..pending };
    log.put_follow_ups(store, &[leased, again.clone()]).await;
    assert_eq!(store.follow_up(other.id).await, Ok(Some(again)));
}

pub(super) async fn a_task_stays_as_it_was_first_stored(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let task = log.ended(0, 9);
    let record = log.follow_up(&task, 5);
    let append = Append { calls: vec![task.clone()], ..log.append() };
    log.commit(store, Append { follow_ups: vec![new_put(&record, &task)], ..append }).await;
    let acknowledged = Call { acknowledge_time: Some(at(3)), revision: 9, ..task.clone() };
    log.put_one(store, &acknowledged).await;
    let changed = FollowUp { attempt: 1, ..record };
    log.add_follow_up(store, &changed, &acknowledged).await;
    let follow_up = FollowUpWithTask { record: changed, task: task.clone() };
    assert_eq!(store.follow_up_with_task(task.id).await, Ok(Some(follow_up.clone())));

    let deleted_calls = vec![task.id];
    log.commit(store, Append { deleted_calls, ..log.append() }).await;
    assert_eq!(store.call(task.id).await, Ok(None));
    assert_eq!(
        store.follow_up_with_task(task.id).await,
        Ok(Some(follow_up)),
        "it outlasts its task"
    );
}

pub(super) async fn an_append_that_fails_leaves_none(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let mut other = SessionWriter::stored(store, 0).await;
    let (task, foreign) = (log.ended(0, 9), other.ended(0, 9));
    let (new, theirs) = (log.follow_up(&task, 5), other.follow_up(&foreign, 5));
    other.add_follow_up(store, &theirs, &foreign).await;
    let known_task = log.ended(0, 9);
    let known = log.follow_up(&known_task, 5);
    log.add_follow_up(store, &known, &known_task).await;

    let changed = FollowUp { attempt: 1, ..known.clone() };
    let stolen = FollowUp { session_id: log.id(), ..theirs.clone() };
    let foreign_task = other.ended(0, 9);
    let wrong: [Vec<FollowUpPut>; 7] = [
        vec![new_put(&other.follow_up(&foreign_task, 5), &foreign_task)],
        vec![later_put(&new)],
        vec![later_put(&new), new_put(&new, &task)],
        vec![new_put(&new, &foreign)],
        vec![later_put(&theirs)],
        vec![later_put(&stolen)],
        vec![new_put(&stolen, &foreign)],
    ];
    for wrong in wrong {
        let good = [later_put(&changed)];
        let follow_ups = good.into_iter().chain(wrong).collect();
        let append = Append { follow_ups, ..log.append() };
        assert_eq!(store.append(append.clone()).await, conflict(Some(0)), "{append:?}");
    }
    let follow_ups = vec![new_put(&new, &task), later_put(&changed)];
    let stale = Append { expected_head: Some(7), follow_ups, ..log.append() };
    assert_eq!(store.append(stale).await, conflict(Some(0)));
    assert_eq!(store.follow_up(task.id).await, Ok(None));
    assert_eq!(store.follow_up_with_task(task.id).await, Ok(None));
    assert_eq!(store.follow_up(known.call_id).await, Ok(Some(known)));
    assert_eq!(store.follow_up(foreign.id).await, Ok(Some(theirs)));
}

/// Follow-ups of two sessions and two tenants in every state, newest first.
async fn many(store: &dyn Store) -> (SessionWriter, Vec<FollowUpWithTask>) {
    let mut one = SessionWriter::stored(store, 0).await;
    let mut two = SessionWriter::stored(store, 0).await;
    let mut foreign = SessionWriter::new(0);
    foreign.session.tenant = Tenant::new("other");
    let mut all = Vec::new();
    for n in 0..90_usize {
        let log = match n % 3 {
            0 => &mut one,
            1 => &mut two,
            _ => &mut foreign,
        };
        // Several of each moment: then the id decides.
        let task = log.ended(n as i64 / 4, 9);
        let record = log.follow_up(&task, 5);
        log.add_follow_up(store, &record, &task).await;
        // Filters see the state as it is now.
        let record =
            FollowUp { state: FollowUpState::ALL[n / 3 % FollowUpState::ALL.len()], ..record };
        log.put_follow_ups(store, std::slice::from_ref(&record)).await;
        all.push(FollowUpWithTask { record, task });
    }
    all.sort_by_key(|follow_up| Reverse((follow_up.record.create_time, follow_up.record.call_id)));
    (one, all)
}

pub(super) async fn lists_come_newest_first_and_filtered(store: &dyn Store) {
    let (log, everything) = many(store).await;
    let base = all(7);
    let other = Tenant::new("other");
    let mut queries = vec![
        all(1_000),
        FollowUpQuery { tenant: other.clone(), ..base.clone() },
        FollowUpQuery { tenant: Tenant::new("stranger"), ..base.clone() },
        FollowUpQuery { session_id: Some(SessionWriter::new(0).id()), ..base.clone() },
        FollowUpQuery { tenant: other, session_id: Some(log.id()), ..base.clone() },
    ];
    let states = [
        vec![],
        vec![FollowUpState::DeadLettered],
        vec![FollowUpState::Leased, FollowUpState::Pending, FollowUpState::Leased],
        FollowUpState::ALL.to_vec(),
    ];
    for session_id in [None, Some(log.id())] {
        for states in &states {
            let states = states.clone();
            queries.push(FollowUpQuery { session_id, states, ..base.clone() });
        }
    }
    for query in queries {
        let matches = |follow_up: &&FollowUpWithTask| {
            follow_up.record.tenant == query.tenant
                && query.session_id.is_none_or(|id| id == follow_up.record.session_id)
                && (query.states.is_empty() || query.states.contains(&follow_up.record.state))
        };
        let expected: Vec<FollowUpWithTask> = everything.iter().filter(matches).cloned().collect();
        let pages = all_pages(store, query.clone()).await;
        for page in &pages {
            let last = page.follow_ups.last().filter(|_| page.next.is_some());
            let place = |last: &FollowUpWithTask| (last.record.create_time, last.record.call_id);
            let next = page.next.map(|CallCursor { create_time, id }| (create_time, id));
            assert_eq!((next, page.unreadable.len()), (last.map(place), 0), "{query:?}");
            assert!(page.follow_ups.len() <= query.limit as usize);
        }
        let found: Vec<FollowUpWithTask> =
            pages.into_iter().flat_map(|page| page.follow_ups).collect();
        assert_eq!(found, expected, "{query:?}");
    }
}

pub(super) async fn pages_stay_stable_while_follow_ups_come_and_change(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let mut staying = Vec::new();
    for n in 0..20 {
        let task = log.ended(n / 2, 9);
        let record = log.follow_up(&task, 5);
        log.add_follow_up(store, &record, &task).await;
        staying.push(record);
    }
    let mut seen = Vec::new();
    let mut query = all(3);
    loop {
        let page = store.follow_ups(query.clone()).await.unwrap();
        seen.extend(ids(&page));
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
        // Between any two pages one comes, and those that stay change.
        let comes = log.ended(seen.len() as i64 / 2, 9);
        let new = new_put(&log.follow_up(&comes, 5), &comes);
        let state = FollowUpState::Delivered;
        let changed = staying.iter().map(|record| FollowUp { state, ..record.clone() });
        let follow_ups = changed.map(|record| later_put(&record)).chain([new]).collect();
        log.commit(store, Append { follow_ups, ..log.append() }).await;
    }
    for record in &staying {
        assert_eq!(seen.iter().filter(|id| **id == record.call_id).count(), 1);
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing is shown twice");
}

fn now(micros: i64) -> ExpiryPolicy {
    ExpiryPolicy { now: at(micros), ..keep_all() }
}

fn gone(follow_ups: u64) -> Expired {
    Expired { follow_ups, ..Expired::default() }
}

pub(super) async fn they_go_at_their_time(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let mut tasks = Vec::new();
    for expire_time in [None, Some(at(11)), Some(at(10)), Some(at(10)), Some(at(10))] {
        let task = log.ended(0, 1);
        let record = FollowUp { expire_time, ..log.follow_up(&task, 5) };
        log.add_follow_up(store, &record, &task).await;
        tasks.push(task);
    }
    assert_eq!(store.expire(now(9)).await, Ok(gone(0)));
    let two = ExpiryPolicy { rows_max: 2, ..now(10) };
    assert_eq!(store.expire(two).await, Ok(Expired { more: true, ..gone(2) }));
    assert_eq!(store.expire(two).await, Ok(gone(1)));
    assert_eq!(store.follow_up_with_task(tasks[4].id).await, Ok(None));
    assert_eq!(store.follow_ups(all(9)).await.unwrap().follow_ups.len(), 2);
    // What is opened again stays.
    let retried = FollowUp { expire_time: None, ..log.follow_up(&tasks[1], 5) };
    log.put_follow_ups(store, std::slice::from_ref(&retried)).await;
    assert_eq!(store.expire(now(1_000_000)).await, Ok(gone(0)));
    assert_eq!(store.follow_up(tasks[1].id).await, Ok(Some(retried)));
    assert!(store.follow_up(tasks[0].id).await.unwrap().is_some());

    // One that is gone may come again, with a task of its own.
    let id = tasks[4].id;
    let task = Call { revision: 5, ..tasks[4].clone() };
    let record = log.follow_up(&task, 5);
    log.add_follow_up(store, &record, &task).await;
    assert_eq!(store.follow_up_with_task(id).await, Ok(Some(FollowUpWithTask { record, task })));
}

pub(super) async fn a_follow_up_keeps_its_session(store: &dyn Store) {
    let mut log = SessionWriter::new(0);
    log.session.state = SessionState::Closed;
    let task = log.ended(0, 10);
    let record = log.follow_up(&task, 5);
    let append = Append { calls: vec![task.clone()], ..log.append() };
    let follow_ups = vec![new_put(&record, &task), later_put(&record)];
    log.commit(store, Append { follow_ups, ..append }).await;
    let old = |micros| ExpiryPolicy { older_than: at(micros), ..now(micros) };
    let call = Expired { calls: 1, ..Expired::default() };
    assert_eq!(store.expire(old(20)).await, Ok(call), "the task goes, and nothing else");
    assert!(store.follow_up_with_task(task.id).await.unwrap().is_some());

    let expire_time = Some(at(30));
    let delivered = FollowUp { state: FollowUpState::Delivered, expire_time, ..record };
    log.put_follow_ups(store, std::slice::from_ref(&delivered)).await;
    assert_eq!(store.expire(old(29)).await, Ok(gone(0)));
    assert!(store.session(log.id()).await.unwrap().is_some());
    // The follow-up and then its session, in one round.
    assert_eq!(store.expire(old(30)).await, Ok(Expired { sessions: 1, ..gone(1) }));
    assert_eq!(store.session(log.id()).await, Ok(None));
}
