//! Steps of the machine's clock: while a server runs, and while none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use callpark::internals::engine::{Clock, SystemClock};
use callpark::model::Timestamp;
use v1::FollowUpState;
use v1::start_request::Work;

use crate::support::streams::{ended, new_session, start_of, started, task_now};
use crate::support::waiting::{Gate, span_of, time};
use crate::support::{Additions, TestServer, millis, soon, v1};

const HOUR_SECONDS: i64 = 3_600;
const DAY_SECONDS: i64 = 24 * HOUR_SECONDS;

/// The clock of the machine, as if it were set from time to time.
#[derive(Default)]
struct Hands {
    off_by_seconds: AtomicI64,
}

impl Hands {
    fn set(&self, by_seconds: i64) {
        self.off_by_seconds.fetch_add(by_seconds, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        let off_by_micros = self.off_by_seconds.load(Ordering::Relaxed) * 1_000_000;
        Timestamp::from_micros(SystemClock.now().as_micros() + off_by_micros)
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime()
    }
}

async fn server(clock: &Arc<Hands>) -> TestServer {
    let more = Additions { clock: Some(clock.clone()), ..Additions::default() };
    let settings = [("sweep-interval", "100ms"), ("admin-listen", "127.0.0.1:0")];
    TestServer::with_more(more, &settings).await
}

/// A task with a follow-up, which has ended.
async fn followed(server: &TestServer, session_id: &str) -> v1::Task {
    let mut request = start_of(session_id, "true");
    if let Some(Work::ToolCall(call)) = &mut request.work {
        call.follow_up = v1::FollowUpPolicy::OnFinish.into();
    }
    ended(server, &started(server, request).await.background_id).await
}

async fn lease(server: &TestServer, session_id: &str, span: u64, wait: u64) -> Vec<v1::FollowUp> {
    let request = v1::LeaseFollowUpsRequest {
        session_id: session_id.into(),
        lease_duration: millis(span),
        wait: millis(wait),
        ..Default::default()
    };
    let leased = soon("a lease", server.tasks.clone().lease_follow_ups(request)).await;
    let leased = leased.expect("an answer").into_inner().follow_ups;
    leased.into_iter().map(|lease| lease.follow_up.expect("a follow-up")).collect()
}

async fn until_noticed(server: &TestServer, direction: &str) {
    let none = format!("callpark_clock_steps_total{{direction=\"{direction}\"}} 0");
    let noticed = async {
        while server.http("/metrics").await.contains(&none) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("a step is noticed", noticed).await;
}

/// Takes 3 s: the clock is looked at once a second.
#[tokio::test]
async fn steps_of_the_clock_change_no_duration() {
    let clock = Arc::new(Hands::default());
    let server = server(&clock).await;
    let session_id = new_session(&server).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let running = started(&server, start_of(&session_id, &gate.wait())).await.background_id;
    let over = followed(&server, &session_id).await;
    let leased = lease(&server, &session_id, 60_000, 0).await;
    assert_eq!(leased[0].state(), FollowUpState::Leased);

    let mut newest = time(&over.end_time);
    let steps = [HOUR_SECONDS, DAY_SECONDS, -3 * HOUR_SECONDS, -3 * DAY_SECONDS];
    for (step, direction) in steps.into_iter().zip(["", "forward", "", "back"]) {
        clock.set(step);
        // Expired records are removed meanwhile, more than once.
        let wait = lease(&server, &session_id, 60_000, 300).await;
        assert_eq!(wait, [], "the lease is held");
        if !direction.is_empty() {
            until_noticed(&server, direction).await;
        }
        assert_eq!(task_now(&server, &over.background_id).await, over);
        let elapsed = span_of(&task_now(&server, &running).await.elapsed);
        assert!(elapsed < Duration::from_secs(30), "{elapsed:?} after {step} s");
        let later = followed(&server, &session_id).await;
        let took = time(&later.end_time).saturating_sub(newest);
        assert!(took > Duration::ZERO && took < Duration::from_secs(30), "{took:?}");
        newest = time(&later.end_time);
        assert_eq!(lease(&server, &session_id, 60_000, 0).await.len(), 1, "that of the new task");
    }
    gate.open();
    let elapsed = span_of(&ended(&server, &running).await.elapsed);
    assert!(elapsed < Duration::from_secs(30), "{elapsed:?}");
}

#[tokio::test]
async fn what_a_server_left_is_due_in_time_after_the_clock_was_set_back() {
    for step in [-HOUR_SECONDS, -400 * DAY_SECONDS] {
        let clock = Arc::new(Hands::default());
        let server = server(&clock).await;
        let session_id = new_session(&server).await;
        let over = followed(&server, &session_id).await;
        assert_eq!(lease(&server, &session_id, 600, 0).await.len(), 1);
        clock.set(step);
        let server = server.restart().await;
        assert_eq!(task_now(&server, &over.background_id).await, over);
        let again = lease(&server, &session_id, 60_000, 20_000).await;
        assert_eq!(again[0].attempt, 2, "the first lease has ended");
        let later = followed(&server, &session_id).await;
        assert!(time(&later.create_time) > time(&over.end_time), "{later:?} after {over:?}");
    }
}
