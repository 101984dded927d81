//! Tools whose work is code inside the server, as a program that has callpark inside may add.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callpark::model::{Content, ContentKind, Progress, Tool, ToolKind, ToolResult, ToolSource};
use callpark::tool::{
    ArgumentError, Arguments, CallContext, CallableTool, FunctionTool, InProcess, ToolContext,
    ToolOutput, Work,
};
use serde_json::{Value, json};

use crate::support::waiting::{
    call, cancel, cancel_of, ended, log_of, outcome_of, park, run, session, start, start_of,
};
use crate::support::{TestServer, millis, result_of, soon, stdout_of, v1};

/// Counts to three and says so, or does what its argument `then` says.
struct Count {
    tool: Tool,
}

struct Counting {
    then: String,
}

impl CallableTool for Count {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(
        &self,
        arguments: &Arguments,
        _context: &CallContext,
    ) -> Result<Work, Vec<ArgumentError>> {
        let then = arguments.get("then").and_then(|then| then.as_str()).unwrap_or_default();
        Ok(Work::InProcess(Box::new(Counting { then: then.to_owned() })))
    }
}

#[async_trait]
impl InProcess for Counting {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        for done in 1..=3_u8 {
            let report =
                Progress { done: f64::from(done), total: Some(3.0), message: String::new() };
            context.progress(report).await;
        }
        match self.then.as_str() {
            "panic" => panic!("as its arguments ask"),
            "wait" => context.cancellation_token().cancelled().await,
            "wait for ever" => std::future::pending().await,
            _ => {}
        }
        let of = |kind| vec![Content { kind, stream: None, offset: 0 }];
        if let Some(levels) = self.then.strip_prefix("nest ") {
            let value = nested(levels.parse().expect("a number"));
            let structured = value.as_object().cloned().map(Box::new);
            let content = of(ContentKind::Json(value));
            return ToolResult { content, structured, ..ToolResult::default() };
        }
        if self.then == "draw" {
            let data = b"\x89PNG\r\n\x1a\n"[..].into();
            let content = of(ContentKind::Image { media_type: "image/png".into(), data });
            return ToolResult { content, ..ToolResult::default() };
        }
        let content = of(ContentKind::Json(json!({ "counted": 3 })));
        ToolResult { content, ..ToolResult::default() }
    }
}

/// An object of so many levels.
fn nested(levels: usize) -> serde_json::Value {
    (1..levels).fold(json!({ "a": 1 }), |inner, _| json!({ "a": inner }))
}

/// A tool whose work is code inside the server: it counts its runs, and then does what its arguments ask.
pub fn count() -> Arc<dyn CallableTool> {
    let schema = json!({ "type": "object" });
    let tool = Tool {
        read_only: true,
        idempotent: true,
        call_budget: Some(Duration::from_secs(600)),
        ..Tool::new("count", "Counts to three.", schema, ToolKind::BuiltIn, ToolSource::BuiltIn)
    };
    Arc::new(Count { tool })
}

async fn server() -> TestServer {
    TestServer::with_tools(vec![count()]).await
}

#[tokio::test]
async fn its_progress_is_in_the_log_before_its_result() {
    let server = server().await;
    let session_id = session(&server, Default::default()).await;
    let request = v1::RunToolRequest { session_id: session_id.clone(), ..call("count", json!({})) };
    let answer = run(&server, request).await;
    let result = result_of(&answer);
    assert!(!result.is_error);
    assert!(matches!(result.content[0].kind, Some(v1::content::Kind::Json(_))));
    assert!(result.output.is_none(), "it has no streams");
    let done: Vec<f64> = log_of(&server, &session_id)
        .await
        .into_iter()
        .filter_map(|event| match event.payload {
            Some(v1::session_event::Payload::ToolProgress(report)) => report.progress,
            _ => None,
        })
        .map(|progress| progress.done)
        .collect();
    assert_eq!(done, [1.0, 2.0, 3.0]);
}

#[tokio::test]
async fn a_function_has_output_and_a_result_of_its_own() {
    let tool = FunctionTool::new("say").run(|arguments: Value, context| async move {
        context.output(format!("{}\n", context.call_id())).await;
        context.output("two\n").await;
        arguments["fail"].is_null().then(|| ToolOutput::text("three")).ok_or("it failed".into())
    });
    let server = TestServer::with_tools(vec![tool]).await;
    let answer = run(&server, call("say", json!({}))).await;
    let result = result_of(&answer);
    assert_eq!(stdout_of(result), format!("{}\ntwo\n", answer.call_id).into_bytes());
    assert_eq!(result.content.len(), 2);
    let answer = run(&server, call("say", json!({ "fail": true }))).await;
    let result = result_of(&answer);
    assert!(result.is_error && result.error_message == "it failed", "{result:?}");
    assert!(stdout_of(result).ends_with(b"two\n"));
}

