//! Follow-ups: notices to an agent about tasks that have ended.

use std::cell::Cell;

use callpark_proto::google::rpc::Status as Failure;
use callpark_proto::v1::session_event::Payload;
use tonic::Status;

use crate::support::streams::{Reader, start_of, started, stream_of};
use crate::support::{TestServer, millis, soon, v1};
use v1::FollowUpState as State;

mod consumer;
mod crash;
mod crowd;
mod leases;
mod leases_faults;
mod turns;
mod turns_faults;

/// Pauses between attempts are short here.
const QUICK: [(&str, &str); 2] = [("follow-up-delay", "2ms"), ("model-retry-delay", "2ms")];

/// A bash command in the background whose end always has a follow-up.
fn follow(session_id: &str, command: &str) -> v1::StartRequest {
    with_policy(session_id, command, v1::FollowUpPolicy::OnFinish)
}

fn with_policy(session_id: &str, command: &str, policy: v1::FollowUpPolicy) -> v1::StartRequest {
    let mut request = start_of(session_id, command);
    if let Some(v1::start_request::Work::ToolCall(call)) = &mut request.work {
        call.follow_up = policy.into();
    }
    request
}

/// The background id of such a task.
async fn followed(server: &TestServer, session_id: &str, command: &str) -> String {
    started(server, follow(session_id, command)).await.background_id
}

/// The follow-up of a task.
fn follow_up_of(background_id: &str) -> String {
    background_id.replace("bg-", "fu-")
}

/// All follow-ups of a session, newest first.
async fn list(server: &TestServer, session_id: &str) -> Vec<v1::FollowUp> {
    let request = v1::ListFollowUpsRequest { session_id: session_id.into(), ..Default::default() };
    let answer = soon("a list", server.tasks.clone().list_follow_ups(request)).await;
    answer.expect("an answer").into_inner().follow_ups
}

/// A request for one follow-up of a session, which waits for it.
fn lease_of(session_id: &str) -> v1::LeaseFollowUpsRequest {
    v1::LeaseFollowUpsRequest {
        session_id: session_id.into(),
        wait: millis(20_000),
        ..Default::default()
    }
}

/// Leases follow-ups, and returns the answer.
async fn lease(server: &TestServer, request: v1::LeaseFollowUpsRequest) -> Vec<v1::LeasedFollowUp> {
    let answer = soon("a lease", server.tasks.clone().lease_follow_ups(request)).await;
    answer.expect("an answer").into_inner().follow_ups
}

/// The one follow-up that a session has, leased.
async fn leased(server: &TestServer, session_id: &str) -> v1::LeasedFollowUp {
    let mut leases = lease(server, lease_of(session_id)).await;
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

fn record(lease: &v1::LeasedFollowUp) -> &v1::FollowUp {
    lease.follow_up.as_ref().expect("a follow-up")
}

/// Says how the delivery went: well, or with this code.
async fn acknowledge(
    server: &TestServer,
    lease: &v1::LeasedFollowUp,
    code: Option<i32>,
) -> Result<v1::AcknowledgeFollowUpResponse, Status> {
    let failure = |code| Failure { code, message: "no luck".into(), details: Vec::new() };
    let request = v1::AcknowledgeFollowUpRequest {
        follow_up_id: record(lease).follow_up_id.clone(),
        lease_token: lease.lease_token.clone(),
        error: code.map(failure),
        ..Default::default()
    };
    let answer = soon("an answer", server.tasks.clone().acknowledge_follow_up(request)).await;
    answer.map(tonic::Response::into_inner)
}

/// Returns the follow-up events of a log as short lines: the task's digits, and the new state.
fn story(events: &[v1::SessionEvent]) -> Vec<String> {
    let lines = events.iter().filter_map(|event| match event.payload.as_ref()? {
        Payload::FollowUpScheduled(scheduled) => {
            assert_eq!(scheduled.background_id, event.call_id.replace("call-", "bg-"));
            Some("scheduled".to_owned())
        }
        Payload::FollowUpStarted(started) => Some(format!("started {}", started.delivery_attempt)),
        Payload::FollowUpFinished(finished) => {
            let state = finished.state().as_str_name().trim_start_matches("FOLLOW_UP_STATE_");
            Some(format!("{state} {}", finished.delivery_attempt))
        }
        _ => None,
    });
    lines.collect()
}

/// All events of a session up to the one with which so many of its follow-ups have come to this state.
async fn until(
    server: &TestServer,
    session_id: &str,
    count: usize,
    state: State,
) -> Vec<v1::SessionEvent> {
    let left = Cell::new(count);
    let is_last = |event: &v1::SessionEvent| {
        if let Some(Payload::FollowUpFinished(finished)) = &event.payload
            && finished.state() == state
        {
            left.set(left.get().saturating_sub(1));
        }
        left.get() == 0
    };
    let mut reader = Reader::open(server, stream_of(session_id)).await;
    // Heartbeats go on for ever.
    soon("the last follow-up", reader.until_event(is_last)).await
}
