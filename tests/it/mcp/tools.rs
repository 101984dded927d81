//! The tools of an MCP server, and the results of calls of them.

use callpark_proto::v1::session_event::Payload;
use serde_json::json;
use tonic::Code;

use super::{echo, lines, list, odd, result, text};
use crate::support::waiting::{
    call, cancel, cancel_of, ended, is_alive, lines_of, log_of, outcome_of, park, pids, refusal,
    run, session, variable,
};
use crate::support::{check_reason, result_of, v1};

#[tokio::test]
async fn its_tools_are_listed_with_their_annotations() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "call_budget = '7s'").await;
    assert_eq!(lines(folder.path(), "starts"), [""; 0], "not started before it is needed");
    let answer = list(&server).await;
    let tool = |name: &str| answer.tools.iter().find(|tool| tool.name == name).expect("a tool");
    let echo = tool("odd__echo");
    assert_eq!((echo.kind(), echo.description.as_str()), (v1::Kind::Mcp, "Says it again."));
    assert_eq!((echo.read_only, echo.destructive, echo.idempotent), (true, false, true));
    let source = echo.source.as_ref().expect("a source");
    assert_eq!((source.origin(), source.name.as_str()), (v1::ToolOrigin::McpServer, "odd"));
    assert_eq!(echo.call_budget.as_ref().expect("a budget").seconds, 7);
    assert!(echo.input_schema.as_ref().expect("a schema").fields.contains_key("required"));
    let write = tool("odd__write");
    assert_eq!((write.read_only, write.destructive, write.idempotent), (false, false, true));
    let fail = tool("odd__fail");
    assert_eq!((fail.read_only, fail.destructive, fail.idempotent), (false, true, false));
    assert!(tool("odd__structured").output_schema.is_some());
    assert!(answer.tools.iter().any(|tool| tool.name == "bash"), "beside the server's own");
    assert!(answer.tools.is_sorted_by_key(|tool| &tool.name));

    assert_eq!(answer.unavailable, []);
    assert!(tool("odd__bad_schema").arguments_unchecked);
    let alias = answer.tools.iter().find(|tool| tool.name.starts_with("odd__no_name_at_all-"));
    assert_eq!(alias.expect("an alias").warnings, ["its server names it `no name at all`"]);
    assert_eq!(lines(folder.path(), "starts").len(), 1, "it is started once");
}

#[tokio::test]
async fn a_call_returns_the_result_of_the_tool() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let answer = echo(&server, "hällo").await;
    assert_eq!((text(&answer).as_str(), answer.is_error), ("hällo", false));
    let answer = result(&server, "structured", json!({})).await;
    assert!(answer.structured.expect("an object").fields.contains_key("sum"));

    let answer = result(&server, "fail", json!({})).await;
    assert_eq!((text(&answer).as_str(), answer.is_error), ("it went wrong", true));
    let id = park(&server, call("odd__fail", json!({}))).await;
    let task = ended(&server, &id).await;
    assert_eq!((task.state(), task.kind()), (v1::State::Failed, v1::Kind::Mcp));
    assert_eq!(text(outcome_of(&task)), "it went wrong");
    assert_eq!(lines(folder.path(), "starts").len(), 1, "one server for all calls");
}

#[tokio::test]
async fn arguments_and_names_are_checked_before_the_server_is_asked() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "tools = ['echo', 'fail']").await;
    let status = refusal(&server, call("odd__echo", json!({ "text": 7 }))).await;
    check_reason(&status, Code::InvalidArgument, "ARGUMENTS_INVALID");
    for name in ["odd__nothing", "odd__write", "other__echo", "odd_echo"] {
        let status = refusal(&server, call(name, json!({}))).await;
        check_reason(&status, Code::NotFound, "TOOL_NOT_FOUND");
    }
}

#[tokio::test]
async fn progress_becomes_events() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let session_id = session(&server, Default::default()).await;
    let request = v1::RunToolRequest {
        session_id: session_id.clone(),
        ..call("odd__count", json!({ "to": 5 }))
    };
    assert_eq!(text(result_of(&run(&server, request).await)), "counted");
    let log = log_of(&server, &session_id).await;
    let reports = log.into_iter().filter_map(|event| match event.payload {
        Some(Payload::ToolProgress(progress)) => progress.progress,
        _ => None,
    });
    let reports: Vec<_> =
        reports.map(|report| (report.done, report.total, report.message)).collect();
    // The first one may come before anybody listens.
    let expected: Vec<_> =
        (1..=5).map(|done| (f64::from(done), Some(5.0), format!("step {done}"))).collect();
    assert!(reports.len() >= 4 && expected.ends_with(&reports), "{reports:?}");
}

