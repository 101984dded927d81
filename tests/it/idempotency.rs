//! Request ids: the same id has its effect once.

use futures::future::join_all;
use serde_json::json;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::history::check_everything;
use crate::support::waiting::{
    Gate, call, cancel, cancel_of, ended, events_of, is_alive, lines_of, park, parked_of, pids,
    refusal, run, session, start_of, task, text_of,
};
use crate::support::{
    TestServer, bash, check_reason, millis, request_id, result_of, soon, stdout_of, v1,
};

/// A call that leaves a line in a file each time it really runs.
fn counted(file: &std::path::Path) -> v1::RunToolRequest {
    let command = format!("echo ran >> {}; echo done; sleep 0.2", file.display());
    v1::RunToolRequest { request_id: request_id(), ..bash(&command) }
}

#[tokio::test]
async fn of_fifty_equal_calls_at_once_one_runs() {
    let server = TestServer::start().await;
    let file = server.folder().join("count");
    let request = counted(&file);
    let answers = join_all((0..50).map(|_| run(&server, request.clone()))).await;
    assert_eq!(text_of(&file), "ran\n");
    assert_eq!(answers.iter().filter(|answer| answer.replayed).count(), 49);
    for answer in &answers {
        assert_eq!(
            (&answer.call_id, &answer.session_id),
            (&answers[0].call_id, &answers[0].session_id,)
        );
        assert_eq!(answer.outcome, answers[0].outcome);
        assert_eq!(stdout_of(result_of(answer)), b"done\n");
    }
    check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn of_fifty_equal_calls_and_streams_at_once_one_runs() {
    let server = TestServer::start().await;
    let file = server.folder().join("count");
    let request = counted(&file);
    let calls = join_all((0..25).map(|_| run(&server, request.clone())));
    let streams = join_all((0..25).map(|_| async {
        let stream = server.tools.clone().stream_tool(request.clone()).await;
        events_of(stream.expect("a stream").into_inner()).await
    }));
    let (answers, streams) = futures::future::join(calls, streams).await;
    assert_eq!(text_of(&file), "ran\n");
    assert!(answers.iter().all(|answer| answer.call_id == answers[0].call_id));
    assert!(answers.iter().filter(|answer| !answer.replayed).count() <= 1);
    // Every stream has the call's events from the first one on.
    assert!(streams.iter().all(|events| *events == streams[0]));
    assert!(streams[0].iter().all(|event| event.call_id == answers[0].call_id));
    check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn an_id_that_came_with_other_content_is_refused() {
    let server = TestServer::start().await;
    let request = v1::RunToolRequest { request_id: request_id(), ..bash("echo one") };
    let answer = run(&server, request.clone()).await;
    let id = request.request_id.clone();
    let others = [
        v1::RunToolRequest { request_id: id.clone(), ..bash("echo two") },
        v1::RunToolRequest { detached: true, ..request.clone() },
        v1::RunToolRequest { session_id: answer.session_id, ..request.clone() },
    ];
    for other in others {
        let status = refusal(&server, other).await;
        check_reason(&status, Code::AlreadyExists, "REQUEST_ID_REUSED");
    }
    // Another method is other content, too.
    let status = server.tasks.clone().start(start_of(request.clone())).await;
    check_reason(&status.expect_err("a refusal"), Code::AlreadyExists, "REQUEST_ID_REUSED");
    let wanted = v1::CreateSessionRequest { request_id: id, ..Default::default() };
    let status = server.tools.clone().create_session(wanted).await.expect_err("a refusal");
    check_reason(&status, Code::AlreadyExists, "REQUEST_ID_REUSED");
    assert!(run(&server, request).await.replayed);
}

#[tokio::test]
async fn an_id_whose_request_was_refused_is_free() {
    let server = TestServer::start().await;
    let id = request_id();
    let wrong = v1::RunToolRequest { request_id: id.clone(), ..call("bash", json!({})) };
    check_reason(&refusal(&server, wrong).await, Code::InvalidArgument, "ARGUMENTS_INVALID");
    let right = v1::RunToolRequest { request_id: id, ..bash("echo right") };
    let answer = run(&server, right).await;
    assert!(!answer.replayed);
    assert_eq!(stdout_of(result_of(&answer)), b"right\n");
}

#[tokio::test]
async fn a_call_that_has_ended_is_answered_again() {
    let server = TestServer::start().await;
    let file = server.folder().join("count");
    let request = counted(&file);
    let first = run(&server, request.clone()).await;
    let second = run(&server, request.clone()).await;
    assert_eq!(second, v1::RunToolResponse { replayed: true, ..first });
    assert_eq!(text_of(&file), "ran\n");
}

#[tokio::test]
async fn a_parked_call_is_attached_to_again() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let request = v1::RunToolRequest {
        request_id: request_id(),
        call_budget: millis(50),
        ..bash(&format!("{}; echo done", gate.wait()))
    };
    let first = run(&server, request.clone()).await;
    let again = run(&server, request.clone()).await;
    assert!(!first.replayed && again.replayed);
    let id = &parked_of(&first).background_id;
    assert_eq!(&parked_of(&again).background_id, id);
    assert_eq!(parked_of(&again).call_budget, millis(50));
    gate.open();
    let task = ended(&server, id).await;
    // Once parked, always parked: what it came to is in the task.
    let last = run(&server, request).await;
    assert_eq!((parked_of(&last).task.as_ref(), last.replayed), (Some(&task), true));
    assert!(!parked_of(&last).message.contains("still running"), "{last:?}");
    assert_eq!(last.call_id, first.call_id);
}

#[tokio::test]
async fn a_call_is_not_abandoned_while_one_of_its_callers_is_there() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let request = v1::RunToolRequest {
        request_id: request_id(),
        on_disconnect: v1::OnDisconnect::Cancel.into(),
        ..bash(&format!("echo $$ > {}; {}; echo done", mark.display(), gate.wait()))
    };
    let mut client = server.tools.clone();
    let mut first = Box::pin(client.run_tool(request.clone()));
    let pid = tokio::select! {
        answer = &mut first => panic!("answered: {answer:?}"),
        lines = lines_of(&mark, 1) => pids(&lines)[0],
    };
    // The second caller listens before the first one leaves: it has seen the call's first event.
    let stream = server.tools.clone().stream_tool(request.clone()).await;
    let mut stream = stream.expect("a stream").into_inner();
    soon("an update", stream.message()).await.expect("no cut").expect("an update");
    drop(first);
    let leaving = run(&server, bash("sleep 0.3")).await;
    assert!(!result_of(&leaving).is_error && is_alive(pid));
    gate.open();
    let events = events_of(stream).await;
    let Some(v1::session_event::Payload::ToolCallFinished(finished)) =
        events.last().and_then(|event| event.payload.as_ref())
    else {
        panic!("{events:?}");
    };
    assert_eq!(finished.state(), v1::State::Succeeded);
}

