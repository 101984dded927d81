//! Turns of the real Copilot CLI, over the Agent Client Protocol, with a model endpoint of ours.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::sync::OnceCell;

use super::*;
use crate::support::npm;
use crate::support::streams::{created, log_of, session_now, task_now};

/// Returns the path of the program.
async fn program() -> &'static Path {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    let install =
        || async { npm::install("tests/it/turns/copilot").await.join("node_modules/.bin/copilot") };
    PROGRAM.get_or_init(install).await
}

/// A server whose only agent it is, with a home of its own.
async fn serve_copilot(endpoint: &Endpoint, home: &Path, more: &str) -> TestServer {
    let toml = format!(
        "[[agents]]\nname = 'copilot'\nargv = ['{}', '--acp']\nenvironment = ['PATH']\n{more}\n\
         [agents.set_environment]\nHOME = '{}'\nCOPILOT_OFFLINE = 'true'\n\
         COPILOT_AUTO_UPDATE = 'false'\nCOPILOT_PROVIDER_BASE_URL = '{}'\nCOPILOT_MODEL = 'any'\n",
        program().await.display(),
        home.display(),
        endpoint.url,
    );
    TestServer::with_config(&toml, &[("call-budget", "1s")]).await
}

async fn session_in(server: &TestServer, folder: &Path) -> String {
    let request = v1::CreateSessionRequest {
        working_directory: folder.display().to_string(),
        ..Default::default()
    };
    created(server, request).await.session_id
}

/// Returns the last tool result in this request.
fn last_tool_result(endpoint: &Endpoint, request: usize) -> String {
    let messages = endpoint.messages(request);
    let text = messages.last().expect("a message")["content"].clone();
    text.as_str().map_or_else(|| text.to_string(), str::to_owned)
}

#[tokio::test]
async fn the_real_copilot_runs_a_command_of_its_own_and_parks_one_of_ours() {
    let folder = crate::support::folder();
    let script = "for i in 1 2 3; do echo line $i; sleep 0.2; done; echo mine > made";
    let own = json!({ "command": script, "description": "count" });
    let slow =
        json!({ "command": "echo begun; while [ ! -e go ]; do sleep 0.1; done; echo ready" });
    let endpoint = Endpoint::for_others(vec![
        calls(&[("1", "bash", own)]),
        calls(&[("2", "callpark-bash", slow)]),
    ])
    .await;
    let server = serve_copilot(&endpoint, folder.path(), "").await;
    let session = session_in(&server, folder.path()).await;
    let playing = turn(&server, prompt(&session, "count, then wait"));
    let answering = async {
        // The command of its own has run, and ours is parked.
        endpoint.asked(3).await;
        let result = last_tool_result(&endpoint, 2);
        let id = result.split("bg-").nth(1).unwrap_or_else(|| panic!("no id in {result}"));
        let id = format!("bg-{}", &id[..32]);
        let waits = json!({ "background_id": id, "wait_seconds": 30 });
        std::fs::write(folder.path().join("go"), "").expect("written");
        endpoint.then(calls(&[("3", "callpark-check_background_task", waits)]));
        endpoint.asked(4).await;
        assert!(
            last_tool_result(&endpoint, 3).contains("begun\\nready")
                || last_tool_result(&endpoint, 3).contains("begun\nready")
        );
        endpoint.then(says("all is done"));
        id
    };
    let (answer, id) = tokio::join!(playing, answering);
    assert_eq!((answer.final_text.as_str(), &answer.error), ("all is done", &None));
    assert_eq!(answer.stop_reason(), v1::StopReason::EndTurn);
    let made = std::fs::read_to_string(folder.path().join("made")).expect("a file");
    assert_eq!(made, "mine\n");
    assert_eq!(task_now(&server, &id).await.state(), v1::State::Succeeded);

    let events = short(&log_of(&server, &session).await);
    assert!(events.contains(&"call copilot__execute".to_owned()), "{events:?}");
    // Each line once, though every update repeats those before it.
    let shown = events.iter().filter(|event| event.contains("line 2")).count();
    assert_eq!(shown, 1, "{events:?}");
    assert_eq!(events.iter().filter(|event| *event == "call bash").count(), 1, "{events:?}");
    assert!(!events.iter().any(|event| event == "call copilot__other"), "{events:?}");
    let usage = session_now(&server, &session).await.usage.expect("usage");
    assert_eq!((usage.input_tokens, usage.output_tokens), (400, 40));

    // The same process goes on, and knows the conversation.
    endpoint.then(says("I am still here"));
    assert_eq!(turn(&server, prompt(&session, "well?")).await.final_text, "I am still here");
    let conversation = json!(endpoint.messages(4)).to_string();
    assert!(conversation.contains("line 1") && !conversation.contains("[user]"), "{conversation}");
    crate::history::check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn a_command_that_the_session_does_not_allow_is_refused_to_the_real_copilot() {
    let folder = crate::support::folder();
    let own = json!({ "command": "touch made", "description": "make" });
    let endpoint = Endpoint::for_others(vec![calls(&[("1", "bash", own)])]).await;
    let server = serve_copilot(&endpoint, folder.path(), "permissions = 'reject'").await;
    let session = session_in(&server, folder.path()).await;
    // It takes the refusal of one command for the end of its turn.
    let answer = turn(&server, prompt(&session, "go")).await;
    assert_eq!((answer.stop_reason(), &answer.error), (v1::StopReason::EndTurn, &None));
    assert_eq!(endpoint.requests().len(), 1);
    assert!(!folder.path().join("made").exists());
    let events = short(&log_of(&server, &session).await);
    assert!(events.contains(&"ended STATE_FAILED".to_owned()), "{events:?}");
}
