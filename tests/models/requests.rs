//! Equal requests at once: one acts, all get what it did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use shuttle::future::spawn;

use crate::engine::{CallRequest, RequestKey};
use crate::kernels::idempotency as kernel;
use crate::model::{PayloadKind, Session, SessionId};
use crate::store::{Append, RequestEffect, RequestRecord, Store as _};
use crate::support::{Log, Rules, World, check, finds, pause, who};

/// The request that is made again and again.
pub fn key() -> RequestKey {
    RequestKey { id: "again".into(), fingerprint: [1; 32] }
}

#[test]
fn of_equal_calls_at_once_one_runs_and_all_have_it() {
    check(80, || async {
        let world = World::new(Rules::default());
        let calls = [0, 1, 2].map(|_| {
            let world = world.clone();
            spawn(async move {
                let request = CallRequest { request: Some(key()), ..World::request(None, 1) };
                let id = world.task(request).await;
                world.ended(id).await.id
            })
        });
        let mut ids = Vec::new();
        for call in calls {
            ids.push(call.await.expect("a call"));
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "all have the same call");
        assert_eq!(world.processes.started(), 1, "one call runs");
        assert_eq!(world.log.count(ids[0], PayloadKind::ToolCallAccepted), 1);
        assert_eq!(world.log.count(ids[0], PayloadKind::ToolCallStarted), 1);
        world.leave().await;
    });
}

#[test]
fn a_request_whose_caller_leaves_at_any_moment_is_done_once() {
    check(80, || async {
        let world = World::new(Rules::default());
        let request = CallRequest { request: Some(key()), ..World::request(None, 1) };
        let (leaver, same) = (world.clone(), request.clone());
        let leaving = spawn(async move { leaver.task(same).await });
        pause().await;
        pause().await;
        leaving.abort();
        let id = world.task(request).await;
        world.ended(id).await;
        assert_eq!(world.log.calls(), [id], "there is one call");
        assert_eq!(world.processes.started(), 1, "it runs once");
        world.leave().await;
    });
}

/// The moment at which a request gives its claim back.
#[derive(Clone, Copy)]
enum Claim {
    /// Once its record is stored, as all callers of `Claims::claim` do.
    UntilStored,
    /// Before: the mistake.
    UntilActed,
}

/// The number of requests that fail before they act.
type Failures = Arc<AtomicU32>;

/// Acts unless it was done, as `Calls::start` does. True: it did.
async fn act(
    claims: kernel::Claims,
    log: Arc<Log>,
    append: Append,
    until: Claim,
    failures: Failures,
) -> bool {
    let request = kernel::RequestKey { id: key().id, fingerprint: key().fingerprint };
    let claimed = claims.claim(log.as_ref(), &who().tenant, Some(&request)).await;
    let kernel::Claimed::First(mut claim) = claimed.expect("no other content") else {
        return false;
    };
    let one_less = |left: u32| left.checked_sub(1);
    if failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
        return false;
    }
    if matches!(until, Claim::UntilActed) {
        claim = None;
    }
    // The store refuses a second record, but then it is acted upon already.
    let _ = log.append(append).await;
    drop(claim);
    true
}

async fn acts_once(until: Claim, failures: u32) {
    let session = session().await;
    let log = Arc::new(Log::default());
    let claims = kernel::Claims::default();
    let failures = Arc::new(AtomicU32::new(failures));
    let requests = [0, 1, 2].map(|_| {
        let session = Session { id: SessionId::random(), ..session.clone() };
        let record = RequestRecord {
            tenant: who().tenant,
            request_id: key().id,
            fingerprint: key().fingerprint,
            effect: RequestEffect::SessionCreated(session.id),
            create_time: session.create_time,
        };
        let append = Append {
            session_id: session.id,
            expected_head: None,
            events: Vec::new(),
            session,
            calls: Vec::new(),
            deleted_calls: Vec::new(),
            messages: Vec::new(),
            follow_ups: Vec::new(),
            requests: vec![record],
        };
        spawn(act(claims.clone(), log.clone(), append, until, failures.clone()))
    });
    let mut acted = 0;
    for request in requests {
        acted += usize::from(request.await.expect("an answer"));
    }
    assert_eq!(acted, 1, "one of equal requests acts");
}

/// A session to copy.
async fn session() -> Session {
    let world = World::new(Rules::default());
    let id = world.session().await;
    let session = world.engine.sessions().get(&who(), id).await.expect("a session");
    world.engine.stop().await;
    session
}

#[test]
fn of_equal_claims_one_acts() {
    check(150, || acts_once(Claim::UntilStored, 0));
}

#[test]
fn of_equal_claims_one_acts_when_the_first_has_failed() {
    check(150, || acts_once(Claim::UntilStored, 1));
}

#[test]
fn it_is_found_when_a_claim_ends_before_the_record() {
    finds("one of equal requests acts", 150, || acts_once(Claim::UntilActed, 0));
}