#[tokio::test]
async fn code_that_breaks_fails_its_call_and_nothing_else() {
    let server = server().await;
    let answer = run(&server, call("count", json!({ "then": "panic" }))).await;
    let result = result_of(&answer);
    assert!(result.is_error && result.error_message.contains("panicked"), "{result:?}");
    assert!(!result_of(&run(&server, call("count", json!({}))).await).is_error);
}

#[tokio::test]
async fn a_cancel_stops_it_whether_it_listens_or_not() {
    let server = server().await;
    for then in ["wait", "wait for ever"] {
        let request =
            v1::RunToolRequest { call_budget: millis(0), ..call("count", json!({ "then": then })) };
        let id = park(&server, request).await;
        let asked = v1::CancelRequest { grace: millis(100), ..cancel_of(&id) };
        cancel(&server, asked).await;
        let task = ended(&server, &id).await;
        assert_eq!(task.state(), v1::State::Cancelled, "{then}");
        assert!(outcome_of(&task).is_error);
        assert_eq!(task.progress.expect("progress").done, 3.0);
    }
}

#[tokio::test]
async fn a_result_that_is_nested_too_deep_is_text_and_its_log_can_be_read() {
    let server = server().await;
    let session_id = session(&server, Default::default()).await;
    for levels in [30, 60] {
        let request = v1::RunToolRequest {
            session_id: session_id.clone(),
            ..call("count", json!({ "then": format!("nest {levels}") }))
        };
        let answer = run(&server, request).await;
        let log = log_of(&server, &session_id).await;
        let logged = log.into_iter().rev().find_map(|event| match event.payload {
            Some(v1::session_event::Payload::ToolCallFinished(end)) => end.outcome,
            _ => None,
        });
        let Some(v1::tool_call_finished::Outcome::Result(logged)) = logged else {
            panic!("{logged:?}")
        };
        let result = result_of(&answer);
        assert_eq!(result.content, logged.content);
        assert_eq!(result.structured, logged.structured);
        let whole = nested(levels).to_string();
        let texts: Vec<&str> = logged
            .content
            .iter()
            .filter_map(|content| match &content.kind {
                Some(v1::content::Kind::Text(text)) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let is_deep = levels > 30;
        assert_eq!(logged.structured.is_none(), is_deep);
        assert_eq!(texts.len(), if is_deep { 2 } else { 0 }, "{texts:?}");
        for text in texts {
            assert!(text.contains("deeper than 30 levels") && text.ends_with(&whole), "{text}");
        }
    }
}

#[tokio::test]
async fn many_large_results_fit_into_one_answer() {
    const TASKS: usize = 40;
    let tool = FunctionTool::new("large").run(|_arguments: Value, _context| async move {
        Ok(ToolOutput::json(json!({ "text": "x".repeat(90 << 10) })))
    });
    let server = TestServer::with_tools(vec![tool]).await;
    let mut background_ids = Vec::new();
    for _ in 0..TASKS {
        background_ids.push(start(&server, start_of(call("large", json!({})))).await.background_id);
    }
    let request = v1::WaitManyRequest {
        background_ids: background_ids.clone(),
        mode: v1::WaitMode::All.into(),
        wait: millis(30_000),
        acknowledge: false,
    };
    // The default limit of clients is 4 MiB, which the results together exceed.
    let answer = soon("a wait", server.tasks.clone().wait_many(request)).await;
    let settled = answer.expect("an answer").into_inner().settled;
    assert_eq!(settled.len(), TASKS);
    let (whole, short): (Vec<_>, Vec<_>) =
        settled.iter().partition(|task| outcome_of(task).structured.is_some());
    assert!(whole.len() >= 5 && !short.is_empty(), "{} are whole", whole.len());
    for task in short {
        let output = outcome_of(task).output.as_ref().expect("the amount of output");
        assert!(output.inline_truncated && outcome_of(task).content.is_empty(), "{task:?}");
    }
    let request = v1::ListRequest { page_size: 1000, ..Default::default() };
    let answer = soon("a list", server.tasks.clone().list(request)).await;
    let tasks = answer.expect("an answer").into_inner().tasks;
    assert_eq!(tasks.len(), TASKS);
    assert!(tasks.iter().all(|task| outcome_of(task).structured.is_none()));
}
