//! Work that can't be begun: the call is answered, and its result says why.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use v1::State;
use v1::session_event::Payload;

use crate::support::waiting::{
    call, ended, events_of, outcome_of, parked_of, run, session, start, start_of, task,
};
use crate::support::{TestServer, bash, millis, result_of, stdout_of, v1};

/// The result of a call that could not be begun.
#[track_caller]
fn check_failed(result: &v1::ToolResult, text: &str) {
    assert!(result.is_error && result.exit.is_none(), "{result:?}");
    assert!(result.error_message.contains(text), "`{text}` in {result:?}");
    assert_eq!(result.content, []);
}

/// The same call in every way that there is: each RPC is answered, each result contains `text`.
async fn check_every_way(server: &TestServer, request: v1::RunToolRequest, text: &str) {
    check_failed(result_of(&run(server, request.clone()).await), text);
    let stream = server.tools.clone().stream_tool(request.clone()).await;
    let events = events_of(stream.expect("a stream").into_inner()).await;
    let Some(Payload::ToolCallFinished(end)) = events.last().and_then(|e| e.payload.as_ref())
    else {
        panic!("{events:?}");
    };
    let Some(v1::tool_call_finished::Outcome::Result(result)) = &end.outcome else {
        panic!("{end:?}");
    };
    check_failed(result, text);
    assert_eq!(end.state(), State::Failed);
    assert!(end.reason.contains(text), "{end:?}");
    let started = start(server, start_of(request.clone())).await.background_id;
    let at_once = v1::RunToolRequest { call_budget: millis(0), ..request };
    let parked = parked_of(&run(server, at_once).await).background_id.clone();
    for id in [started, parked] {
        let task = ended(server, &id).await;
        assert_eq!(task.state(), State::Failed);
        assert!(task.reason.contains(text), "{}", task.reason);
        check_failed(outcome_of(&task), text);
    }
}

/// Makes an executable file.
fn executable(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}

/// Tools of programs in this folder, each with its name.
fn tools(folder: &Path, names: &[&str]) -> String {
    let tool = |name: &&str| {
        format!("[[tools]]\nname = \"{name}\"\nargv = [\"{}/{name}\"]\n", folder.display())
    };
    names.iter().map(tool).collect()
}

#[tokio::test]
async fn a_program_that_cant_be_executed_is_a_failed_result_in_every_way() {
    let folder = crate::support::folder();
    let path = |name: &str| folder.path().join(name);
    executable(&path("garbage"), b"\x7fELF and nothing more");
    executable(&path("orphan"), b"#!/no/such/interpreter\n");
    fs::write(path("plain"), "#!/bin/sh\necho never\n").expect("written");
    fs::create_dir(path("folder")).expect("a folder");
    std::os::unix::fs::symlink(path("itself"), path("itself")).expect("a link");
    let names = ["missing", "garbage", "orphan", "plain", "folder", "itself"];
    let server = TestServer::with_config(&tools(folder.path(), &names), &[]).await;
    for name in names {
        let text = path(name).display().to_string();
        check_every_way(&server, call(name, json!({})), &text).await;
    }
    assert_eq!(stdout_of(result_of(&run(&server, bash("echo well")).await)), b"well\n");
}

#[tokio::test]
async fn a_program_is_looked_for_at_each_call_anew() {
    let folder = crate::support::folder();
    let path = folder.path().join("changing");
    let server = TestServer::with_config(&tools(folder.path(), &["changing"]), &[]).await;
    let changing = || run(&server, call("changing", json!({})));
    let text = path.display().to_string();
    for round in 0..2 {
        check_failed(result_of(&changing().await), &text);
        executable(&path, format!("#!/bin/sh\necho round {round}\n").as_bytes());
        let expected = format!("round {round}\n");
        assert_eq!(stdout_of(result_of(&changing().await)), expected.as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permissions");
        check_failed(result_of(&changing().await), &text);
        fs::remove_file(&path).expect("removed");
    }
}

#[tokio::test]
async fn a_sessions_folder_that_has_gone_is_a_failed_result_until_it_is_back() {
    let server = TestServer::start().await;
    let folder = server.folder().join("workshop");
    let working_directory = folder.display().to_string();
    fs::create_dir(&folder).expect("a folder");
    let wanted = v1::CreateSessionRequest {
        working_directory: working_directory.clone(),
        ..Default::default()
    };
    let session_id = session(&server, wanted).await;
    let there = || v1::RunToolRequest { session_id: session_id.clone(), ..bash("pwd; ls") };
    let before = run(&server, there()).await;
    assert!(!result_of(&before).is_error, "{before:?}");
    fs::remove_dir(&folder).expect("removed");
    check_every_way(&server, there(), &working_directory).await;
    // Something is there again, but no folder.
    fs::write(&folder, "").expect("written");
    check_every_way(&server, there(), &working_directory).await;
    fs::remove_file(&folder).expect("removed");
    fs::create_dir(&folder).expect("a folder");
    assert!(!result_of(&run(&server, there()).await).is_error);
}

#[tokio::test]
async fn a_folder_that_goes_while_its_call_waits_for_its_turn_is_a_failed_result() {
    let server = TestServer::with(&[("max-running-calls", "1")]).await;
    let folder = server.folder().join("workshop");
    fs::create_dir(&folder).expect("a folder");
    let mut gate = crate::support::waiting::Gate::new(server.folder(), "gate");
    let first = start(&server, start_of(bash(&gate.wait()))).await;
    let arguments = json!({ "command": "pwd", "cwd": folder.to_str() });
    let second = start(&server, start_of(call("bash", arguments))).await;
    assert_eq!(task(&server, &second.background_id).await.state(), State::Pending);
    fs::remove_dir(&folder).expect("removed");
    gate.open();
    assert_eq!(ended(&server, &first.background_id).await.state(), State::Succeeded);
    let second = ended(&server, &second.background_id).await;
    assert_eq!(second.state(), State::Failed);
    check_failed(outcome_of(&second), &folder.display().to_string());
}
