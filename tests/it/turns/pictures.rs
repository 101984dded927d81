//! Pictures in the results of calls, as models see them.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::mcp::toml;
use crate::support::streams::new_session;

/// The image that the odd server draws.
const URL: &str = "data:image/png;base64,iVBORw0KGgo=";

fn shown(words: &str, count: usize) -> Value {
    let text = format!("[the images in the results of the calls above, in order: {words}]");
    let mut parts = vec![json!({ "type": "text", "text": text })];
    parts.extend(vec![json!({ "type": "image_url", "image_url": { "url": URL } }); count]);
    json!({ "role": "user", "content": parts })
}

/// The message between results and images, which some endpoints demand.
fn bridge() -> Value {
    json!({ "role": "assistant", "content": "I have read these results." })
}

fn result(id: &str, text: &str) -> Value {
    json!({ "role": "tool", "tool_call_id": id, "content": text })
}

fn draw(id: &str) -> (&str, &str, Value) {
    (id, "odd__picture", json!({}))
}

/// A server with a model and the odd MCP server.
async fn serve_odd(endpoint: &Endpoint, folder: &Path, of_model: &str, of_odd: &str) -> TestServer {
    let odd = toml(folder, "", of_odd);
    serve_with(endpoint, &format!("{of_model}\n{odd}")).await
}

#[tokio::test]
async fn pictures_follow_behind_the_results_of_their_round() {
    let bash = ("c2", "bash", json!({ "command": "echo no picture" }));
    let scripts = vec![calls(&[draw("c1"), bash, draw("c3")]), says("a cat"), says("still a cat")];
    let endpoint = Endpoint::new(scripts).await;
    let folder = crate::support::folder();
    let server = serve_odd(&endpoint, folder.path(), "", "").await;
    let session = new_session(&server).await;
    assert_eq!(turn(&server, prompt(&session, "look")).await.final_text, "a cat");
    let text = "look\n[8 bytes of image/png]";
    let expected = [
        result("c1", text),
        result("c2", "no picture\n"),
        result("c3", text),
        bridge(),
        shown("1 of odd__picture (c1), 1 of odd__picture (c3)", 2),
    ];
    assert_eq!(endpoint.messages(1)[3..], expected);
    // The history has them, too.
    let server = server.restart().await;
    assert_eq!(turn(&server, prompt(&session, "and now?")).await.final_text, "still a cat");
    assert_eq!(endpoint.messages(2)[3..8], expected);
    assert_eq!(endpoint.messages(2).len(), 10);
}

#[tokio::test]
async fn the_pictures_of_a_task_are_shown_when_it_is_checked() {
    // One that ended at once could be told of before the model asks.
    let waiting = ("c1", "odd__picture", json!({ "waits": true }));
    let endpoint = Endpoint::new(vec![calls(&[waiting])]).await;
    let folder = crate::support::folder();
    let server = serve_odd(&endpoint, folder.path(), "", "call_budget = '0s'").await;
    let session = new_session(&server).await;
    let playing = turn(&server, prompt(&session, "look"));
    let checking = async {
        endpoint.asked(2).await;
        std::fs::write(folder.path().join("go"), "").expect("written");
        let text = endpoint.messages(1)[3]["content"].as_str().expect("text").to_owned();
        let parked: Value = serde_json::from_str(&text).expect("JSON");
        let check = json!({ "background_id": parked["background_id"], "wait_seconds": 30 });
        endpoint.then(calls(&[("c2", "check_background_task", check)]));
        endpoint.then(says("a cat"));
    };
    let (answer, ()) = tokio::join!(playing, checking);
    assert_eq!(answer.final_text, "a cat");
    let messages = endpoint.messages(2);
    let text = messages[5]["content"].as_str().expect("text");
    let (begin, end) = text.rsplit_once("</callpark-data ").expect("a fence");
    assert!(begin.ends_with(">\nlook\n"), "{text}");
    assert!(end.ends_with(">\n[8 bytes of image/png]"), "it is named once: {text}");
    assert_eq!(messages[6], bridge());
    assert_eq!(messages[7], shown("1 of check_background_task (c2)", 1));
}

#[tokio::test]
async fn a_model_without_images_gets_a_text_note() {
    let endpoint = Endpoint::new(vec![calls(&[draw("c1")]), says("nice")]).await;
    let folder = crate::support::folder();
    let server = serve_odd(&endpoint, folder.path(), "pictures = false", "").await;
    let session = new_session(&server).await;
    let image = v1::Image { media_type: "image/png".into(), data: b"\x89PNG"[..].into() };
    let kind = Some(v1::content::Kind::Image(image));
    let attachments = vec![v1::Content { kind, ..Default::default() }];
    let request = v1::RunTurnRequest { attachments, ..prompt(&session, "look") };
    assert_eq!(turn(&server, request).await.final_text, "nice");
    let messages = endpoint.messages(1);
    assert_eq!(messages[1]["content"], "look\n\n[an attachment of 4 bytes of image/png]");
    assert_eq!(messages[3..], [result("c1", "look\n[8 bytes of image/png]")]);
}
