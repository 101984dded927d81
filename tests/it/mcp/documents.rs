//! The resources and the prompts of an MCP server, which are tools of callpark.

use serde_json::json;

use super::{list, odd, result, text};
use crate::support::v1;
use v1::content::Kind;

const READ: &str = "odd__read_resource";
const GET: &str = "odd__get_prompt";

#[tokio::test]
async fn a_server_with_resources_and_prompts_has_a_tool_for_each() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "library", "").await;
    let tools = list(&server).await.tools;
    let described = |name: &str| {
        let tool = tools.iter().find(|tool| tool.name == name).expect("a tool");
        assert!(tool.read_only && tool.idempotent && !tool.destructive, "{tool:?}");
        tool.description.clone()
    };
    let resources = "- \"file:///notes.txt\": \"The notes.\"\n- \"db://{table}\": \"table\"\n";
    assert!(described(READ).contains(resources));
    assert!(described(GET).contains("- \"review\"(change, tone?): \"Reviews a change.\""));

    let read = result(&server, "read_resource", json!({ "uri": "file:///notes.txt" })).await;
    assert_eq!((text(&read).as_str(), read.is_error), ("remember the milk\n", false));
    let read = result(&server, "read_resource", json!({ "uri": "file:///picture.png" })).await;
    assert!(matches!(&read.content[0].kind, Some(Kind::Image(image)) if image.data.len() == 8));
    let read = result(&server, "read_resource", json!({ "uri": "file:///nothing" })).await;
    assert!(read.is_error);
    assert!(read.error_message.contains("no such resource (-32002)"), "{}", read.error_message);
    let listed = result(&server, "read_resource", json!({})).await;
    assert_eq!(text(&listed), resources);

    let arguments = json!({ "name": "review", "arguments": { "change": "42" } });
    let got = result(&server, "get_prompt", arguments).await;
    assert_eq!(text(&got), "A review\n[user]: Review 42.");
}

#[tokio::test]
async fn a_server_without_resources_and_prompts_has_no_tools_for_them() {
    for (manner, more) in [("", ""), ("shelves", ""), ("library", "tools = ['echo']")] {
        let folder = crate::support::folder();
        let server = odd(folder.path(), manner, more).await;
        let tools = list(&server).await.tools;
        assert!(tools.iter().any(|tool| tool.name == "odd__echo"), "{manner}");
        assert!(tools.iter().all(|tool| tool.name != READ && tool.name != GET), "{manner}");
    }
}

#[tokio::test]
async fn a_link_keeps_what_the_server_says_about_the_document() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let answer = result(&server, "link", json!({})).await;
    let Some(Kind::Resource(resource)) = &answer.content[0].kind else { panic!("{answer:?}") };
    assert_eq!((resource.uri.as_str(), resource.body.as_ref()), ("file:///report.pdf", None));
    let link = resource.link.as_ref().expect("a description");
    assert_eq!((link.name.as_str(), link.title.as_str()), ("report", "Annual report"));
    assert_eq!((link.description.as_str(), link.size_bytes), ("For the board.", Some(512)));
    assert_eq!((&link.audience[..], link.priority), (&["user".to_owned()][..], Some(0.5)));
}
