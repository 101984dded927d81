//! Callpark's tools, as agents find them.

use callpark::agent::{Agent as _, AgentRequest, CallAnswer};
use callpark::internals::acp::AcpAgent;
use callpark::internals::telemetry::Metrics;
use callpark::model::{Image, SessionId};

use crate::support::{
    agent, config, echo, launcher, play, play_with, request, wait_until, with, with_bridge,
};

#[tokio::test]
async fn an_agent_finds_and_calls_tools_of_callparks() {
    let agent = agent();
    let session = SessionId::random();
    let mut asked = request(session, 0, "tools");
    asked.tools = echo();
    let played = play(&agent, asked.clone()).await;
    for words in ["\"echo\"", "Says it again.", "\"required\""] {
        assert!(played.text.contains(words), "{}", played.text);
    }
    (asked.messages_before, asked.messages_after) = (2, 4);
    asked.prompt = "echo hello".to_owned();
    let played = play(&agent, asked.clone()).await;
    let [call] = &played.calls[..] else { panic!("{played:?}") };
    assert_eq!((call.tool.as_str(), call.arguments.as_str()), ("echo", r#"{"text":"hello"}"#));
    assert!(played.text.contains("echo got"), "{}", played.text);
    assert!(played.text.contains(r#""isError": false"#), "{}", played.text);
    agent.close().await;
}

#[tokio::test]
async fn a_call_that_failed_or_was_never_answered_is_an_error_for_the_agent() {
    let agent = agent();
    let session = SessionId::random();
    let mut asked = request(session, 0, "echo hello");
    asked.tools = echo();
    let played = play_with(&agent, asked.clone(), |_, answer| {
        let _sent = answer.send(failure("it broke"));
    });
    let played = played.await;
    assert!(played.text.contains("it broke"), "{}", played.text);
    assert!(played.text.contains(r#""isError": true"#), "{}", played.text);
    (asked.messages_before, asked.messages_after) = (2, 4);
    let played = play_with(&agent, asked, |_, answer| drop(answer)).await;
    assert!(played.text.contains("before the call was answered"), "{}", played.text);
    assert!(played.text.contains(r#""isError": true"#), "{}", played.text);
    agent.close().await;
}

fn failure(text: &str) -> CallAnswer {
    CallAnswer { text: text.to_owned(), images: Vec::new(), failed: true }
}

#[tokio::test]
async fn an_agent_gets_images_beside_the_text() {
    let agent = agent();
    let mut asked = request(SessionId::random(), 0, "echo hello");
    asked.tools = echo();
    let played = play_with(&agent, asked, |_, answer| {
        let picture =
            Image { media_type: "image/png".to_owned(), data: b"\x01\x02\x03"[..].into() };
        let text = "[3 bytes of image/png]".to_owned();
        let _sent = answer.send(CallAnswer { text, images: vec![picture], failed: false });
    });
    let played: serde_json::Value = serde_json::from_str(&played.await.text).expect("JSON");
    let expected = serde_json::json!([
        { "type": "text", "text": "[3 bytes of image/png]" },
        { "type": "image", "data": "AQID", "mimeType": "image/png" },
    ]);
    assert_eq!(played["result"]["content"], expected);
    agent.close().await;
}

#[tokio::test]
async fn a_request_without_an_agents_token_is_refused() {
    let agent = agent();
    let mut asked = request(SessionId::random(), 0, "intrude");
    asked.tools = echo();
    assert_eq!(play(&agent, asked).await.text, r#"{"status": 401}"#);
    agent.close().await;
}

#[tokio::test]
async fn silent_connections_keep_no_agent_from_its_tools() {
    for (manner, service) in [("", "agents"), ("no-http", "bridges")] {
        let metrics = Metrics::default();
        let bridge = Some(env!("CARGO_BIN_EXE_callpark").into());
        let agent = AcpAgent::new(config(manner), launcher(), metrics.clone(), bridge);
        let session = SessionId::random();
        // The first connection for bridges says where they are.
        play(&agent, with_tools(session, 0, "tools")).await.reason();
        assert_eq!(play(&agent, with_tools(session, 2, "crowd 300")).await.text, "crowded");
        let played = play(&agent, with_tools(session, 4, "echo hello")).await;
        assert!(played.text.contains("echo got"), "{}", played.text);
        let page = metrics.render();
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.trim().parse::<usize>().ok());
            value.unwrap_or_else(|| panic!("no {name}: {page}"))
        };
        let open = value(&format!("callpark_http_connections_open{{service=\"{service}\"}}"));
        assert!(open <= 68, "{open} connections are open");
        let displaced = format!("{{service=\"{service}\",reason=\"displaced\"}}");
        let displaced = value(&format!("callpark_http_connections_refused_total{displaced}"));
        assert!(displaced >= 236, "{displaced} were closed");
        agent.close().await;
    }
}

#[tokio::test]
async fn a_call_outside_of_a_turn_is_refused() {
    let agent = agent();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer");
    let mut asked = request(SessionId::random(), 0, &format!("later {}", file.display()));
    asked.tools = echo();
    play(&agent, asked).await.reason();
    wait_until(|| file.exists()).await;
    let answer = std::fs::read_to_string(&file).unwrap();
    assert!(answer.contains("no turn of this session is running"), "{answer}");
    agent.close().await;
}

#[tokio::test]
async fn a_call_of_callparks_tool_is_no_call_of_the_agents_own() {
    let agent = agent();
    let mut asked = request(SessionId::random(), 0, "ours");
    asked.tools = echo();
    let played = play(&agent, asked.clone()).await;
    assert!(played.own_calls.is_empty(), "{played:?}");
    // Without such a tool it is one of the agent's own.
    (asked.messages_before, asked.messages_after) = (2, 4);
    asked.tools = Default::default();
    assert_eq!(play(&agent, asked).await.own_calls.len(), 1);
    agent.close().await;
}

/// The turn after so many messages, with callpark's tools.
fn with_tools(session: SessionId, messages_before: u64, prompt: &str) -> AgentRequest {
    AgentRequest { tools: echo(), ..request(session, messages_before, prompt) }
}

#[tokio::test]
async fn an_agent_that_takes_no_tools_by_http_gets_them_through_the_bridge() {
    let agent = with(config("no-http"));
    let session = SessionId::random();
    let played = play(&agent, with_tools(session, 0, "tools")).await;
    for words in ["\"echo\"", "Says it again.", "\"required\""] {
        assert!(played.text.contains(words), "{}", played.text);
    }
    let played = play(&agent, with_tools(session, 2, "echo hello")).await;
    let [call] = &played.calls[..] else { panic!("{played:?}") };
    assert_eq!((call.tool.as_str(), call.arguments.as_str()), ("echo", r#"{"text":"hello"}"#));
    assert!(played.text.contains("echo got"), "{}", played.text);
    let played = play(&agent, with_tools(session, 4, "intrude")).await;
    assert_eq!(played.text, r#"{"closed": true}"#, "a guessed token");
    agent.close().await;
}

#[tokio::test]
async fn an_agent_that_cannot_have_tools_gets_none() {
    let agent = with_bridge(config("no-http"), None);
    let played = play(&agent, with_tools(SessionId::random(), 0, "prompt")).await;
    assert_eq!(played.text, r#"["Be brief.", "prompt"]"#);
    agent.close().await;
}

#[tokio::test]
async fn an_agent_has_the_instructions_for_tools_once_it_has_asked_for_them() {
    let agent = agent();
    let session = SessionId::random();
    let played = play(&agent, with_tools(session, 0, "prompt")).await;
    assert_eq!(played.text, r#"["Be brief.", "prompt"]"#);
    let [notice] = &played.notices[..] else { panic!("{played:?}") };
    assert!(notice.contains("`script` has not asked for callpark's tools"), "{notice}");
    let played = play(&agent, with_tools(session, 2, "say x")).await;
    assert_eq!(played.notices, [""; 0], "reported once");
    play(&agent, with_tools(session, 4, "tools")).await;
    let played = play(&agent, with_tools(session, 6, "prompt")).await;
    assert_eq!(played.text, r#"["Use the tools.", "prompt"]"#);
    let played = play(&agent, with_tools(session, 8, "prompt")).await;
    assert_eq!(played.text, r#"["prompt"]"#);
    agent.close().await;
}

#[tokio::test]
async fn an_agent_that_asks_for_the_tools_at_once_has_the_instructions_at_once() {
    let agent = with(config("eager"));
    let played = play(&agent, with_tools(SessionId::random(), 0, "prompt")).await;
    assert_eq!(played.text, r#"["Be brief.", "Use the tools.", "prompt"]"#);
    assert_eq!(played.notices, [""; 0]);
    agent.close().await;
}
