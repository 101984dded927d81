//! The words in which these tests are written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use callpark::agent::{
    Agent as _, AgentEvent, AgentRequest, AgentStream, CallAnswer, ModelError, OwnCall,
    OwnCallEvent, RequestedCall,
};
use callpark::internals::acp::{AcpAgent, AgentConfig, Permissions};
use callpark::internals::exec::{ExecutorOptions, Launcher, UnixExecutor};
use callpark::internals::telemetry::Metrics;
use callpark::model::{SessionId, StopReason, Tool, ToolKind, ToolResult, ToolSource, Usage};
use futures::StreamExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

/// The longest time that anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.expect("it takes too long")
}

/// Waits until something is so.
pub(crate) async fn wait_until(mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < limit, "it takes too long");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn launcher() -> Launcher {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let executor = UnixExecutor::new(ExecutorOptions {
        drain: Duration::from_millis(100),
        chunk_bytes_max: 32 * 1024,
        chunk_delay: Duration::from_millis(10),
        niceness: 0,
    });
    Launcher { executor, environment: Arc::new(environment) }
}

/// The scripted agent in one of its manners.
pub(crate) fn config(manner: &str) -> AgentConfig {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/acp/agent.py");
    AgentConfig {
        name: "script".to_owned(),
        argv: vec!["python3".to_owned(), script.display().to_string(), manner.to_owned()],
        environment: vec!["PATH".to_owned()],
        set_environment: BTreeMap::new(),
        working_directory: None,
        permissions: Permissions::Allow,
        start_timeout: Some(Duration::from_secs(30)),
        idle_timeout: None,
        max_processes: None,
    }
}

pub(crate) fn agent() -> AcpAgent {
    with(config(""))
}

pub(crate) fn with(config: AgentConfig) -> AcpAgent {
    with_bridge(config, Some(env!("CARGO_BIN_EXE_callpark").into()))
}

pub(crate) fn with_bridge(config: AgentConfig, bridge: Option<PathBuf>) -> AcpAgent {
    config.check().expect("a configuration");
    AcpAgent::new(config, launcher(), Metrics::default(), bridge)
}

pub(crate) fn request(session_id: SessionId, messages_before: u64, prompt: &str) -> AgentRequest {
    AgentRequest {
        session_id,
        system: "Be brief.".into(),
        tool_instructions: "Use the tools.".to_owned(),
        messages: Vec::new(),
        messages_before,
        messages_after: messages_before + 2,
        prompt: prompt.to_owned(),
        attachments: Vec::new(),
        tools: Arc::default(),
        working_directory: None,
        allowed_tools: Arc::default(),
    }
}

/// The tool `echo`.
pub(crate) fn echo() -> Arc<[Tool]> {
    let schema = serde_json::json!({
        "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]
    });
    let tool = Tool {
        read_only: true,
        idempotent: true,
        ..Tool::new("echo", "Says it again.", schema, ToolKind::BuiltIn, ToolSource::BuiltIn)
    };
    Arc::new([tool])
}

/// A tool of the agent's own, as it was played of.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) tool: String,
    pub(crate) description: String,
    pub(crate) arguments: String,
    pub(crate) details: Vec<String>,
    pub(crate) output: String,
    pub(crate) result: Option<ToolResult>,
}

/// The events of a turn, collected to its end.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) used: Vec<Usage>,
    pub(crate) calls: Vec<RequestedCall>,
    pub(crate) own_calls: Vec<Seen>,
    pub(crate) notices: Vec<String>,
    pub(crate) end: Option<Result<StopReason, ModelError>>,
}

impl Played {
    #[track_caller]
    pub(crate) fn error(&self) -> &ModelError {
        self.end.as_ref().expect("an end").as_ref().expect_err("an error")
    }

    #[track_caller]
    pub(crate) fn reason(&self) -> StopReason {
        let end = self.end.as_ref().expect("an end");
        *end.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }
}

pub(crate) type Answer = fn(&RequestedCall, oneshot::Sender<CallAnswer>);

/// Says of a call what it was given.
pub(crate) fn answered(call: &RequestedCall, answer: oneshot::Sender<CallAnswer>) {
    let text = format!("{} got {}", call.tool, call.arguments);
    answer.send(CallAnswer { text, images: Vec::new(), failed: false }).expect("a waiting agent");
}

/// Plays a turn to its end.
pub(crate) async fn play(agent: &AcpAgent, request: AgentRequest) -> Played {
    play_with(agent, request, answered).await
}

pub(crate) async fn play_with(agent: &AcpAgent, request: AgentRequest, answer: Answer) -> Played {
    soon(to_the_end(agent.turn(request), answer)).await
}

async fn to_the_end(mut stream: AgentStream, answer: Answer) -> Played {
    let mut played = Played::default();
    let (seeing, mut seen) = (TaskTracker::new(), Vec::new());
    while let Some(event) = stream.next().await {
        assert!(played.end.is_none(), "{event:?} after the end");
        match event {
            Ok(AgentEvent::Text(text)) => played.text.push_str(&text),
            Ok(AgentEvent::Reasoning(text)) => played.reasoning.push_str(&text),
            Ok(AgentEvent::Used(usage)) => played.used.push(usage),
            Ok(AgentEvent::Call(call, sender)) => {
                answer(&call, sender);
                played.calls.push(call);
            }
            Ok(AgentEvent::Notice(notice)) => played.notices.push(notice),
            Ok(AgentEvent::OwnCall(call)) => seen.push(seeing.spawn(see(call))),
            Ok(AgentEvent::Finished(reason)) => played.end = Some(Ok(reason)),
            Err(error) => played.end = Some(Err(error)),
        }
    }
    drop(stream);
    for call in seen {
        played.own_calls.push(call.await.expect("seen"));
    }
    played
}

async fn see(mut call: OwnCall) -> Seen {
    let (mut details, mut output, mut result) = (Vec::new(), Vec::new(), None);
    while let Some(event) = call.events.recv().await {
        match event {
            OwnCallEvent::Details(more) => details.push(more),
            OwnCallEvent::Output(more) => output.extend_from_slice(&more),
            OwnCallEvent::Ended(ended) => result = Some(*ended),
        }
    }
    Seen {
        tool: call.tool,
        description: call.description,
        arguments: serde_json::Value::Object(call.arguments).to_string(),
        details,
        output: String::from_utf8(output).expect("text"),
        result,
    }
}

/// Polls a turn until it has said this much, and gives back the rest of it.
pub(crate) async fn until_said(mut stream: AgentStream, words: &str) -> AgentStream {
    let mut said = String::new();
    while !said.contains(words) {
        match soon(stream.next()).await {
            Some(Ok(AgentEvent::Text(text))) => said.push_str(&text),
            other => panic!("{other:?} before `{words}`"),
        }
    }
    stream
}

/// Waits until an agent that works here sends nothing more for a while; how much it has sent.
pub(crate) async fn until_still(folder: &Path) -> usize {
    let sent = || {
        let file = std::fs::read_to_string(folder.join("sent"));
        file.ok().and_then(|count| count.parse::<usize>().ok()).unwrap_or_default()
    };
    let (mut before, mut still) = (0, 0);
    soon(async {
        while still < 50 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = sent();
            still = if now == before && now > 0 { still + 1 } else { 0 };
            before = now;
        }
    })
    .await;
    before
}

/// Returns whether a process exists and is not a zombie.
pub(crate) fn is_there(pid: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.contains(") Z "),
        Err(_) => false,
    }
}
