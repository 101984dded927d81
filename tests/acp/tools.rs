//! Callpark's tools, as agents find them.

use callpark::agent::{Agent as _, CallAnswer};
use callpark::model::{Image, SessionId};

use crate::support::{agent, config, echo, play, play_with, request, wait_until, with};

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

#[tokio::test]
async fn an_agent_that_takes_no_tools_by_http_gets_none() {
    let agent = with(config("no-http"));
    let mut asked = request(SessionId::random(), 0, "say well");
    asked.tools = echo();
    assert_eq!(play(&agent, asked).await.text, "well");
    agent.close().await;
}
