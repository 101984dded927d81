//! Limits of a run: its whole time, and its silence.

use std::time::Duration;

use crate::support::waiting::{
    Gate, ended, first_end, is_alive, lines_of, outcome_of, park, parked_of, pids, run, session,
    span_of, time,
};
use crate::support::{TestServer, bash, millis, result_of, stdout_of, v1};

/// Runs a call that a limit ends while its caller waits; its end.
async fn in_foreground(
    server: &TestServer,
    request: v1::RunToolRequest,
) -> (v1::ToolResult, v1::ToolCallFinished) {
    let session_id = session(server, Default::default()).await;
    let request = v1::RunToolRequest { session_id: session_id.clone(), ..request };
    let answer = run(server, request).await;
    (result_of(&answer).clone(), first_end(server, &session_id).await)
}

#[tokio::test]
async fn a_run_that_reaches_its_hard_limit_ends_with_the_output_so_far() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let command = format!("echo $$ > {}; echo so far; {}", mark.display(), gate.wait());
    let request = v1::RunToolRequest { execution_timeout: millis(500), ..bash(&command) };
    let (result, finished) = in_foreground(&server, request).await;
    assert!(result.is_error);
    assert_eq!(stdout_of(&result), b"so far\n");
    assert_eq!(finished.state(), v1::State::TimedOut);
    assert!(finished.reason.contains("timed out after 0.5 s"), "{}", finished.reason);
    assert!(span_of(&finished.elapsed) >= Duration::from_millis(500));
    assert!(!is_alive(pids(&lines_of(&mark, 1).await)[0]));
}

#[tokio::test]
async fn the_hard_limit_goes_on_counting_after_parking() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let limit = Duration::from_millis(1800);
    let request = v1::RunToolRequest {
        call_budget: millis(900),
        execution_timeout: crate::support::span(limit),
        ..bash(&format!("echo so far; {}", gate.wait()))
    };
    let answer = run(&server, request).await;
    let task = ended(&server, &parked_of(&answer).background_id).await;
    assert_eq!(task.state(), v1::State::TimedOut);
    assert_eq!(stdout_of(outcome_of(&task)), b"so far\n");
    let end = time(&task.end_time);
    let elapsed = end - time(&task.start_time);
    assert!(elapsed >= limit, "{elapsed:?}");
    assert!(end - time(&task.park_time) < limit);
    // Elapsed counts from the start of the run, and stands still after its end.
    assert!(span_of(&task.elapsed).abs_diff(elapsed) < Duration::from_millis(1), "{task:?}");
    assert_eq!(task.cancellation, None);
}

#[tokio::test]
async fn a_run_that_ignores_term_at_its_hard_limit_is_killed_after_the_grace() {
    let server = TestServer::with(&[("grace", "200ms")]).await;
    let gate = Gate::new(server.folder(), "gate");
    let request = v1::RunToolRequest {
        execution_timeout: millis(500),
        ..bash(&format!("trap '' TERM; echo up; {}", gate.wait()))
    };
    let task = ended(&server, &park(&server, request).await).await;
    assert_eq!(task.state(), v1::State::TimedOut);
    assert_eq!(outcome_of(&task).exit, Some(v1::tool_result::Exit::Signal(9)));
    assert!(span_of(&task.elapsed) >= Duration::from_millis(700));
}

#[tokio::test]
async fn a_run_that_is_silent_for_too_long_ends_with_the_output_so_far() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let request = v1::RunToolRequest {
        idle_timeout: millis(400),
        ..bash(&format!("echo so far; {}", gate.wait()))
    };
    let (result, finished) = in_foreground(&server, request.clone()).await;
    assert_eq!((stdout_of(&result), result.is_error), (b"so far\n".to_vec(), true));
    assert_eq!(finished.state(), v1::State::TimedOut);
    assert!(finished.reason.contains("no output for 0.4 s"), "{}", finished.reason);
    let parked = ended(&server, &park(&server, request).await).await;
    assert_eq!(parked.state(), v1::State::TimedOut);
    assert_eq!(stdout_of(outcome_of(&parked)), b"so far\n");
    assert!(span_of(&parked.elapsed) >= Duration::from_millis(400));
}

const CHATTY: &str = "for n in {1..20}; do echo $n; sleep 0.1; done";

#[tokio::test]
async fn output_is_a_sign_of_life() {
    let server = TestServer::start().await;
    let request = v1::RunToolRequest { idle_timeout: millis(1500), ..bash(CHATTY) };
    let task = ended(&server, &park(&server, request).await).await;
    assert_eq!(task.state(), v1::State::Succeeded, "{}", task.reason);
    assert!(span_of(&task.elapsed) > Duration::from_millis(1500));
}

#[tokio::test]
async fn output_that_is_dropped_is_a_sign_of_life_too() {
    let server = TestServer::start().await;
    let request = v1::RunToolRequest {
        idle_timeout: millis(1500),
        max_output_bytes: Some(4),
        ..bash(CHATTY)
    };
    let task = ended(&server, &park(&server, request).await).await;
    assert_eq!(task.state(), v1::State::Succeeded, "{}", task.reason);
    assert!(span_of(&task.elapsed) > Duration::from_millis(1500));
}
