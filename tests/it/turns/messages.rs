//! ListMessages: the history of a session, with the author of each part.

use serde_json::json;
use tonic::{Code, Status};
use v1::{MessageRole as Role, Origin};

use super::*;
use crate::support::check_reason;
use crate::support::streams::{Gate, log_of, new_session};

/// Bash that goes to the background at once.
pub(super) const PARKS: &str = "
[[tools]]
name = 'parks'
argv = ['bash', '-c', '{command}']
call_budget = '0s'
input_schema = { type = 'object', properties = { command = { type = 'string' } } }
";

async fn list(
    server: &TestServer,
    request: v1::ListMessagesRequest,
) -> Result<v1::ListMessagesResponse, Status> {
    let answer = soon("a list", server.tools.clone().list_messages(request)).await;
    answer.map(tonic::Response::into_inner)
}

fn all_of(session: &str) -> v1::ListMessagesRequest {
    v1::ListMessagesRequest { session_id: session.into(), ..Default::default() }
}

async fn messages_of(server: &TestServer, session: &str) -> Vec<v1::Message> {
    let page = list(server, all_of(session)).await.expect("a list");
    assert_eq!(page.next_page_token, "");
    page.messages
}

/// The role of a message, and the author and the text of each of its parts.
fn authored(message: &v1::Message) -> (Role, Vec<(Origin, &str)>) {
    let parts = message.content.iter().map(|part| match &part.kind {
        Some(v1::content::Kind::Text(text)) => (part.origin(), text.as_str()),
        other => panic!("no text but {other:?}"),
    });
    (message.role(), parts.collect())
}

#[tokio::test]
async fn the_history_of_a_session_names_the_author_of_each_part() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve_with(&endpoint, PARKS).await;
    let session = new_session(&server).await;
    let gate = Gate::new(&server, "a");
    let quick = json!({ "command": "echo four" });
    let slow = json!({ "command": format!("{}; echo the result", gate.command()) });
    endpoint.then(calls(&[("q", "bash", quick.clone()), ("s", "parks", slow)]));
    endpoint.then(says("four, and one is running"));
    turn(&server, prompt(&session, "do both")).await;
    let before = messages_of(&server, &session).await;
    let [asked, requested, quick_result, slow_result, said] = &before[..] else {
        panic!("{before:?}")
    };
    assert_eq!(authored(asked), (Role::User, vec![(Origin::Person, "do both")]));
    assert_eq!(authored(requested), (Role::Assistant, vec![]));
    assert_eq!(authored(quick_result), (Role::Tool, vec![(Origin::Tool, "four\n")]));
    let (role, parts) = authored(slow_result);
    assert_eq!((role, parts.len(), parts[0].0), (Role::Tool, 1, Origin::Callpark));
    assert!(parts[0].1.contains("bg-"), "{parts:?}");
    let text = (Origin::Model, "four, and one is running");
    assert_eq!(authored(said), (Role::Assistant, vec![text]));
    check_calls(requested, &log_of(&server, &session).await, &quick);
    assert_eq!(
        (quick_result.model_call_id.as_str(), slow_result.model_call_id.as_str()),
        ("q", "s")
    );
    assert!(before.is_sorted_by(|a, b| a.number < b.number) && asked.number == 1, "{before:?}");
    assert!(before.iter().all(|message| message.omitted_bytes == 0));

    // The turn that delivers the end of the slow call adds its answer.
    endpoint.then(says("now it has ended"));
    gate.open();
    let idle = |payload: &Payload| match payload {
        Payload::SessionIdle(idle) if idle.final_text == "now it has ended" => Some(()),
        _ => None,
    };
    crate::support::waiting::event(&server, &session, idle).await;
    let after = messages_of(&server, &session).await;
    assert_eq!(after[..before.len()], before, "positions never change");
    let added: Vec<_> = after[before.len()..].iter().map(authored).collect();
    assert_eq!(added, [(Role::Assistant, vec![(Origin::Model, "now it has ended")])]);
    let server = server.restart().await;
    assert_eq!(messages_of(&server, &session).await, after);
}

/// Checks the calls that a message requests: their ids are those of the log.
fn check_calls(requested: &v1::Message, log: &[v1::SessionEvent], quick: &serde_json::Value) {
    let [bash, parks] = &requested.tool_calls[..] else { panic!("{requested:?}") };
    assert_eq!((bash.tool.as_str(), bash.model_call_id.as_str()), ("bash", "q"));
    assert_eq!((parks.tool.as_str(), parks.model_call_id.as_str()), ("parks", "s"));
    assert_eq!(bash.arguments, quick.to_string());
    for call in [bash, parks] {
        let is_accepted = |event: &v1::SessionEvent| {
            event.call_id == call.call_id
                && matches!(&event.payload, Some(Payload::ToolCallAccepted(accepted))
                    if accepted.tool == call.tool)
        };
        assert!(log.iter().any(is_accepted), "{call:?}");
    }
}

