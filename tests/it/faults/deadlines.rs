//! Deadlines that are shorter than the work: every RPC answers before its own, and the work goes on.

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tonic::{Code, Request, Status, Streaming};
use v1::session_event::Payload;
use v1::{ParkReason, State, WaitMode};

use crate::history::check_everything;
use crate::support::streams::stream_of;
use crate::support::waiting::{
    Gate, ended, lines_of, log_of, outcome_of, park, parked_of, session, span_of, task,
};
use crate::support::wire::only_reason;
use crate::support::{TEST_TIMEOUT, TestServer, bash, millis, soon, stdout_of, v1};

/// Far less than the work takes.
const DEADLINE: Duration = Duration::from_millis(300);
/// A machine that is busy with other things may be late: one of so many must be in time.
const TRIES: usize = 12;
const WORK: &str = "echo begun; sleep 3; echo ok";
/// The duration of that work.
const WORK_TIME: Duration = Duration::from_secs(3);

/// A request with the deadline.
fn hurried<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// Asks until an answer comes before the deadline. One that didn't come at all is distinguished from one
/// that is late by its reason, which only the server gives.
async fn in_time<'a, T>(what: &str, ask: impl Fn() -> BoxFuture<'a, Result<T, Status>>) -> T {
    let mut late = Vec::new();
    for _ in 0..TRIES {
        let began = Instant::now();
        match soon(what, ask()).await {
            Ok(answer) if began.elapsed() < DEADLINE => return answer,
            Ok(_) => late.push(format!("answered after {:?}", began.elapsed())),
            Err(status) => late.push(format!("{status:?} after {:?}", began.elapsed())),
        }
    }
    panic!("{what}: no answer within {DEADLINE:?}: {late:#?}");
}

/// Work in the background that lasts until the gate is open, once it has begun to write.
async fn working(server: &TestServer, session_id: &str, gate: &Gate) -> String {
    let work = bash(&format!("echo begun; {}; echo ok", gate.wait()));
    let work = v1::RunToolRequest { session_id: session_id.into(), ..work };
    let id = park(server, work).await;
    let begun = async {
        while task(server, &id).await.output.and_then(|output| output.stdout).is_none_or(is_empty) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the first line", begun).await;
    id
}

fn is_empty(summary: v1::StreamSummary) -> bool {
    summary.total_bytes == 0
}

/// The task has ended in its own time and with all of its output, as if there had been no request.
async fn check_untouched(server: &TestServer, id: &str) -> Duration {
    let task = ended(server, id).await;
    assert_eq!(task.state(), State::Succeeded);
    assert_eq!((&task.cancellation, task.reason.as_str()), (&None, ""));
    assert_eq!(stdout_of(outcome_of(&task)), b"begun\nok\n");
    let log = log_of(server, &task.session_id).await;
    let payloads = log.iter().filter(|event| event.call_id == task.call_id);
    let kinds = payloads.map(|event| match event.payload.as_ref().expect("a payload") {
        Payload::ToolCallAccepted(_) => "accepted",
        Payload::ToolCallStarted(_) => "started",
        Payload::ToolCallParked(_) => "parked",
        Payload::ToolOutput(_) => "output",
        Payload::ToolCallFinished(_) => "finished",
        other => panic!("{other:?}"),
    });
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["accepted", "finished", "output", "output", "parked", "started"]);
    span_of(&task.elapsed)
}

