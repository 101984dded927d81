//! The main job, in a few lines.

use crate::support::{TestServer, bash, millis, result_of, soon, stdout_of, v1};

#[tokio::test]
async fn a_quick_call_gives_its_result_and_a_slow_one_is_parked_and_waited_for() {
    let mut server = TestServer::start().await;
    let answer = soon("a call", server.tools.run_tool(bash("echo hello; exit 3"))).await;
    let answer = answer.expect("an answer").into_inner();
    let result = result_of(&answer);
    assert_eq!(stdout_of(result), b"hello\n");
    assert_eq!(result.exit, Some(v1::tool_result::Exit::ExitCode(3)));
    assert!(result.is_error);

    let slow = v1::RunToolRequest { call_budget: millis(50), ..bash("sleep 0.5; echo done") };
    let answer = soon("a parked call", server.tools.run_tool(slow)).await;
    let answer = answer.expect("an answer").into_inner();
    let Some(v1::run_tool_response::Outcome::Parked(parked)) = answer.outcome else {
        panic!("not parked: {answer:?}");
    };
    assert_eq!(parked.r#type, "background");
    let wait = v1::WaitRequest { background_id: parked.background_id, ..Default::default() };
    let waited = soon("a wait", server.tasks.wait(wait)).await.expect("an answer").into_inner();
    assert!(!waited.still_running);
    let task = waited.task.expect("a task");
    assert_eq!(task.state(), v1::State::Succeeded);
    let Some(v1::task::Outcome::Result(result)) = &task.outcome else { panic!("{task:?}") };
    assert_eq!(stdout_of(result), b"done\n");
    server.stop().await;
}
