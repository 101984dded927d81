//! Tools of the configuration, and which of them may be used.

use callpark_proto::v1::session_event::Payload;
use serde_json::json;
use tonic::Code;

use crate::support::waiting::{
    Gate, call, ended, lines_of, log_of, outcome_of, park, refusal, run, session, span_of, task,
    text_of, variable,
};
use crate::support::{TestServer, bash, check_reason, millis, result_of, soon, stdout_of, v1};

const ECHO: &str = r#"
[[tools]]
name = "echo"
description = "Shows its arguments."
argv = ["python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", "{text}", "n={count}", "{items...}"]
environment = ["PATH"]
read_only = true
idempotent = true
call_budget = "90s"
execution_timeout = "2m"
[tools.input_schema]
type = "object"
required = ["text"]
additionalProperties = false
[tools.input_schema.properties]
text = { type = "string" }
count = { type = "integer", minimum = 1 }
items = { type = "array", items = { type = "string" } }
"#;

#[tokio::test]
async fn an_argument_of_a_template_stays_one_argument() {
    let server = TestServer::with_config(ECHO, &[]).await;
    let canary = server.folder().join("canary");
    let nasty = format!("; rm -rf x  && touch {0} $(touch {0}) `id` '\"\n*", canary.display());
    let arguments = json!({ "text": nasty, "count": 3, "items": ["a b", "", "--c", nasty] });
    let answer = run(&server, call("echo", arguments)).await;
    let shown: serde_json::Value =
        serde_json::from_slice(&stdout_of(result_of(&answer))).expect("JSON");
    assert_eq!(shown, json!([nasty, "n=3", "a b", "", "--c", nasty]));
    assert!(!canary.exists());
    // What is not given is left out.
    let answer = run(&server, call("echo", json!({ "text": "" }))).await;
    assert_eq!(stdout_of(result_of(&answer)), b"[\"\"]\n");
    let status = refusal(&server, call("echo", json!({ "text": "x", "count": 0.5 }))).await;
    check_reason(&status, Code::InvalidArgument, "ARGUMENTS_INVALID");
}

const BROKEN: &str = r#"
[[tools]]
name = "missing"
argv = ["/no/such/program"]
[[tools]]
name = "nowhere"
argv = ["surely-not-on-the-path"]
environment = ["PATH"]
[[tools]]
name = "plain_file"
argv = ["/etc/passwd"]
[[tools]]
name = "homeless"
argv = ["/bin/true"]
working_directory = "/no/such/folder"
"#;

#[tokio::test]
async fn a_program_or_folder_that_is_missing_is_a_failed_result() {
    let server = TestServer::with_config(BROKEN, &[]).await;
    let tools = [
        ("missing", "/no/such/program"),
        ("nowhere", "surely-not-on-the-path"),
        ("plain_file", "/etc/passwd"),
        ("homeless", "/no/such/folder"),
    ];
    for (tool, text) in tools {
        let answer = run(&server, call(tool, json!({}))).await;
        let result = result_of(&answer);
        assert!(result.is_error && result.exit.is_none(), "{result:?}");
        assert!(result.error_message.contains(text), "{}", result.error_message);
        let id = park(&server, call(tool, json!({}))).await;
        let task = ended(&server, &id).await;
        assert_eq!(task.state(), v1::State::Failed);
        assert!(task.reason.contains(text), "{}", task.reason);
        assert!(outcome_of(&task).error_message.contains(text));
    }
}

const SURROUNDINGS: &str = r#"
[[tools]]
name = "look"
argv = ["/bin/bash", "-c", "pwd; cat /proc/$$/environ | tr '\\0' '\\n' | sort; cat"]
environment = ["HOME"]
set_environment = { COLOUR = "blue; red" }
working_directory = "/tmp"
stdin = "you said {what}"
[tools.input_schema]
type = "object"
properties = { what = { type = "string" } }
"#;

#[tokio::test]
async fn a_tool_runs_in_the_folder_and_environment_of_its_configuration() {
    let server = TestServer::with_config(SURROUNDINGS, &[]).await;
    let answer = run(&server, call("look", json!({ "what": "héllo" }))).await;
    let home = variable("HOME").expect("a home");
    let expected = format!(
        "/tmp\nCALLPARK_CALL_ID={}\nCALLPARK_SERVER_PROCESS={}\nCOLOUR=blue; red\n\
         HOME={home}\nPYTHONUNBUFFERED=1\nyou said héllo",
        answer.call_id,
        super::server_process()
    );
    assert_eq!(String::from_utf8_lossy(&stdout_of(result_of(&answer))), expected);
}

async fn tools_of(server: &TestServer, session_id: &str) -> Vec<v1::Tool> {
    let request = v1::ListToolsRequest { session_id: session_id.into(), ..Default::default() };
    let answer = soon("a list", server.tools.clone().list_tools(request)).await;
    answer.expect("an answer").into_inner().tools
}