#[tokio::test]
async fn waits_and_reads_answer_before_a_deadline_that_is_shorter_than_the_work() {
    let server = TestServer::start().await;
    let session_id = session(&server, Default::default()).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let id = &working(&server, &session_id, &gate).await;
    let wait = millis(60_000);
    let ask = || {
        let request = v1::WaitRequest { background_id: id.clone(), wait, acknowledge: true };
        let mut tasks = server.tasks.clone();
        async move { tasks.wait(hurried(request)).await }.boxed()
    };
    let answer = in_time("Wait", ask).await.into_inner();
    assert!(answer.still_running && answer.output_tail.is_some(), "{answer:?}");
    let ask = || {
        let (background_ids, mode) = (vec![id.clone()], WaitMode::All.into());
        let request = v1::WaitManyRequest { background_ids, mode, wait, acknowledge: true };
        let mut tasks = server.tasks.clone();
        async move { tasks.wait_many(hurried(request)).await }.boxed()
    };
    let answer = in_time("WaitMany", ask).await.into_inner();
    assert_eq!((answer.settled.len(), answer.pending.len()), (0, 1));
    let ask = || {
        let request = v1::ReadOutputRequest {
            background_id: id.clone(),
            position: Some(v1::read_output_request::Position::Offset(6)),
            wait,
            ..Default::default()
        };
        let mut tasks = server.tasks.clone();
        async move { tasks.read_output(hurried(request)).await }.boxed()
    };
    let answer = in_time("ReadOutput", ask).await.into_inner();
    assert!(answer.data.is_empty() && !answer.eof && answer.next_offset == 6, "{answer:?}");
    gate.open();
    check_untouched(&server, id).await;
    check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn calls_are_parked_before_a_deadline_that_is_shorter_than_the_work() {
    let server = TestServer::start().await;
    let session_id = session(&server, Default::default()).await;
    let work = v1::RunToolRequest { session_id: session_id.clone(), ..bash(WORK) };
    let ask = || {
        let (mut tools, request) = (server.tools.clone(), hurried(work.clone()));
        async move { tools.run_tool(request).await }.boxed()
    };
    let answer = in_time("RunTool", ask).await.into_inner();
    let parked = parked_of(&answer);
    assert_eq!(parked.task.as_ref().expect("a task").park_reason(), ParkReason::Deadline);
    assert!(check_untouched(&server, &parked.background_id).await >= WORK_TIME);
    let ask = || {
        let (mut tools, request) = (server.tools.clone(), hurried(work.clone()));
        let all = async move { Ok(rest(tools.stream_tool(request).await?.into_inner()).await) };
        all.map(|ended| ended.and_then(|(events, end)| end.map_or(Ok(events), Err))).boxed()
    };
    let events: Vec<v1::SessionEvent> =
        in_time("StreamTool", ask).await.into_iter().flat_map(|update| update.events).collect();
    let Some(Payload::ToolCallParked(parked)) = events.last().and_then(|e| e.payload.as_ref())
    else {
        panic!("{events:?}");
    };
    assert_eq!(parked.reason(), ParkReason::Deadline);
    assert!(check_untouched(&server, &parked.background_id).await >= WORK_TIME);
    // A caller that was late lost nothing either.
    let request = v1::ListRequest { session_id, ..Default::default() };
    let tasks = server.tasks.clone().list(request).await.expect("an answer").into_inner().tasks;
    for task in tasks {
        assert_eq!(ended(&server, &task.background_id).await.state(), State::Succeeded);
    }
    check_everything(&server.connect(), 0).await;
}

/// Returns the items of a stream to its end, and the error that it ends with.
async fn rest<T>(mut stream: Streaming<T>) -> (Vec<T>, Option<Status>) {
    let mut messages = Vec::new();
    loop {
        match soon("a message", stream.message()).await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(status) => return (messages, Some(status)),
        }
    }
}

/// A stream that its deadline has ended, as its server says and not its client.
fn cut<T>((messages, end): (Vec<T>, Option<Status>)) -> Result<Vec<T>, Status> {
    let status = end.expect("no good end before its time");
    let is_told = only_reason(&status).as_deref() == Some("DEADLINE_EXCEEDED");
    if status.code() == Code::DeadlineExceeded && is_told { Ok(messages) } else { Err(status) }
}

#[tokio::test]
async fn open_streams_say_that_their_deadline_has_come() {
    let server = TestServer::start().await;
    let session_id = session(&server, Default::default()).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let id = working(&server, &session_id, &gate).await;
    let ask = || {
        let request = hurried(stream_of(&session_id));
        let mut tools = server.tools.clone();
        let all = async move { Ok(rest(tools.stream_session(request).await?.into_inner()).await) };
        all.map(|ended| ended.and_then(cut)).boxed()
    };
    let updates = in_time("StreamSession", ask).await;
    let sequences = updates.iter().flat_map(|update| &update.events).map(|event| event.sequence);
    assert_eq!(sequences.collect::<Vec<_>>(), [1, 2, 3, 4]);
    let ask = || {
        let request = hurried(v1::WatchRequest { watch_sequence: Some(0), ..Default::default() });
        let mut tasks = server.tasks.clone();
        let all = async move { Ok(rest(tasks.watch(request).await?.into_inner()).await) };
        all.map(|ended| ended.and_then(cut)).boxed()
    };
    let changes = in_time("Watch", ask).await;
    assert!(changes.iter().any(|change| !change.tasks.is_empty()), "{changes:?}");
    gate.open();
    check_untouched(&server, &id).await;
}

#[tokio::test]
async fn a_cancel_answers_before_its_deadline_and_goes_on() {
    let server = TestServer::start().await;
    let mark = server.folder().join("mark");
    let command = format!(
        "trap 'sleep 3; echo bye; exit 7' TERM; echo x > {}; while :; do sleep 0.1; done",
        mark.display()
    );
    let id = park(&server, bash(&command)).await;
    lines_of(&mark, 1).await;
    let ask = || {
        let (background_id, grace) = (id.clone(), millis(60_000));
        let wait = millis(60_000);
        let request = v1::CancelRequest { background_id, grace, wait, ..Default::default() };
        let mut tasks = server.tasks.clone();
        async move { tasks.cancel(hurried(request)).await }.boxed()
    };
    let answer = in_time("Cancel", ask).await.into_inner();
    assert!(answer.still_running, "{answer:?}");
    assert_eq!(answer.task.expect("a task").state(), State::Cancelling);
    let task = ended(&server, &id).await;
    assert_eq!(task.state(), State::Cancelled);
    assert_eq!(outcome_of(&task).exit, Some(v1::tool_result::Exit::ExitCode(7)));
    assert_eq!(stdout_of(outcome_of(&task)), b"bye\n");
    assert!(span_of(&task.elapsed) < TEST_TIMEOUT);
    check_everything(&server.connect(), 0).await;
}
