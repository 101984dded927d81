//! Follow-ups that are due.

use super::world::{SessionWriter, at, new_put, tenant};
use crate::model::{
    CallId, Delivery, FollowUp, FollowUpState, Lease, SessionId, Tenant, Timestamp,
};
use crate::store::{Append, DueFollowUps, DueQuery, DueScope, DueSessions, Store};

async fn due(store: &dyn Store, scope: DueScope, now: i64, limit: u32) -> DueFollowUps {
    let query = DueQuery { scope, now: at(now), limit };
    let page = store.due_follow_ups(query).await.unwrap();
    assert_eq!(page.unreadable, []);
    page
}

fn ids(records: &[FollowUp]) -> Vec<CallId> {
    records.iter().map(|record| record.call_id).collect()
}

/// Stores a new follow-up that is due at `due_time`.
async fn add(store: &dyn Store, log: &mut SessionWriter, due_time: i64) -> FollowUp {
    let task = log.ended(0, 9);
    let record = log.follow_up(&task, due_time);
    log.add_follow_up(store, &record, &task).await;
    record
}

pub(super) async fn due_follow_ups_come_in_the_order_of_their_times(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let scope = DueScope::Session(log.id());
    assert_eq!(due(store, scope.clone(), 100, 9).await, DueFollowUps::default());
    // Of one append: those of the same moment come in its order.
    let times = [30, 10, 20, 10, 40, 10, 31];
    let tasks = times.map(|_| log.ended(0, 9));
    let pairs = tasks.iter().zip(times).map(|(task, time)| (log.follow_up(task, time), task));
    let follow_ups: Vec<_> = pairs.map(|(record, task)| new_put(&record, task)).collect();
    log.commit(store, Append { follow_ups: follow_ups.clone(), ..log.append() }).await;
    let all: Vec<FollowUp> = follow_ups.into_iter().map(|put| put.record).collect();
    let picked = |places: &[usize]| places.iter().map(|n| all[*n].clone()).collect::<Vec<_>>();

    let order = [1, 3, 5, 2, 0, 6, 4];
    for (now, limit, count, next) in [
        (9, 9, 0, Some(10)),
        (10, 9, 3, Some(20)),
        (10, 2, 2, Some(20)),
        (30, 9, 5, Some(31)),
        (30, 0, 0, Some(31)),
        (39, 9, 6, Some(40)),
        (40, 9, 7, None),
        (1_000, 4, 4, None),
    ] {
        let page = due(store, scope.clone(), now, limit).await;
        let expected = (picked(&order[..count]), next.map(at));
        assert_eq!((page.records, page.next), expected, "at {now}, {limit} at most");
    }
}

/// Follow-ups of two sessions of one tenant and one of another, in every state, to be delivered
/// in both ways, each due at 5 and, again, at no time.
async fn every_kind(store: &dyn Store) -> (Vec<FollowUp>, [SessionId; 3]) {
    let mut logs = [SessionWriter::new(0), SessionWriter::new(0), SessionWriter::new(0)];
    logs[2].session.tenant = Tenant::new("other");
    let mut all = Vec::new();
    for log in &mut logs {
        log.save(store).await;
        for state in FollowUpState::ALL.iter().copied() {
            for delivery in [Delivery::Engine, Delivery::Lease] {
                for due_time in [Some(at(5)), None] {
                    let task = log.ended(0, 9);
                    let record = log.follow_up(&task, 0);
                    let record = FollowUp { state, delivery, due_time, ..record };
                    log.add_follow_up(store, &record, &task).await;
                    all.push(record);
                }
            }
        }
    }
    (all, logs.map(|log| log.id()))
}

pub(super) async fn each_scope_sees_only_its_own(store: &dyn Store) {
    let (all, [one, two, foreign]) = every_kind(store).await;
    let other = Tenant::new("other");
    let scopes = [
        DueScope::Session(one),
        DueScope::Session(foreign),
        DueScope::Session(SessionId::random()),
        DueScope::Lease(tenant(), None),
        DueScope::Lease(tenant(), Some(two)),
        DueScope::Lease(tenant(), Some(foreign)),
        DueScope::Lease(tenant(), Some(SessionId::random())),
        DueScope::Lease(other.clone(), None),
        DueScope::Lease(other, Some(foreign)),
        DueScope::Lease(Tenant::new("stranger"), None),
        DueScope::Leased,
    ];
    for scope in scopes {
        let is_pending =
            |record: &FollowUp, by| record.state == FollowUpState::Pending && record.delivery == by;
        let matches = |record: &&FollowUp| match &scope {
            DueScope::Session(id) => {
                is_pending(record, Delivery::Engine) && record.session_id == *id
            }
            DueScope::Lease(tenant, id) => {
                is_pending(record, Delivery::Lease)
                    && record.tenant == *tenant
                    && id.is_none_or(|id| record.session_id == id)
            }
            DueScope::Leased => record.state == FollowUpState::Leased,
        };
        let has_time = all.iter().filter(|record| record.due_time.is_some());
        let expected: Vec<FollowUp> = has_time.filter(matches).cloned().collect();
        let next = (!expected.is_empty()).then(|| at(5));
        let early = due(store, scope.clone(), 4, 99).await;
        assert_eq!((early.records, early.next), (vec![], next), "{scope:?}");
        let page = due(store, scope.clone(), 5, 99).await;
        assert_eq!((page.records, page.next), (expected, None), "{scope:?}");
    }
}