#[tokio::test]
async fn the_events_of_a_session_name_authors_too() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve_with(&endpoint, PARKS).await;
    let session = new_session(&server).await;
    let gate = Gate::new(&server, "a");
    let slow = json!({ "command": format!("{}; echo the result", gate.command()) });
    endpoint.then(calls(&[("s", "parks", slow)]));
    endpoint.then(says("later"));
    let first = turn(&server, prompt(&session, "do it")).await;
    endpoint.then(says("done"));
    gate.open();
    let idle = |payload: &Payload| match payload {
        Payload::SessionIdle(idle) if idle.final_text == "done" => Some(()),
        _ => None,
    };
    crate::support::waiting::event(&server, &session, idle).await;
    let log = log_of(&server, &session).await;
    let starts = log.iter().filter_map(|event| match &event.payload {
        Some(Payload::TurnStarted(started)) => {
            Some((event.turn_id == first.turn_id, started.origin(), started.follow_up_ids.len()))
        }
        _ => None,
    });
    let expected = [(true, Origin::Person, 0), (false, Origin::Callpark, 1)];
    assert_eq!(starts.collect::<Vec<_>>(), expected);
    let origins = log.iter().filter_map(|event| match &event.payload {
        Some(Payload::ToolCallFinished(finished)) => match &finished.outcome {
            Some(v1::tool_call_finished::Outcome::Result(result)) => {
                Some(result.content.iter().map(v1::Content::origin).collect::<Vec<_>>())
            }
            other => panic!("no result but {other:?}"),
        },
        _ => None,
    });
    // The first turn ends before the call, and the second one last.
    let expected = [vec![Origin::Model], vec![Origin::Tool], vec![Origin::Model]];
    assert_eq!(origins.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_history_is_read_in_pages() {
    let endpoint = Endpoint::new(vec![says("one"), says("two"), says("three")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    assert_eq!(list(&server, all_of(&session)).await.expect("a list"), Default::default());
    turn(&server, prompt(&session, "1")).await;
    turn(&server, prompt(&session, "2")).await;
    let first = v1::ListMessagesRequest { page_size: 2, ..all_of(&session) };
    let page = list(&server, first.clone()).await.expect("a page");
    assert!(!page.next_page_token.is_empty());
    let mut seen = page.messages;
    assert_eq!(seen.len(), 2);
    // A message that comes between two pages is in a later one.
    turn(&server, prompt(&session, "3")).await;
    let mut token = page.next_page_token;
    while !token.is_empty() {
        let next = v1::ListMessagesRequest { page_token: token, ..first.clone() };
        let page = list(&server, next).await.expect("a page");
        assert_eq!(page.messages.len(), 2);
        seen.extend(page.messages);
        token = page.next_page_token;
    }
    let texts: Vec<_> =
        seen.iter().flat_map(|message| authored(message).1).map(|(_, text)| text).collect();
    assert_eq!(texts, ["1", "one", "2", "two", "3", "three"]);
    assert_eq!(seen, messages_of(&server, &session).await);
    let large = v1::ListMessagesRequest { page_size: i32::MAX, ..all_of(&session) };
    assert_eq!(list(&server, large).await.expect("a page").messages, seen);
}

#[tokio::test]
async fn bad_requests_for_a_history_are_refused() {
    let endpoint = Endpoint::new(vec![says("one"), says("two")]).await;
    let server = serve(&endpoint).await;
    let (session, other) = (new_session(&server).await, new_session(&server).await);
    for session in [&session, &other] {
        turn(&server, prompt(session, "1")).await;
    }
    let first = v1::ListMessagesRequest { page_size: 1, ..all_of(&session) };
    let token = list(&server, first.clone()).await.expect("a page").next_page_token;
    let of_other = v1::ListMessagesRequest { page_token: token.clone(), ..all_of(&other) };
    let garbage = v1::ListMessagesRequest { page_token: "garbage".into(), ..first.clone() };
    let longer = v1::ListMessagesRequest { page_token: format!("{token}00"), ..first.clone() };
    for request in [of_other, garbage, longer] {
        let status = list(&server, request).await.expect_err("refused");
        check_reason(&status, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
    let unknown = all_of("ses-00000000000040008000000000000000");
    let status = list(&server, unknown).await.expect_err("refused");
    check_reason(&status, Code::NotFound, "SESSION_NOT_FOUND");
    let negative = v1::ListMessagesRequest { page_size: -1, ..first };
    for request in [negative, all_of(""), all_of("ses-1")] {
        let status = list(&server, request).await.expect_err("refused");
        check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    }
}
