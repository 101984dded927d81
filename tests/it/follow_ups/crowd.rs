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
use crate::support::proofs::{is_proof, proof};
use crate::support::streams::{log_of, new_session};
use crate::turns::{prompt, turn};

/// The number of turns that another session may begin while a session waits for its own: one that was due
/// before, and one more where this session became due between the two.
const TURNS_BEFORE_MAX: usize = 2;

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
async fn many_ends_in_many_sessions_are_delivered_to_each_session_in_turn() {
    // As a proof, more sessions than are served at once, and more ends than one turn delivers, three times
    // over.
    let (session_count, ends) = proof((80, 97), (40, 15));
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
    agent.let_go.send_replace(true);
    soon("the turns", holding.join_all()).await;
    let mut deliveries = Vec::new();
    for session in &sessions {
        let events = until(&server, session, ends, State::Delivered).await;
        deliveries.push(Deliveries::of(&events));
    }
    let turns = deliveries.iter().map(|session| session.begins.len()).min();
    let is_telling = turns > Some(TURNS_BEFORE_MAX + 1);
    assert!(is_telling || !is_proof(), "{turns:?} turns in each session show nothing");
    let most = |waiting: &Deliveries| deliveries.iter().map(|other| waiting.turns_of(other)).max();
    let most = deliveries.iter().filter_map(most).max().expect("a session");
    assert!(most <= TURNS_BEFORE_MAX, "{most} turns of one session before the first of another");
}

/// The times at which a session was idle and its turns with follow-ups began.
struct Deliveries {
    idle: Duration,
    begins: Vec<Duration>,
}

impl Deliveries {
    fn of(events: &[v1::SessionEvent]) -> Self {
        let times = |wanted: fn(&Payload) -> bool| {
            let wanted =
                move |event: &&v1::SessionEvent| event.payload.as_ref().is_some_and(wanted);
            events.iter().filter(wanted).map(time_of).collect::<Vec<_>>()
        };
        // The turn that held the session is the first of all.
        let turns = times(|payload| matches!(payload, Payload::TurnStarted(_)));
        let idle = times(|payload| matches!(payload, Payload::SessionIdle(_)));
        Self { idle: idle[0], begins: turns[1..].to_vec() }
    }

    /// Returns the number of turns that another session began while this one waited for its first.
    fn turns_of(&self, other: &Self) -> usize {
        let wait = self.idle..self.begins[0];
        other.begins.iter().filter(|begin| wait.contains(*begin)).count()
    }
}

fn time_of(event: &v1::SessionEvent) -> Duration {
    let time = event.create_time.expect("a time");
    Duration::new(time.seconds.unsigned_abs(), time.nanos.unsigned_abs())
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
