//! Change numbers, and the tasks that have changed since one.

use super::world::{SessionWriter, at, tenant};
use crate::model::{Call, CallId, State, Tenant};
use crate::store::{CallQuery, ChangePage, ChangeQuery, Store};

fn after(after: u64, limit: u32) -> ChangeQuery {
    ChangeQuery { tenant: tenant(), session_id: None, after, limit }
}

async fn changes(store: &dyn Store, query: ChangeQuery) -> (Vec<CallId>, u64, bool) {
    let ChangePage { calls, change, more, .. } = store.changes(query).await.unwrap();
    (calls.iter().map(|call| call.id).collect(), change, more)
}

pub(super) async fn tasks_come_in_the_order_of_their_last_change(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    assert_eq!(changes(store, after(0, 9)).await, (vec![], 0, false));
    let (one, two, three) = (log.task(3), log.task(1), log.task(2));
    log.put(store, &[one.clone(), two.clone()]).await;
    log.put_one(store, &three).await;
    let order = vec![one.id, two.id, three.id];
    assert_eq!(changes(store, after(0, 9)).await, (order, 3, false));

    let ended = Call { state: State::Failed, ..one.clone() };
    log.put_one(store, &ended).await;
    assert_eq!(changes(store, after(0, 9)).await, (vec![two.id, three.id, one.id], 4, false));
    let page = store.changes(after(3, 9)).await.unwrap();
    assert_eq!(page.calls, [ended], "as it is now");
    assert_eq!(changes(store, after(4, 9)).await, (vec![], 4, false));
}

pub(super) async fn pages_follow_the_changes(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let calls: Vec<Call> = (0..5).map(|n| log.task(n)).collect();
    log.put(store, &calls).await;
    log.put(store, &[log.call(9)]).await;
    let id = |n: usize| calls[n].id;
    assert_eq!(changes(store, after(0, 2)).await, (vec![id(0), id(1)], 2, true));
    assert_eq!(changes(store, after(2, 2)).await, (vec![id(2), id(3)], 4, true));
    // Nothing is left: then the number is the newest, which was no task's.
    assert_eq!(changes(store, after(4, 2)).await, (vec![id(4)], 6, false));
    assert_eq!(changes(store, after(3, 2)).await, (vec![id(3), id(4)], 6, false));
}

pub(super) async fn calls_in_the_foreground_count_but_are_not_shown(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let call = log.call(0);
    log.put_one(store, &call).await;
    log.put_one(store, &call).await;
    assert_eq!(changes(store, after(0, 9)).await, (vec![], 2, false));
    let parked = Call { park_time: Some(at(1)), ..call.clone() };
    log.put(store, &[parked]).await;
    assert_eq!(changes(store, after(2, 9)).await, (vec![call.id], 3, false));
}

pub(super) async fn tenants_and_sessions_are_kept_apart(store: &dyn Store) {
    let mut one = SessionWriter::stored(store, 0).await;
    let mut two = SessionWriter::stored(store, 0).await;
    let mut foreign = SessionWriter::new(0);
    foreign.session.tenant = Tenant::new("other");
    let mut of = Vec::new();
    for log in [&mut one, &mut two, &mut foreign] {
        let task = log.task(0);
        log.put_one(store, &task).await;
        of.push(task.id);
    }
    let in_session =
        |log: &SessionWriter| ChangeQuery { session_id: Some(log.id()), ..after(0, 9) };
    assert_eq!(changes(store, after(0, 9)).await.0, of[..2]);
    assert_eq!(changes(store, in_session(&two)).await, (vec![of[1]], 3, false));
    assert_eq!(changes(store, in_session(&foreign)).await, (vec![], 3, false));
    assert_eq!(changes(store, in_session(&SessionWriter::new(0))).await, (vec![], 3, false));
    let theirs = ChangeQuery { tenant: Tenant::new("other"), ..after(0, 9) };
    assert_eq!(changes(store, theirs).await.0, of[2..]);
}

pub(super) async fn a_list_and_its_changes_meet(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let old = log.task(0);
    log.put_one(store, &old).await;
    let query = CallQuery::newest(tenant(), 9);
    let list = store.calls(query.clone()).await.unwrap();
    assert_eq!((list.calls, list.change), (vec![old.clone()], 1));
    let of_stranger = CallQuery { tenant: Tenant::new("stranger"), ..query.clone() };
    assert_eq!(store.calls(of_stranger).await.unwrap().change, 1);
    let of_no_session = CallQuery { session_id: Some(SessionWriter::new(0).id()), ..query };
    assert_eq!(store.calls(of_no_session).await.unwrap().change, 1);

    let new = log.task(1);
    log.put(store, &[new.clone(), old.clone()]).await;
    let later = changes(store, after(list.change, 9)).await;
    assert_eq!(later, (vec![new.id, old.id], 3, false));
}
