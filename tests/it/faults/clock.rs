//! Elapsed time counts from the start of the run, whatever came before it and after its end.

use std::time::Duration;

use v1::State;

use crate::support::waiting::{
    Gate, ended, lines_of, park, parked_of, run, span_of, start, start_of, task, time,
};
use crate::support::{TestServer, bash, millis, v1};

/// Checks that `elapsed` of an ended task is the difference of its times, and returns it.
#[track_caller]
fn check_elapsed(task: &v1::Task) -> Duration {
    let (elapsed, ran) =
        (span_of(&task.elapsed), time(&task.end_time).saturating_sub(time(&task.start_time)));
    assert!(elapsed.abs_diff(ran) < Duration::from_millis(1), "{elapsed:?}, {ran:?}: {task:?}");
    elapsed
}

#[tokio::test]
async fn the_time_in_the_queue_is_not_elapsed() {
    let server = TestServer::with(&[("max-running-calls", "1")]).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let first = park(&server, bash(&format!("echo x > {}; {}", mark.display(), gate.wait()))).await;
    lines_of(&mark, 1).await;
    let limit = v1::RunToolRequest { execution_timeout: millis(1_200), ..bash("sleep 0.2") };
    let second = start(&server, start_of(limit)).await.background_id;
    // Longer than its hard limit, which must not have begun to count.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let pending = task(&server, &second).await;
    assert_eq!((pending.state(), pending.start_time), (State::Pending, None));
    assert!(pending.elapsed.is_none_or(|elapsed| elapsed == prost_types::Duration::default()));
    gate.open();
    let second = ended(&server, &second).await;
    assert_eq!(second.state(), State::Succeeded, "{}", second.reason);
    let elapsed = check_elapsed(&second);
    assert!(elapsed >= Duration::from_millis(200), "{elapsed:?}");
    let waited = time(&second.start_time).saturating_sub(time(&second.create_time));
    assert!(waited >= Duration::from_millis(1_500), "{waited:?}");
    assert!(check_elapsed(&ended(&server, &first).await) >= Duration::from_millis(1_500));
}

#[tokio::test]
async fn parking_begins_no_new_count_and_the_end_stops_it() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let request = v1::RunToolRequest { call_budget: millis(700), ..bash(&gate.wait()) };
    let answer = run(&server, request).await;
    let parked = parked_of(&answer).task.as_ref().expect("a task");
    let at_park = span_of(&parked.elapsed);
    assert!(at_park >= Duration::from_millis(690), "{at_park:?}");
    let later = span_of(&task(&server, &parked.background_id).await.elapsed);
    assert!(later >= at_park, "{later:?} after {at_park:?}");
    gate.open();
    let end = ended(&server, &parked.background_id).await;
    assert!(check_elapsed(&end) >= later);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(task(&server, &parked.background_id).await, end);
    // Nor does a restart move it.
    let server = server.restart().await;
    assert_eq!(task(&server, &end.background_id).await.elapsed, end.elapsed);
}
