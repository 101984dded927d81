//! The real Copilot CLI, against an endpoint that plays its model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::IntoResponse;
use callpark::agent::Agent as _;
use callpark::model::{SessionId, StopReason};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{config, echo, play, request, soon, with};

/// Where its program is: by the variable `CALLPARK_COPILOT`, or on the path.
fn program() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("CALLPARK_COPILOT") {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("copilot")).find(|file| file.is_file())
}

/// What the model was asked, oldest first.
type Asked = Arc<Mutex<Vec<Value>>>;

/// A model that calls `bash`, then callpark's tool, then says that it is done.
async fn complete(State(asked): State<Asked>, body: String) -> impl IntoResponse {
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let count = {
        let mut asked = asked.lock().unwrap();
        asked.push(body);
        asked.len()
    };
    let call = |name: &str, arguments: Value| {
        let function = json!({"name": name, "arguments": arguments.to_string()});
        let call = json!({
            "index": 0, "id": format!("call_{count}"), "type": "function", "function": function
        });
        (json!({"role": "assistant", "tool_calls": [call]}), "tool_calls")
    };
    let (delta, finish) = match count {
        1 => {
            call("bash", json!({"command": "echo one; sleep 1; echo two", "description": "count"}))
        }
        2 => call("callpark-echo", json!({"text": "hello"})),
        _ => (json!({"role": "assistant", "content": "all done"}), "stop"),
    };
    let chunk = |choices: Value| {
        json!({
            "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "any",
            "choices": choices,
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        })
    };
    let said = chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]));
    let end = chunk(json!([{"index": 0, "delta": {}, "finish_reason": finish}]));
    let text = format!("data: {said}\n\ndata: {end}\n\ndata: [DONE]\n\n");
    ([("content-type", "text/event-stream")], text)
}

/// The endpoint's port. It ends with the token.
async fn endpoint(asked: Asked, tasks: &TaskTracker, stop: CancellationToken) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = axum::Router::new().fallback(complete).with_state(asked);
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    tasks.spawn(async move { serving.await.unwrap() });
    port
}

fn copilot(program: &Path, home: &Path, port: u16) -> callpark::acp::AgentConfig {
    let mut config = config("");
    config.name = "copilot".to_owned();
    config.argv = vec![program.display().to_string(), "--acp".to_owned()];
    config.set_environment = [
        ("HOME", home.display().to_string()),
        ("COPILOT_OFFLINE", "true".to_owned()),
        ("COPILOT_AUTO_UPDATE", "false".to_owned()),
        ("COPILOT_PROVIDER_BASE_URL", format!("http://127.0.0.1:{port}/v1")),
        ("COPILOT_MODEL", "any".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    config
}

#[tokio::test]
async fn the_copilot_cli_uses_its_own_tools_and_callparks() {
    let Some(program) = program() else {
        eprintln!("left out: no `copilot` on the path, and no CALLPARK_COPILOT");
        return;
    };
    let (asked, stop) = (Asked::default(), CancellationToken::new());
    let tasks = TaskTracker::new();
    let port = endpoint(asked.clone(), &tasks, stop.clone()).await;
    let home = tempfile::tempdir().unwrap();
    let agent = with(copilot(&program, home.path(), port));
    let mut request = request(SessionId::random(), 0, "go");
    request.tools = echo();
    request.working_directory = Some(home.path().to_owned());
    let told = play(&agent, request.clone()).await;
    assert_eq!(told.reason(), StopReason::EndTurn, "{told:?}");
    assert!(told.text.contains("all done"), "{told:?}");
    let [bash] = &told.own_calls[..] else { panic!("{told:?}") };
    assert_eq!(bash.tool, "copilot__execute");
    assert!(bash.output.starts_with("one\ntwo\n"), "{bash:?}");
    assert!(!bash.result.as_ref().unwrap().is_error);
    let [call] = &told.calls[..] else { panic!("{told:?}") };
    assert_eq!((call.tool.as_str(), call.arguments.as_str()), ("echo", r#"{"text":"hello"}"#));
    let last = asked.lock().unwrap()[2]["messages"].to_string();
    assert!(last.contains("echo got"), "the model sees what callpark's tool gave: {last}");
    assert_eq!((told.used[0].input_tokens, told.used[0].output_tokens), (300, 30));
    // The next turn goes on with the same conversation.
    (request.prompt, request.messages_before) = ("go on".to_owned(), 2);
    let told = play(&agent, request).await;
    assert_eq!(told.used[0].input_tokens, 100, "{told:?}");
    let messages = asked.lock().unwrap()[3]["messages"].to_string();
    assert!(messages.contains("all done") && messages.matches("Be brief.").count() == 1);
    agent.close().await;
    stop.cancel();
    tasks.close();
    soon(tasks.wait()).await;
}