fn leased(record: &FollowUp, request_id: Option<&str>, due_time: Option<Timestamp>) -> FollowUp {
    let request_id = request_id.map(str::to_owned);
    let lease = Some(Lease { token: "t".to_owned(), request_id, consumer: String::new() });
    FollowUp { state: FollowUpState::Leased, lease, due_time, ..record.clone() }
}

pub(super) async fn changed_follow_ups_are_due_in_their_new_state(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let record = add(store, &mut log, 5).await;
    let session = DueScope::Session(log.id());
    // A turn has it: nothing is due.
    log.put_follow_ups(store, &[leased(&record, None, None)]).await;
    assert_eq!(due(store, session.clone(), 99, 9).await, DueFollowUps::default());
    assert_eq!(due(store, DueScope::Leased, 99, 9).await, DueFollowUps::default());

    let lapses = leased(&record, None, Some(at(20)));
    log.put_follow_ups(store, std::slice::from_ref(&lapses)).await;
    assert_eq!(due(store, DueScope::Leased, 19, 9).await.next, Some(at(20)));
    assert_eq!(due(store, DueScope::Leased, 20, 9).await.records, [lapses]);

    let delayed = FollowUp { due_time: Some(at(50)), ..record.clone() };
    log.put_follow_ups(store, std::slice::from_ref(&delayed)).await;
    assert_eq!(due(store, DueScope::Leased, 99, 9).await, DueFollowUps::default());
    assert_eq!(due(store, session.clone(), 49, 9).await.next, Some(at(50)));
    assert_eq!(due(store, session.clone(), 50, 9).await.records, [delayed]);

    let delivered = FollowUp { state: FollowUpState::Delivered, ..record };
    log.put_follow_ups(store, &[delivered]).await;
    assert_eq!(due(store, session, 99, 9).await, DueFollowUps::default());
}

pub(super) async fn leased_ones_are_found_by_the_request(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let mut second = SessionWriter::stored(store, 0).await;
    let mut foreign = SessionWriter::new(0);
    foreign.session.tenant = Tenant::new("other");
    let mut taken = Vec::new();
    // In an order that is neither that of the times nor that of storing.
    for (n, create_time) in [7, 3, 5, 3, 9].into_iter().enumerate() {
        let log = if n % 2 == 0 { &mut log } else { &mut second };
        let task = log.ended(create_time, 99);
        let record = leased(&log.follow_up(&task, 0), Some("r"), Some(at(n as i64)));
        log.add_follow_up(store, &record, &task).await;
        taken.push(record);
    }
    let other = add(store, &mut log, 5).await;
    log.put_follow_ups(store, &[leased(&other, Some("other"), None)]).await;
    let nameless = add(store, &mut log, 5).await;
    log.put_follow_ups(store, &[leased(&nameless, None, None)]).await;
    let theirs = add(store, &mut foreign, 5).await;
    foreign.put_follow_ups(store, &[leased(&theirs, Some("r"), None)]).await;

    taken.sort_by_key(|record| (record.create_time, record.call_id));
    assert_eq!(store.leased_follow_ups(&tenant(), "r").await, Ok(taken.clone()));
    let found = store.leased_follow_ups(&Tenant::new("other"), "r").await.unwrap();
    assert_eq!(ids(&found), [theirs.call_id]);
    assert_eq!(store.leased_follow_ups(&tenant(), "").await, Ok(vec![]));
    // The lease stands there still, and is over.
    let newest = FollowUp { state: FollowUpState::Delivered, ..taken.pop().unwrap() };
    log.put_follow_ups(store, &[newest]).await;
    assert_eq!(store.leased_follow_ups(&tenant(), "r").await, Ok(taken));
}

async fn sessions(store: &dyn Store, now: i64, limit: u32) -> DueSessions {
    store.sessions_with_due_follow_ups(at(now), limit).await.unwrap()
}

pub(super) async fn sessions_that_wait_the_longest_come_first(store: &dyn Store) {
    assert_eq!(sessions(store, 99, 9).await, DueSessions::default());
    let mut logs = [
        SessionWriter::new(0),
        SessionWriter::new(0),
        SessionWriter::new(0),
        SessionWriter::new(0),
    ];
    logs[1].session.tenant = Tenant::new("other");
    for (place, due_time) in [(0, 30), (1, 20), (2, 40), (0, 10), (1, 20), (1, 50), (2, 60)] {
        add(store, &mut logs[place], due_time).await;
    }
    // Not for the engine, or in a turn.
    let record = add(store, &mut logs[3], 1).await;
    let to_lease = FollowUp { delivery: Delivery::Lease, ..record.clone() };
    logs[3].put_follow_ups(store, &[to_lease]).await;
    let record = add(store, &mut logs[3], 1).await;
    logs[3].put_follow_ups(store, &[leased(&record, None, Some(at(1)))]).await;

    let named = |places: &[usize]| {
        let session = |place: &usize| &logs[*place].session;
        places.iter().map(session).map(|s| (s.tenant.clone(), s.id)).collect::<Vec<_>>()
    };
    for (now, limit, places, next) in [
        (9, 9, &[][..], Some(10)),
        (10, 9, &[0], Some(20)),
        (39, 9, &[0, 1], Some(40)),
        (40, 9, &[0, 1, 2], Some(50)),
        (40, 2, &[0, 1], Some(50)),
        (40, 0, &[], Some(50)),
        (60, 9, &[0, 1, 2], None),
    ] {
        let expected = DueSessions { sessions: named(places), next: next.map(at) };
        assert_eq!(sessions(store, now, limit).await, expected, "at {now}, {limit} at most");
    }
}