#[tokio::test]
async fn start_makes_one_task_for_one_id() {
    let server = TestServer::start().await;
    let file = server.folder().join("count");
    let request = start_of(counted(&file));
    let answers = join_all((0..20).map(|_| async {
        let answer = soon("a start", server.tasks.clone().start(request.clone())).await;
        answer.expect("an answer").into_inner()
    }))
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.replayed).count(), 19);
    let id =
        |answer: &v1::StartResponse| answer.task.as_ref().expect("a task").background_id.clone();
    let first = id(&answers[0]);
    assert!(answers.iter().all(|answer| id(answer) == first));
    ended(&server, &first).await;
    assert_eq!(text_of(&file), "ran\n");
    let again = server.tasks.clone().start(request).await.expect("an answer").into_inner();
    assert_eq!((id(&again), again.replayed), (first, true));
}

#[tokio::test]
async fn create_and_close_session_act_once_for_one_id() {
    let server = TestServer::start().await;
    let wanted = v1::CreateSessionRequest { request_id: request_id(), ..Default::default() };
    let create = || async {
        let answer = server.tools.clone().create_session(wanted.clone()).await;
        answer.expect("an answer").into_inner()
    };
    let (first, second) = futures::future::join(create(), create()).await;
    assert!(first.replayed != second.replayed);
    let session_id = first.session.expect("a session").session_id;
    assert_eq!(second.session.expect("a session").session_id, session_id);
    let gate = Gate::new(server.folder(), "gate");
    let here = v1::RunToolRequest { session_id: session_id.clone(), ..bash(&gate.wait()) };
    let id = park(&server, here).await;
    let request =
        v1::CloseSessionRequest { session_id, request_id: request_id(), reason: "done".into() };
    let close = |request| async {
        server.tools.clone().close_session(request).await.map(Response::into_inner)
    };
    let closed = close(request.clone()).await.expect("an answer");
    assert_eq!((closed.cancelled_tasks, closed.replayed), (1, false));
    ended(&server, &id).await;
    let again = close(request.clone()).await.expect("an answer");
    assert_eq!((again.cancelled_tasks, again.replayed), (1, true));
    let other = v1::CloseSessionRequest { reason: "other".into(), ..request };
    let status = close(other).await.expect_err("a refusal");
    check_reason(&status, Code::AlreadyExists, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn cancel_and_delete_act_once_for_one_id() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let id = park(&server, bash(&gate.wait())).await;
    let request = v1::CancelRequest { request_id: request_id(), ..cancel_of(&id) };
    let first = cancel(&server, request.clone()).await;
    let again = cancel(&server, request.clone()).await;
    assert!(!first.replayed && again.replayed);
    assert_eq!(first.task, again.task);
    assert_eq!(first.task.expect("a task").state(), v1::State::Cancelled);
    let other = v1::CancelRequest { force: true, ..request };
    let status = server.tasks.clone().cancel(other).await.expect_err("a refusal");
    check_reason(&status, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let delete = |request_id: &str| {
        let (background_id, request_id) = (id.clone(), request_id.to_owned());
        let request = v1::DeleteRequest { background_id, request_id };
        let mut tasks = server.tasks.clone();
        async move { tasks.delete(request).await.map(|answer| answer.into_inner().replayed) }
    };
    let key = request_id();
    assert!(!delete(&key).await.expect("deleted"));
    assert!(delete(&key).await.expect("deleted"));
    for other in ["", &request_id()] {
        let status = delete(other).await.expect_err("a refusal");
        check_reason(&status, Code::NotFound, "TASK_NOT_FOUND");
    }
}

#[tokio::test]
async fn ids_are_known_after_a_restart() {
    let server = TestServer::start().await;
    let (quick, slow) = (server.folder().join("quick"), server.folder().join("slow"));
    let (quick_call, slow_call) = (counted(&quick), start_of(counted(&slow)));
    let wanted = v1::CreateSessionRequest { request_id: request_id(), ..Default::default() };
    let first = run(&server, quick_call.clone()).await;
    let session_id = session(&server, wanted.clone()).await;
    let started = server.tasks.clone().start(slow_call.clone()).await.expect("an answer");
    let started = started.into_inner().task.expect("a task");
    let before = ended(&server, &started.background_id).await;
    let server = server.restart().await;
    let second = run(&server, quick_call).await;
    assert_eq!(second, v1::RunToolResponse { replayed: true, ..first });
    assert_eq!(session(&server, wanted).await, session_id);
    let again = server.tasks.clone().start(slow_call).await.expect("an answer").into_inner();
    assert_eq!((again.task, again.replayed), (Some(before.clone()), true));
    assert_eq!(task(&server, &started.background_id).await, before);
    assert_eq!((text_of(&quick), text_of(&slow)), ("ran\n".into(), "ran\n".into()));
}

#[tokio::test]
async fn a_call_that_a_stop_has_ended_is_not_run_again() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let file = server.folder().join("count");
    let command = format!("echo ran >> {}; {}", file.display(), gate.wait());
    let slow = || v1::RunToolRequest { request_id: request_id(), ..bash(&command) };
    let (started, parked) =
        (start_of(slow()), v1::RunToolRequest { call_budget: millis(0), ..slow() });
    let first = server.tasks.clone().start(started.clone()).await.expect("an answer").into_inner();
    let id = parked_of(&run(&server, parked.clone()).await).background_id.clone();
    lines_of(&file, 2).await;
    let server = server.restart().await;
    let again = server.tasks.clone().start(started).await.expect("an answer").into_inner();
    let (first, task) = (first.task.expect("a task"), again.task.expect("a task"));
    assert_eq!((&task.background_id, task.state()), (&first.background_id, v1::State::Lost));
    assert!(again.replayed);
    let answer = run(&server, parked).await;
    let lost = parked_of(&answer).task.as_ref().expect("a task");
    assert_eq!((&lost.background_id, lost.state(), answer.replayed), (&id, v1::State::Lost, true));
    assert_eq!(text_of(&file), "ran\nran\n");
}

#[track_caller]
fn check_request_id<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) {
    let status = answer.expect_err("a refusal");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    let faults = status.get_details_bad_request().expect("a BadRequest").field_violations;
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert!(matches!(fields[..], ["request_id" | "tool_call.request_id"]), "{fields:?}");
}

