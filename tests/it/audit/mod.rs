//! The audit log: a line for each request that changes something, wherever it is received, and a chain
//! that outlasts crashes and full disks.

mod program;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use callpark::internals::audit::{
    AuditFileOptions, AuditLog, AuditOptions, AuditReport, audit_files, verify,
};
use callpark::internals::auth::keys::{KeyFile, KeyOptions};
use callpark::internals::engine::{Clock as _, SystemClock};
use callpark::internals::telemetry::Metrics;
use callpark::model::{Scope, Scopes};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::forward::front::{Front, Local, OwnerOfAll, owner_with};
use crate::support::program::Clients;
use crate::support::streams::{close, new_session, start_of, started};
use crate::support::waiting::events_of;
use crate::support::{TestServer, bash, soon, v1};

/// A text that stands in arguments, labels and reasons only.
const MARK: &str = "not-for-the-audit-log";

/// A folder with the audit log of a server.
struct Audited {
    folder: tempfile::TempDir,
}

impl Audited {
    fn new() -> Self {
        Self { folder: crate::support::folder() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    async fn serve(&self) -> TestServer {
        TestServer::with(&[("audit-file", &self.path().display().to_string())]).await
    }

    /// Returns the lines, once there are so many.
    async fn lines(&self, count: usize) -> Vec<Value> {
        let path = self.path();
        let lines = async {
            loop {
                let lines = lines(&path);
                if lines.len() >= count {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon("the lines", lines).await
    }

    fn verify(&self) -> AuditReport {
        let files = audit_files(&self.path()).expect("files");
        verify(&files, None).expect("a whole chain")
    }
}

/// The whole lines of a file.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The fields of a line that say what happened.
fn what(line: &Value) -> (String, String, String, String) {
    let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    (field("action"), field("id"), field("outcome"), field("reason"))
}

fn expected(
    action: &str,
    id: &str,
    outcome: &str,
    reason: &str,
) -> (String, String, String, String) {
    (action.to_owned(), id.to_owned(), outcome.to_owned(), reason.to_owned())
}

fn call_id(background_id: &str) -> String {
    background_id.replacen("bg-", "call-", 1)
}

#[tokio::test]
async fn each_request_that_changes_something_has_one_line() {
    let audited = Audited::new();
    let mut server = audited.serve().await;
    let session = new_session(&server).await;
    let mut request = Request::new(v1::RunToolRequest {
        session_id: session.clone(),
        labels: [("note".to_owned(), MARK.to_owned())].into(),
        ..bash(&format!("echo {MARK}"))
    });
    request.metadata_mut().insert("x-request-id", "mine".parse().expect("a header"));
    let ran = server.tools.clone().run_tool(request).await.expect("an answer").into_inner();
    let dry = v1::RunToolRequest { dry_run: true, ..bash("true") };
    server.tools.clone().run_tool(dry).await.expect("an answer");
    let unknown = v1::RunToolRequest { tool: "none".to_owned(), ..bash("true") };
    server.tools.clone().run_tool(unknown).await.expect_err("a refusal");
    let task = started(&server, start_of(&session, "sleep 300")).await.background_id;
    let cancel = v1::CancelRequest {
        background_id: task.clone(),
        reason: MARK.to_owned(),
        force: true,
        ..Default::default()
    };
    server.tasks.clone().cancel(cancel).await.expect("cancelled");
    let delete = v1::DeleteRequest { background_id: task.clone(), ..Default::default() };
    server.tasks.clone().delete(delete.clone()).await.expect("deleted");
    server.tasks.clone().delete(delete).await.expect_err("it is gone");
    // Those that read only have none.
    server.tools.clone().list_tools(v1::ListToolsRequest::default()).await.expect("tools");
    close(&server, &session).await;
    server.stop().await;
    let (call, task) = (ran.call_id.as_str(), call_id(&task));
    let lines = lines(&audited.path());
    assert_eq!(
        lines.iter().map(what).collect::<Vec<_>>(),
        [
            expected("start", &session, "OK", ""),
            expected("start", call, "OK", ""),
            expected("start", "", "NOT_FOUND", "TOOL_NOT_FOUND"),
            expected("start", &task, "OK", ""),
            expected("cancel", &task, "OK", ""),
            expected("delete", &task, "OK", ""),
            expected("delete", &task, "NOT_FOUND", "TASK_NOT_FOUND"),
            expected("close", &session, "OK", ""),
        ]
    );
    let line = &lines[1];
    assert_eq!(
        (&line["tenant"], &line["method"]),
        (&json!("local"), &json!("callpark.v1.ToolRunner/RunTool"))
    );
    assert_eq!(line["request_id"], "mine");
    assert!(line["peer"].as_str().expect("a peer").starts_with("127.0.0.1:"), "{line}");
    let text = std::fs::read_to_string(audited.path()).expect("a file");
    assert!(!text.contains(MARK), "{text}");
    assert_eq!(audited.verify().last_sequence, 8);
}

/// The line of a start does not wait for the answer, which may come much later.
#[tokio::test]
async fn a_start_has_its_line_while_it_runs() {
    let audited = Audited::new();
    let server = audited.serve().await;
    let mut tools = server.tools.clone();
    let running = tokio_util::task::TaskTracker::new()
        .spawn(async move { tools.run_tool(bash("sleep 300")).await });
    let lines = audited.lines(1).await;
    assert_eq!((&lines[0]["action"], &lines[0]["outcome"]), (&json!("start"), &json!("OK")));
    assert!(!running.is_finished());
    let stream = server.tools.clone().stream_tool(bash("sleep 300")).await.expect("a stream");
    audited.lines(2).await;
    drop(stream);
    running.abort();
}

#[tokio::test]
async fn keys_and_refused_credentials_have_lines() {
    let audited = Audited::new();
    let server = audited.serve().await;
    let wrong = Clients::new(&server.endpoint, "0123456789abcdef");
    for _ in 0..20 {
        wrong.tasks.clone().start(start_of("", "true")).await.expect_err("a refusal");
    }
    let file = KeyFile::new(server.folder().join("keys"));
    let options = KeyOptions {
        tenant: "acme".to_owned(),
        name: "shop".to_owned(),
        scopes: [Scope::Run].into_iter().collect::<Scopes>(),
        create_time: SystemClock.now(),
        expire_time: None,
    };
    let key = file.create(options).expect("a key");
    let (id, text) = (key.record.id.to_string(), key.text.expose_secret().to_owned());
    let lines = audited.lines(2).await;
    assert_eq!(what(&lines[0]), expected("refused", "", "UNAUTHENTICATED", "CREDENTIALS_INVALID"));
    assert_eq!(what(&lines[1]), expected("key_added", &id, "OK", ""));
    assert_eq!((&lines[1]["tenant"], &lines[1]["name"]), (&json!("acme"), &json!("shop")));
    let caller = Clients::new(&server.endpoint, &text);
    caller.tools.clone().create_session(v1::CreateSessionRequest::default()).await.expect("made");
    let delete = v1::DeleteRequest { background_id: MARK.to_owned(), ..Default::default() };
    caller.tasks.clone().delete(delete).await.expect_err("a refusal");
    caller.tasks.clone().list(v1::ListRequest::default()).await.expect_err("a refusal");
    file.revoke(&key.record.id, SystemClock.now()).expect("revoked");
    let lines = audited.lines(6).await;
    assert_eq!(lines[2]["credential_id"], id.as_str());
    assert_eq!(what(&lines[3]), expected("delete", "", "PERMISSION_DENIED", "SCOPE_MISSING"));
    assert_eq!(what(&lines[4]), expected("refused", "", "PERMISSION_DENIED", "SCOPE_MISSING"));
    assert_eq!(lines[4]["name"], "shop");
    assert_eq!(what(&lines[5]), expected("key_revoked", &id, "OK", ""));
    caller.tasks.clone().list(v1::ListRequest::default()).await.expect_err("a refusal");
    // A stop writes the refusals that were counted, and the next start what has changed meanwhile.
    let mut server = server;
    server.stop().await;
    let lines = audited.lines(8).await;
    assert_eq!(what(&lines[6]), expected("refused", "", "UNAUTHENTICATED", "CREDENTIALS_REVOKED"));
    assert_eq!(lines[6]["credential_id"], id.as_str());
    let counted = &lines[7];
    assert_eq!(
        (&counted["reason"], &counted["count"]),
        (&json!("CREDENTIALS_INVALID"), &json!(19))
    );
    let all = std::fs::read_to_string(audited.path()).expect("a file");
    assert!(!all.contains("0123456789abcdef") && !all.contains(&text), "{all}");
    assert_eq!(audited.verify().last_sequence, 8);
}

#[tokio::test]
async fn a_key_that_is_made_while_no_server_runs_has_its_line_at_the_next_start() {
    let audited = Audited::new();
    let server = audited.serve().await;
    new_session(&server).await;
    audited.lines(1).await;
    let mut server = server;
    server.stop().await;
    let file = KeyFile::new(server.folder().join("keys"));
    let options = KeyOptions {
        tenant: "acme".to_owned(),
        name: "shop".to_owned(),
        scopes: Scopes::ALL,
        create_time: SystemClock.now(),
        expire_time: None,
    };
    let id = file.create(options).expect("a key").record.id.to_string();
    let _server = server.restart().await;
    let lines = audited.lines(2).await;
    assert_eq!(what(&lines[1]), expected("key_added", &id, "OK", ""));
}

/// The log of a replica that owns nothing.
fn log_of_front(path: &Path) -> AuditLog {
    let files = AuditFileOptions { path: path.to_owned(), bytes_max: 1 << 20, files_max: 2 };
    let now = Arc::new(|| SystemClock.now());
    AuditLog::open(AuditOptions { files, metrics: Metrics::default(), now }).expect("a log")
}

#[tokio::test]
async fn a_forwarded_request_has_its_line_where_it_was_received() {
    for local in [Local::Owner as fn(String) -> Local, Local::LateOwner] {
        let audited = Audited::new();
        let own = audited.folder.path().join("owner.jsonl");
        let owner = owner_with(&[("audit-file", &own.display().to_string())]).await;
        let log = log_of_front(&audited.path());
        let script = [local(owner.endpoint.clone())];
        let front = OwnerOfAll::default();
        let front = Front::with_audit_log(&script, front, 4 << 20, Some(log.clone())).await;
        let mut tools = front.tools.clone();
        let mut ids = Vec::new();
        if matches!(script[0], Local::Owner(_)) {
            let ran = tools.run_tool(bash("true")).await.expect("an answer").into_inner();
            ids.push(ran.call_id);
            let close = v1::CloseSessionRequest {
                session_id: ran.session_id.clone(),
                ..Default::default()
            };
            let closed = tools.close_session(close).await.expect("an answer");
            assert!(!closed.metadata().contains_key("callpark-audit"));
            ids.push(ran.session_id);
        }
        let stream = tools.stream_tool(bash("true")).await.expect("a stream");
        assert!(!stream.metadata().contains_key("callpark-audit"));
        let mut stream = stream.into_inner();
        let first = stream.message().await.expect("no error").expect("an update");
        ids.push(first.events[0].call_id.clone());
        let trailers = async {
            events_of(stream).await;
        };
        soon("the end", trailers).await;
        let wrong = v1::RunToolRequest { tool: "none".to_owned(), ..bash("true") };
        if matches!(script[0], Local::Owner(_)) {
            let error = tools.run_tool(wrong).await.expect_err("a refusal");
            assert_eq!(error.code(), Code::NotFound);
            ids.push(String::new());
        }
        let lines = audited.lines(ids.len()).await;
        let found: Vec<String> =
            lines.iter().map(|line| line["id"].as_str().unwrap_or_default().to_owned()).collect();
        assert_eq!(found, ids, "{lines:?}");
        log.close().await;
        assert_eq!(crate::audit::lines(&own).len(), 0, "the owner has not received it");
        assert_eq!(audited.verify().lines, ids.len() as u64);
    }
}
