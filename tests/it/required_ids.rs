//! Required fields that are empty: the error says so, and not that they have a wrong format.

use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::wire::{first_answer, least_request, methods, with_token};
use crate::support::{TestServer, check_reason, v1};

/// The fields without which each RPC is refused.
const REQUIRED: [(&str, &[&str]); 27] = [
    ("BackgroundTasks/AcknowledgeFollowUp", &["follow_up_id", "lease_token"]),
    ("BackgroundTasks/Cancel", &["background_id"]),
    ("BackgroundTasks/Delete", &["background_id"]),
    ("BackgroundTasks/Get", &["background_id"]),
    ("BackgroundTasks/LeaseFollowUps", &[]),
    ("BackgroundTasks/List", &[]),
    ("BackgroundTasks/ListFollowUps", &[]),
    ("BackgroundTasks/ReadOutput", &["background_id"]),
    ("BackgroundTasks/RetryFollowUp", &["follow_up_id"]),
    ("BackgroundTasks/Start", &["work"]),
    ("BackgroundTasks/Summarize", &["session_id"]),
    ("BackgroundTasks/Wait", &["background_id"]),
    // The number of its ids is out of range.
    ("BackgroundTasks/WaitMany", &[]),
    ("BackgroundTasks/Watch", &[]),
    ("ToolRunner/CancelTurn", &["session_id"]),
    ("ToolRunner/CloseSession", &["session_id"]),
    ("ToolRunner/CreateSession", &[]),
    ("ToolRunner/GetServerInfo", &[]),
    ("ToolRunner/GetSession", &["session_id"]),
    ("ToolRunner/ListMessages", &["session_id"]),
    ("ToolRunner/ListSessions", &[]),
    ("ToolRunner/ListTools", &[]),
    ("ToolRunner/RunTool", &["tool"]),
    ("ToolRunner/RunTurn", &["prompt"]),
    ("ToolRunner/StreamSession", &["session_id"]),
    ("ToolRunner/StreamTool", &["tool"]),
    ("ToolRunner/StreamTurn", &["prompt"]),
];

/// The one that has two, one of them in a message.
const UPDATE_SESSION: (&str, &[&str]) =
    ("ToolRunner/UpdateSession", &["session.session_id", "update_mask"]);

async fn answer(server: &TestServer, method: &str, body: Bytes) -> Result<(), Status> {
    first_answer(&server.channel, method, with_token(server, body)).await.map(|_| ())
}

/// The violations of an error: field, reason, description.
fn violations(status: &Status) -> Vec<(String, String, String)> {
    let details = status.get_details_bad_request().expect("a BadRequest");
    let parts = details.field_violations.into_iter();
    parts.map(|violation| (violation.field, violation.reason, violation.description)).collect()
}

#[track_caller]
fn check_required(method: &str, fields: &[&str], answer: Result<(), Status>) {
    let status = answer.expect_err(method);
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    let violations = violations(&status);
    let mut named: Vec<&str> = violations.iter().map(|(field, ..)| field.as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, fields, "{method}");
    for (field, reason, description) in &violations {
        assert_eq!(reason, "REQUIRED", "{method} {field}: {description}");
        assert!(!description.contains("bg-") && !description.contains("hex"), "{description}");
    }
}

#[tokio::test]
async fn an_empty_required_field_is_required() {
    let server = TestServer::start().await;
    let mut table: Vec<_> = REQUIRED.into_iter().chain([UPDATE_SESSION]).collect();
    table.sort_unstable();
    let mut names: Vec<String> = methods().into_iter().map(|method| method.name).collect();
    names.sort_unstable();
    let listed: Vec<&str> = table.iter().map(|(method, _)| *method).collect();
    assert_eq!(listed, names, "every RPC is in the table");
    for (method, fields) in table {
        let answer = answer(&server, method, least_request(method)).await;
        if !fields.is_empty() {
            check_required(method, fields, answer);
        } else if let Err(status) = answer {
            assert!(
                violations(&status).iter().all(|(_, reason, _)| reason != "REQUIRED"),
                "{method}: {status:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_empty_id_among_many_is_required_and_named_by_its_index() {
    let server = TestServer::start().await;
    let none = v1::WaitManyRequest::default().encode_to_vec();
    let status = answer(&server, "BackgroundTasks/WaitMany", none.into()).await.expect_err("none");
    let [(field, reason, description)] = &violations(&status)[..] else { panic!("{status:?}") };
    assert_eq!((field.as_str(), reason.as_str()), ("background_ids", "OUT_OF_RANGE"));
    assert!(description.contains("1 to 100"), "{description}");
    let good = format!("bg-{:032x}", 7);
    let many =
        v1::WaitManyRequest { background_ids: vec![good, String::new()], ..Default::default() };
    let answer = answer(&server, "BackgroundTasks/WaitMany", many.encode_to_vec().into()).await;
    check_required("WaitMany", &["background_ids[1]"], answer);
}

#[tokio::test]
async fn an_id_of_a_wrong_format_is_said_to_be_so() {
    let server = TestServer::start().await;
    for (method, fields) in REQUIRED {
        let [field @ ("background_id" | "session_id" | "follow_up_id"), rest @ ..] = fields else {
            continue;
        };
        // The id is the first field of all these requests.
        let text = "bg-7";
        let mut body = vec![0x0a, 4];
        body.extend_from_slice(text.as_bytes());
        let status = answer(&server, method, body.into()).await.expect_err(method);
        let found = violations(&status);
        let of_id: Vec<_> = found.iter().filter(|(named, ..)| named == field).collect();
        let [(_, reason, description)] = of_id[..] else { panic!("{method}: {found:?}") };
        assert_eq!(reason, "INVALID_FORMAT", "{method}: {description}");
        assert_eq!(found.len(), 1 + rest.len(), "{method}: {found:?}");
    }
}