#[tokio::test]
async fn list_tools_shows_all_that_a_caller_must_know() {
    let never = "[[tools]]\nname = \"never\"\nargv = [\"/bin/true\"]\n\
                 call_budget = \"never\"\nconcurrent_safe = false\n";
    let config = format!("{ECHO}{never}");
    let settings = [("execution-timeout", "50m"), ("call-budget", "7s")];
    let server = TestServer::with_config(&config, &settings).await;
    let tools = tools_of(&server, "").await;
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["bash", "echo", "never", "python"]);
    let [bash, echo, never, python] = &tools[..] else { panic!("{tools:?}") };
    let flags = |tool: &v1::Tool| (tool.read_only, tool.idempotent, tool.concurrent_safe);
    assert_eq!(flags(echo), (true, true, true));
    assert_eq!(flags(never), (false, false, false));
    assert_eq!(flags(bash), (false, false, true));
    assert_eq!(echo.description, "Shows its arguments.");
    assert!(!bash.description.is_empty() && !python.description.is_empty());
    for tool in &tools {
        assert_eq!(tool.kind(), v1::Kind::Command);
        let schema = tool.input_schema.as_ref().expect("a schema");
        assert!(schema.fields.contains_key("type"), "{schema:?}");
    }
    let origin = |tool: &v1::Tool| tool.source.as_ref().expect("a source").origin();
    assert_eq!(origin(bash), v1::ToolOrigin::BuiltIn);
    assert_eq!(origin(echo), v1::ToolOrigin::Config);
    assert_eq!((echo.call_budget, bash.call_budget), (millis(90_000), millis(7_000)));
    assert_eq!(never.call_budget, None);
    assert_eq!(span_of(&echo.execution_timeout).as_secs(), 120);
    for tool in [bash, python, never] {
        assert_eq!(span_of(&tool.execution_timeout).as_secs(), 3000, "{}", tool.name);
    }
}

#[tokio::test]
async fn a_session_uses_only_the_tools_that_it_allows() {
    let server = TestServer::start().await;
    let wanted =
        v1::CreateSessionRequest { allowed_tools: vec!["python".into()], ..Default::default() };
    let session_id = session(&server, wanted).await;
    let names: Vec<String> =
        tools_of(&server, &session_id).await.into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["python"]);
    let here = |request| v1::RunToolRequest { session_id: session_id.clone(), ..request };
    let status = refusal(&server, here(bash("true"))).await;
    check_reason(&status, Code::PermissionDenied, "TOOL_NOT_ALLOWED");
    let answer = run(&server, here(call("python", json!({ "code": "print(1)" })))).await;
    assert_eq!(stdout_of(result_of(&answer)), b"1\n");
    let wrong =
        v1::CreateSessionRequest { allowed_tools: vec!["pyhton".into()], ..Default::default() };
    let status = server.tools.clone().create_session(wrong).await.expect_err("a refusal");
    check_reason(&status, Code::NotFound, "TOOL_NOT_FOUND");
}

#[tokio::test]
async fn a_session_runs_its_commands_where_it_says() {
    let server = TestServer::start().await;
    let folder = server.folder().canonicalize().expect("a folder");
    std::fs::create_dir(folder.join("inner")).expect("a folder");
    let working_directory = folder.display().to_string();
    let wanted = v1::CreateSessionRequest { working_directory, ..Default::default() };
    let session_id = session(&server, wanted).await;
    let request = v1::RunToolRequest {
        session_id,
        ..call("bash", json!({ "command": "pwd", "cwd": "inner" }))
    };
    let answer = run(&server, request).await;
    let expected = format!("{}/inner\n", folder.display());
    assert_eq!(String::from_utf8_lossy(&stdout_of(result_of(&answer))), expected);
}

const ALONE: &str = r#"
[[tools]]
name = "alone"
argv = ["bash", "-c", "echo x >> $0; read -r _ < $1", "{mark}", "{gate}"]
environment = ["PATH"]
concurrent_safe = false
input_schema = { type = "object", properties = { mark = { type = "string" }, gate = { type = "string" } } }
"#;

#[tokio::test]
async fn a_tool_that_is_not_concurrent_safe_runs_once_at_a_time_in_a_session() {
    let server = TestServer::with_config(ALONE, &[]).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let (ours, theirs) = (server.folder().join("ours"), server.folder().join("theirs"));
    let alone = |mark: &std::path::Path| {
        call("alone", json!({ "mark": mark.to_str(), "gate": gate.path().to_str() }))
    };
    let (of_ours, of_theirs) = (alone(&ours), alone(&theirs));
    let session_id = session(&server, Default::default()).await;
    let here = v1::RunToolRequest { session_id: session_id.clone(), ..of_ours };
    let first = park(&server, here.clone()).await;
    lines_of(&ours, 1).await;
    let second = park(&server, here.clone()).await;
    let elsewhere = park(&server, of_theirs).await;
    // The other session's runs beside it.
    lines_of(&theirs, 1).await;
    let waiting = task(&server, &second).await;
    assert_eq!((waiting.state(), waiting.start_time), (v1::State::Pending, None));
    assert_eq!(task(&server, &first).await.state(), v1::State::Running);
    assert_eq!(text_of(&ours), "x\n");
    // Other tools of the session don't wait for it.
    run(&server, v1::RunToolRequest { session_id: session_id.clone(), ..bash("true") }).await;
    gate.open();
    gate.open();
    gate.open();
    for id in [&first, &second, &elsewhere] {
        assert_eq!(ended(&server, id).await.state(), v1::State::Succeeded);
    }
    assert_eq!(text_of(&ours), "x\nx\n");
    check_begun(&server, &session_id, 3).await;
}

/// Checks that each call of a session has one event when it is accepted and one when it runs.
async fn check_begun(server: &TestServer, session_id: &str, calls: usize) {
    let log = log_of(server, session_id).await;
    let count = |kind: fn(&Payload) -> bool| {
        log.iter().filter(|event| event.payload.as_ref().is_some_and(kind)).count()
    };
    assert_eq!(count(|payload| matches!(payload, Payload::ToolCallAccepted(_))), calls);
    assert_eq!(count(|payload| matches!(payload, Payload::ToolCallStarted(_))), calls);
}
