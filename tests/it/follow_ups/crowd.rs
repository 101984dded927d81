//! Many ends in many sessions: nobody waits for anybody.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callpark::agent::{Agent, AgentEvent, AgentRequest, AgentStream};
use callpark::app::Additions;
use callpark::model::{SessionId, StopReason};
use futures::StreamExt as _;
use futures::stream;

use super::*;
use crate::support::streams::{log_of, new_session};
use crate::turns::{prompt, turn};

const SESSIONS: usize = 100;
const ENDS: usize = 100;
/// The longest that a session may have to wait for another.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// An agent that says the same whatever it hears, but hangs in a session whose prompt says so.
struct Brief;

#[async_trait]
impl Agent for Brief {
    fn name(&self) -> &str {
        "brief"
    }

    fn turn(&self, request: AgentRequest) -> AgentStream {
        let is_slow =
            request.messages.iter().any(|message| format!("{message:?}").contains("slow"));
        if is_slow {
            return stream::pending().boxed();
        }
        let told = [AgentEvent::Text("heard".into()), AgentEvent::Finished(StopReason::EndTurn)];
        stream::iter(told.map(Ok)).boxed()
    }

    async fn forget(&self, _: SessionId) {}

    async fn close(&self) {}
}

async fn serve() -> TestServer {
    let more = Additions { agents: vec![Arc::new(Brief)], tools: vec![crate::in_process::count()] };
    TestServer::with_more(more, &QUICK).await
}

fn counted(session_id: &str) -> v1::StartRequest {
    let call = v1::ToolCall {
        tool: "count".into(),
        follow_up: v1::FollowUpPolicy::OnFinish.into(),
        ..Default::default()
    };
    v1::StartRequest {
        session_id: session_id.into(),
        work: Some(v1::start_request::Work::ToolCall(call)),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_ends_in_a_hundred_sessions_are_all_told_of_in_time() {
    let server = serve().await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let session = new_session(&server).await;
        turn(&server, prompt(&session, "hi")).await;
        sessions.push(session);
    }
    // Session by session, so that those that come first are told of while the others end.
    let starts = (0..ENDS).flat_map(|_| &sessions);
    let started = stream::iter(starts.map(|session| started(&server, counted(session))));
    let count = started.buffer_unordered(32).count().await;
    assert_eq!(count, SESSIONS * ENDS);
    let mut longest = Duration::ZERO;
    for session in &sessions {
        let events = until(&server, session, ENDS, State::Delivered).await;
        longest = longest.max(longest_wait(&events));
    }
    println!("the longest wait was {longest:?}");
    assert!(longest < WAIT_MAX, "{longest:?}");
}

/// From the end of a task to the turn that told of it.
fn longest_wait(events: &[v1::SessionEvent]) -> Duration {
    let mut scheduled = std::collections::HashMap::new();
    let mut longest = Duration::ZERO;
    let time = |event: &v1::SessionEvent| {
        let time = event.create_time.expect("a time");
        Duration::new(time.seconds.unsigned_abs(), time.nanos.unsigned_abs())
    };
    for event in events {
        match &event.payload {
            Some(Payload::FollowUpScheduled(one)) => {
                scheduled.insert(&one.follow_up_id, time(event));
            }
            Some(Payload::FollowUpStarted(one)) => {
                if let Some(end) = scheduled.remove(&one.follow_up_id) {
                    longest = longest.max(time(event).saturating_sub(end));
                }
            }
            _ => {}
        }
    }
    assert!(scheduled.is_empty(), "{scheduled:?}");
    longest
}

#[tokio::test]
async fn a_session_that_hangs_holds_up_no_other() {
    let server = serve().await;
    let (slow, quick) = (new_session(&server).await, new_session(&server).await);
    turn(&server, prompt(&slow, "slow")).await;
    turn(&server, prompt(&quick, "hi")).await;
    started(&server, counted(&slow)).await;
    started(&server, counted(&quick)).await;
    until(&server, &quick, 1, State::Delivered).await;
    let events = log_of(&server, &slow).await;
    assert!(!story(&events).iter().any(|word| word.starts_with("DELIVERED")), "it hangs");
}
