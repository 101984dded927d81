//! Callers whose deadline comes near: on_disconnect says what becomes of their calls.

use std::time::Duration;

use tonic::Request;

use crate::support::waiting::{
    Gate, ended, first_end, is_alive, lines_of, log_of, parked_of, pids, session,
};
use crate::support::{TestServer, bash, millis, result_of, soon, stdout_of, v1};

use v1::session_event::Payload;

/// Long enough for a busy machine to answer before it.
const DEADLINE: Duration = Duration::from_millis(2_000);

/// A call that says its process id, and then waits at a gate.
struct Held {
    server: TestServer,
    gate: Gate,
    session_id: String,
}

impl Held {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let gate = Gate::new(server.folder(), "gate");
        let session_id = session(&server, Default::default()).await;
        Self { server, gate, session_id }
    }

    fn request(&self, on_disconnect: v1::OnDisconnect) -> Request<v1::RunToolRequest> {
        let mark = self.server.folder().join("mark");
        let command = format!("echo $$ > {}; echo up; {}", mark.display(), self.gate.wait());
        let mut request = Request::new(v1::RunToolRequest {
            session_id: self.session_id.clone(),
            on_disconnect: on_disconnect.into(),
            ..bash(&command)
        });
        request.set_timeout(DEADLINE);
        request
    }

    async fn pid(&self) -> u32 {
        pids(&lines_of(&self.server.folder().join("mark"), 1).await)[0]
    }

    /// Checks that the call was cancelled because its caller left, and never parked.
    async fn check_cancelled(&self) {
        let finished = first_end(&self.server, &self.session_id).await;
        assert_eq!(finished.state(), v1::State::Cancelled);
        assert_eq!(finished.end_reason(), v1::EndReason::CallerGone);
        assert_eq!(finished.background_id, "");
        assert!(finished.reason.contains("deadline"), "{}", finished.reason);
        let log = log_of(&self.server, &self.session_id).await;
        let is_parked =
            |event: &v1::SessionEvent| matches!(event.payload, Some(Payload::ToolCallParked(_)));
        assert!(!log.iter().any(is_parked), "{log:?}");
        assert!(!is_alive(self.pid().await));
    }
}

#[tokio::test]
async fn a_deadline_cancels_a_call_where_that_is_wanted() {
    let held = Held::new().await;
    let request = held.request(v1::OnDisconnect::Cancel);
    let answer = soon("an answer", held.server.tools.clone().run_tool(request)).await;
    let answer = answer.expect("an answer in time").into_inner();
    let result = result_of(&answer);
    assert_eq!(result.end_reason(), v1::EndReason::CallerGone);
    assert_eq!(stdout_of(result), b"up\n", "the output so far");
    held.check_cancelled().await;
}

#[tokio::test]
async fn a_deadline_cancels_a_streamed_call_where_that_is_wanted() {
    let held = Held::new().await;
    let request = held.request(v1::OnDisconnect::Cancel);
    let stream = held.server.tools.clone().stream_tool(request).await.expect("a stream");
    let events = crate::support::waiting::events_of(stream.into_inner()).await;
    let Some(Payload::ToolCallFinished(finished)) = events.last().and_then(|e| e.payload.clone())
    else {
        panic!("{events:?}")
    };
    assert_eq!(finished.end_reason(), v1::EndReason::CallerGone);
    held.check_cancelled().await;
}

#[tokio::test]
async fn a_deadline_parks_a_call_where_that_is_wanted() {
    for on_disconnect in [v1::OnDisconnect::Park, v1::OnDisconnect::Unspecified] {
        let mut held = Held::new().await;
        let request = held.request(on_disconnect);
        let answer = soon("an answer", held.server.tools.clone().run_tool(request)).await;
        let answer = answer.expect("an answer in time").into_inner();
        let task = parked_of(&answer).task.clone().expect("a task");
        assert_eq!(task.park_reason(), v1::ParkReason::Deadline);
        assert_eq!(task.end_reason(), v1::EndReason::Unspecified);
        assert!(is_alive(held.pid().await));
        held.gate.open();
        let task = ended(&held.server, &task.background_id).await;
        assert_eq!(task.end_reason(), v1::EndReason::Completed);
    }
}

#[tokio::test]
async fn a_caller_without_a_deadline_that_goes_away_takes_its_call_along() {
    let held = Held::new().await;
    let mut request = held.request(v1::OnDisconnect::Cancel);
    request.metadata_mut().remove("grpc-timeout");
    let mut tools = held.server.tools.clone();
    tokio::select! {
        answer = tools.run_tool(request) => panic!("answered: {answer:?}"),
        _pid = held.pid() => {}
    }
    let finished = first_end(&held.server, &held.session_id).await;
    assert_eq!(finished.end_reason(), v1::EndReason::CallerGone);
    assert!(finished.reason.contains("disconnected"), "{}", finished.reason);
}

#[tokio::test]
async fn a_budget_comes_before_a_later_deadline() {
    let mut held = Held::new().await;
    let mut request = held.request(v1::OnDisconnect::Cancel);
    request.get_mut().call_budget = millis(300);
    let answer = soon("an answer", held.server.tools.clone().run_tool(request)).await;
    let answer = answer.expect("an answer in time").into_inner();
    let task = parked_of(&answer).task.clone().expect("a task");
    assert_eq!(task.park_reason(), v1::ParkReason::Budget);
    held.gate.open();
    let task = ended(&held.server, &task.background_id).await;
    assert_eq!(task.end_reason(), v1::EndReason::Completed, "a parked call has no caller");
}