#[tokio::test]
async fn a_slow_call_is_parked_and_a_cancel_is_passed_on() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let id = park(&server, call("odd__hang", json!({}))).await;
    assert_eq!(text(&echo(&server, "meanwhile").await), "meanwhile");
    cancel(&server, v1::CancelRequest { reason: "enough".into(), ..cancel_of(&id) }).await;
    assert_eq!(ended(&server, &id).await.state(), v1::State::Cancelled);
    let reasons = lines_of(&folder.path().join("cancelled"), 1).await;
    assert_eq!(reasons, ["the result is not wanted any more"]);
}

#[tokio::test]
async fn tools_that_come_later_are_found() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let status = refusal(&server, call("odd__new", json!({}))).await;
    check_reason(&status, Code::NotFound, "TOOL_NOT_FOUND");
    assert_eq!(text(&result(&server, "change", json!({})).await), "changed");
    assert_eq!(text(&result(&server, "new", json!({})).await), "new");
    assert!(list(&server).await.tools.iter().any(|tool| tool.name == "odd__new"));
}

#[tokio::test]
async fn it_sees_the_variables_that_it_may_see() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "set_environment = { COLOUR = 'blue' }").await;
    let seen = text(&result(&server, "environment", json!({})).await);
    let seen: Vec<&str> = seen.lines().collect();
    for name in ["CALLPARK_CALL_ID", "COLOUR", "PATH"] {
        assert!(seen.contains(&name), "no {name}: {seen:?}");
    }
    // A launcher of Python may add some of its own; of the server's nothing else is there.
    assert!(variable("HOME").is_some() && !seen.contains(&"HOME"), "{seen:?}");
}

#[tokio::test]
async fn it_ends_with_callpark() {
    let folder = crate::support::folder();
    let mut server = odd(folder.path(), "", "").await;
    echo(&server, "there").await;
    let [pid] = pids(&lines(folder.path(), "starts"))[..] else { panic!("one life") };
    assert!(is_alive(pid));
    server.stop().await;
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn the_text_of_a_result_is_kept_like_the_output_of_a_command() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let written = |lines: usize| -> String {
        (0..lines).map(|number| format!("line {number:09}\n")).collect()
    };
    // More than a record holds, with a copy of it as JSON.
    let answer = result(&server, "big", json!({ "lines": 13_000 })).await;
    assert!(text(&answer) == written(13_000), "{} bytes", text(&answer).len());
    assert!(answer.output.is_none_or(|output| !output.inline_truncated));
    let answer = result(&server, "big", json!({ "lines": 100 })).await;
    assert_eq!(text(&answer), written(100));
    assert!(answer.structured.is_some(), "a copy that fits");

    let id = park(&server, call("odd__big", json!({ "lines": 200_000 }))).await;
    let task = ended(&server, &id).await;
    let answer = outcome_of(&task);
    assert!(answer.output.as_ref().expect("counts").inline_truncated);
    assert_eq!(text(answer).len(), 2 << 20, "a head and a tail of 1 MiB each");
    let (whole, mut read) = (written(200_000), Vec::new());
    while read.len() < whole.len() {
        let position = v1::read_output_request::Position::Offset(read.len() as i64);
        let request = v1::ReadOutputRequest {
            background_id: id.clone(),
            position: Some(position),
            max_bytes: 1 << 20,
            ..Default::default()
        };
        let page = server.tasks.clone().read_output(request).await.expect("output").into_inner();
        let before = read.len();
        read.extend_from_slice(&page.data);
        assert!(read.len() > before, "nothing more at {before}");
    }
    assert!(read == whole.as_bytes(), "byte for byte");
}

#[tokio::test]
async fn requests_for_a_person_or_a_model_are_declined_in_the_log() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let session_id = session(&server, Default::default()).await;
    let request =
        v1::RunToolRequest { session_id: session_id.clone(), ..call("odd__ask", json!({})) };
    assert_eq!(text(result_of(&run(&server, request).await)), "decline True");
    let log = log_of(&server, &session_id).await;
    let reports = log.into_iter().filter_map(|event| match event.payload {
        Some(Payload::ToolProgress(progress)) => progress.progress,
        _ => None,
    });
    let reports: Vec<String> = reports.map(|report| report.message).collect();
    assert_eq!(
        reports,
        [
            "the server asked for input from a person (elicitation), which was declined: Your name?",
            "the server asked for a model's answer (sampling), which was declined",
        ]
    );
}