#[tokio::test]
async fn an_id_that_is_no_uuid_is_refused() {
    let server = TestServer::start().await;
    let session_id = session(&server, Default::default()).await;
    let (mut tools, mut tasks) = (server.tools.clone(), server.tasks.clone());
    let background_id = park(&server, bash("true")).await;
    for wrong in ["1", "not-a-uuid", "123e4567-e89b-12d3-a456-42661417400g"] {
        let request_id = wrong.to_owned();
        let call = v1::RunToolRequest { request_id: request_id.clone(), ..bash("true") };
        check_request_id(tools.run_tool(call.clone()).await);
        check_request_id(tools.stream_tool(call.clone()).await);
        check_request_id(tasks.start(start_of(call)).await);
        let create =
            v1::CreateSessionRequest { request_id: request_id.clone(), ..Default::default() };
        check_request_id(tools.create_session(create).await);
        let close = v1::CloseSessionRequest {
            session_id: session_id.clone(),
            request_id: request_id.clone(),
            ..Default::default()
        };
        check_request_id(tools.close_session(close).await);
        let cancel =
            v1::CancelRequest { request_id: request_id.clone(), ..cancel_of(&background_id) };
        check_request_id(tasks.cancel(cancel).await);
        let delete = v1::DeleteRequest { background_id: background_id.clone(), request_id };
        check_request_id(tasks.delete(delete).await);
    }
}

#[tokio::test]
async fn a_repetition_after_the_task_was_deleted_is_refused_as_deleted() {
    let server = TestServer::start().await;
    let request =
        v1::RunToolRequest { call_budget: millis(0), request_id: request_id(), ..bash("true") };
    let id = park(&server, request.clone()).await;
    ended(&server, &id).await;
    let delete = v1::DeleteRequest { background_id: id, ..Default::default() };
    soon("a delete", server.tasks.clone().delete(delete)).await.expect("deleted");
    let refused = refusal(&server, request).await;
    check_reason(&refused, Code::NotFound, "TASK_NOT_FOUND");
}
