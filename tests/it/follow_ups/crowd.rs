//! Many ends in many sessions: no session waits for another.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callpark::agent::{Agent, AgentEvent, AgentRequest, AgentStream};
use callpark::model::{SessionId, StopReason, Tool, ToolResult};
use callpark::tool::{
    ArgumentError, Arguments, CallContext, CallableTool, InProcess, ToolContext, Work,
};
use futures::StreamExt as _;
use futures::stream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;
use crate::support::Additions;
use crate::support::pace::Pace;
use crate::support::proofs::proof;
use crate::support::streams::{log_of, new_session};
use crate::turns::{prompt, turn};

/// The longest that a session may have to wait for another, on an idle machine.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// An agent that always gives the same answer. A prompt may hold it until it is released, or for
/// ever.
struct Brief {
    let_go: watch::Sender<bool>,
}

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
        let (mut let_go, holds) = (self.let_go.subscribe(), request.prompt == "hold");
        let held = async move {
            if holds {
                let_go.wait_for(|let_go| *let_go).await.expect("a test");
            }
            stream::iter([
                Ok(AgentEvent::Text("noted".into())),
                Ok(AgentEvent::Finished(StopReason::EndTurn)),
            ])
        };
        stream::once(held).flatten().boxed()
    }

    async fn forget(&self, _: SessionId) {}

    async fn close(&self) {}
}

/// A tool that does nothing.
struct Nothing(Tool);

impl CallableTool for Nothing {
    fn describe(&self) -> &Tool {
        &self.0
    }

    fn prepare(&self, _: &Arguments, _: &CallContext) -> Result<Work, Vec<ArgumentError>> {
        Ok(Work::InProcess(Box::new(Done)))
    }
}

struct Done;

#[async_trait]
impl InProcess for Done {
    async fn run(self: Box<Self>, _: ToolContext) -> ToolResult {
        ToolResult::default()
    }
}

async fn serve() -> (TestServer, Arc<Brief>) {
    let agent = Arc::new(Brief { let_go: watch::channel(false).0 });
    let described =
        Tool { name: "nothing".into(), ..crate::in_process::count().describe().clone() };
    let tools: Vec<Arc<dyn CallableTool>> = vec![Arc::new(Nothing(described))];
    let more = Additions { agents: vec![agent.clone()], tools, ..Additions::default() };
    (TestServer::with_more(more, &QUICK).await, agent)
}

fn nothing(session_id: &str) -> v1::StartRequest {
    crate::support::waiting::start_of(v1::RunToolRequest {
        session_id: session_id.into(),
        tool: "nothing".into(),
        follow_up: v1::FollowUpPolicy::OnFinish.into(),
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ends_in_many_sessions_are_all_delivered_in_time() {
    let (session_count, ends) = proof((100, 100), (40, 15));
    let (server, agent) = serve().await;
    let mut sessions = Vec::new();
    let mut holding = JoinSet::new();
    for _ in 0..session_count {
        let session = new_session(&server).await;
        let (mut tools, request) = (server.tools.clone(), prompt(&session, "hold"));
        holding.spawn(async move { tools.run_turn(request).await.expect("an answer") });
        sessions.push(session);
    }
    for session in &sessions {
        let begun =
            |event: &v1::SessionEvent| matches!(event.payload, Some(Payload::TurnStarted(_)));
        Reader::open(&server, stream_of(session)).await.until_event(begun).await;
    }
    // All end while their sessions are busy, and then all wait at once.
    let starts = (0..ends).flat_map(|_| &sessions);
    let started = stream::iter(starts.map(|session| started(&server, nothing(session))));
    assert_eq!(started.buffer_unordered(32).count().await, session_count * ends);
    let pace = Pace::of(std::process::id());
    agent.let_go.send_replace(true);
    soon("the turns", holding.join_all()).await;
    let mut longest = Duration::ZERO;
    for session in &sessions {
        let events = until(&server, session, ends, State::Delivered).await;
        longest = longest.max(wait(&events));
    }
    let slowness = pace.slowness();
    println!("the longest wait was {longest:?}, on a machine slowed {slowness:.1} times");
    assert!(longest < WAIT_MAX.mul_f64(slowness), "{longest:?}, slowed {slowness:.1} times");
}

/// From the end of the turn that held a session to the first one that delivered a follow-up.
fn wait(events: &[v1::SessionEvent]) -> Duration {
    let time = |wanted: fn(&Payload) -> bool| {
        let event = events.iter().find(|event| event.payload.as_ref().is_some_and(wanted));
        let time = event.expect("an event").create_time.expect("a time");
        Duration::new(time.seconds.unsigned_abs(), time.nanos.unsigned_abs())
    };
    let idle = time(|payload| matches!(payload, Payload::SessionIdle(_)));
    time(|payload| matches!(payload, Payload::FollowUpStarted(_))).saturating_sub(idle)
}

#[tokio::test]
async fn a_session_that_hangs_holds_up_no_other() {
    let (server, _agent) = serve().await;
    let (slow, quick) = (new_session(&server).await, new_session(&server).await);
    turn(&server, prompt(&slow, "slow")).await;
    turn(&server, prompt(&quick, "hi")).await;
    started(&server, nothing(&slow)).await;
    started(&server, nothing(&quick)).await;
    until(&server, &quick, 1, State::Delivered).await;
    let events = log_of(&server, &slow).await;
    assert!(!story(&events).iter().any(|word| word.starts_with("DELIVERED")), "it hangs");
}
