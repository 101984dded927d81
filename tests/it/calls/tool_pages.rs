//! Lists of more tools than fit into one answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use callpark::tool::{CallableTool, FunctionTool, ToolOutput};
use callpark_client::{Client, ClientOptions, TokenSource};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::streams::new_session;
use crate::support::wire::bad_fields;
use crate::support::{Additions, TestServer, check_reason, soon, v1};

const TOOLS: usize = 300;

/// The size of an answer that any gRPC client accepts by default.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The size that a page does not exceed.
const PAGE_BYTES_MAX: usize = 2 << 20;

fn name_of(index: usize) -> String {
    format!("tool-{index:03}")
}

/// A tool with a schema of 20 KB.
fn large_tool(index: usize) -> Arc<dyn CallableTool> {
    let text = "x".repeat(10_000);
    let schema = json!({ "type": "object", "description": text });
    FunctionTool::new(name_of(index))
        .description("Does nothing.")
        .input_schema(schema.clone())
        .output_schema(schema)
        .run(|_: Value, _| async { Ok(ToolOutput::default()) })
}

async fn serve() -> TestServer {
    let tools = (0..TOOLS).map(large_tool).collect();
    TestServer::with_more(Additions { tools, ..Additions::default() }, &[]).await
}

async fn page(
    server: &TestServer,
    request: &v1::ListToolsRequest,
) -> Result<v1::ListToolsResponse, Status> {
    let mut tools = server.tools.clone().max_decoding_message_size(ANSWER_BYTES_MAX);
    let answer = soon("a page", tools.list_tools(request.clone())).await?.into_inner();
    let bytes = answer.encoded_len();
    assert!(bytes <= PAGE_BYTES_MAX + 1_024, "a page of {bytes} bytes");
    Ok(answer)
}

/// All pages from the one of the request on, and their sizes.
async fn pages(
    server: &TestServer,
    mut request: v1::ListToolsRequest,
) -> (Vec<v1::Tool>, Vec<usize>) {
    let (mut tools, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let answer = page(server, &request).await.expect("a page");
        sizes.push(answer.tools.len());
        tools.extend(answer.tools);
        if answer.next_page_token.is_empty() {
            return (tools, sizes);
        }
        assert_ne!(answer.next_page_token, request.page_token, "the same page again");
        request.page_token = answer.next_page_token;
    }
}

/// Checks that every tool is there once, in the order of names. The server has some of its own.
#[track_caller]
fn check_complete(tools: &[v1::Tool]) {
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names, distinct.iter().copied().collect::<Vec<_>>(), "once each, sorted");
    for index in 0..TOOLS {
        assert!(distinct.contains(name_of(index).as_str()), "{index} is missing");
    }
    assert!(distinct.contains("bash"), "{names:?}");
}

#[tokio::test]
async fn tools_that_are_too_large_for_one_answer_come_in_pages() {
    let server = serve().await;
    let (tools, sizes) = pages(&server, v1::ListToolsRequest::default()).await;
    check_complete(&tools);
    assert!(sizes.len() >= 3, "6 MB of tools in {sizes:?}");
    let large = tools.iter().find(|tool| tool.name == name_of(7)).expect("a tool");
    for schema in [&large.input_schema, &large.output_schema] {
        assert!(schema.as_ref().is_some_and(|schema| schema.encoded_len() > 10_000));
    }
}

#[tokio::test]
async fn page_size_bounds_each_page_and_1000_is_the_most() {
    let server = serve().await;
    for (page_size, fitting) in [(7, 7), (100, 100)] {
        let request = v1::ListToolsRequest { page_size, ..Default::default() };
        let (tools, sizes) = pages(&server, request).await;
        check_complete(&tools);
        let (last, full) = sizes.split_last().expect("a page");
        assert!(full.iter().all(|size| *size == fitting), "{sizes:?}");
        assert!((1..=fitting).contains(last), "{sizes:?}");
    }
    let basic = v1::ToolView::Basic.into();
    for page_size in [0, 1_000, 1_001, i32::MAX] {
        let request = v1::ListToolsRequest { page_size, view: basic, ..Default::default() };
        let (tools, sizes) = pages(&server, request).await;
        check_complete(&tools);
        assert_eq!(sizes.len(), 1, "page_size {page_size}");
    }
    let negative = v1::ListToolsRequest { page_size: -1, ..Default::default() };
    let status = page(&server, &negative).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&status), ["page_size"]);
}

#[tokio::test]
async fn the_basic_view_leaves_out_the_schemas_and_nothing_else() {
    let server = serve().await;
    let (full, _) = pages(&server, v1::ListToolsRequest::default()).await;
    let request = v1::ListToolsRequest { view: v1::ToolView::Basic.into(), ..Default::default() };
    let (basic, sizes) = pages(&server, request).await;
    assert_eq!(sizes.len(), 1, "without schemas they fit into one answer");
    let without = |tool: v1::Tool| v1::Tool { input_schema: None, output_schema: None, ..tool };
    assert_eq!(basic, full.into_iter().map(without).collect::<Vec<_>>());
    let unknown = v1::ListToolsRequest { view: 9, ..Default::default() };
    let status = page(&server, &unknown).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&status), ["view"]);
}

#[tokio::test]
async fn a_token_is_good_for_its_session_only_and_for_every_view() {
    let server = serve().await;
    let (one, other) = (new_session(&server).await, new_session(&server).await);
    let first =
        v1::ListToolsRequest { session_id: one.clone(), page_size: 10, ..Default::default() };
    let answer = page(&server, &first).await.expect("a page");
    let token = answer.next_page_token;
    assert!(!token.is_empty());
    let damaged = [
        "x".to_owned(),
        "é".to_owned(),
        token[1..].to_owned(),
        token[..token.len() - 2].to_owned(),
        format!("{token}00"),
        token.to_uppercase() + "A0",
        "0".repeat(100_000),
    ];
    for page_token in damaged {
        let request = v1::ListToolsRequest { page_token, ..first.clone() };
        let status = page(&server, &request).await.expect_err("damaged");
        check_reason(&status, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        assert_eq!(bad_fields(&status), ["page_token"]);
    }
    for session_id in [other, String::new()] {
        let request =
            v1::ListToolsRequest { session_id, page_token: token.clone(), ..first.clone() };
        let status = page(&server, &request).await.expect_err("of another session");
        check_reason(&status, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
    // The page size and the view may change from page to page.
    let rest = v1::ListToolsRequest {
        page_token: token,
        page_size: 0,
        view: v1::ToolView::Basic.into(),
        ..first
    };
    let (rest, _) = pages(&server, rest).await;
    check_complete(&[answer.tools, rest].concat());
}

#[tokio::test]
async fn the_client_reads_all_pages() {
    let server = serve().await;
    let options = ClientOptions::new(server.endpoint.clone())
        .with_token(TokenSource::File(server.folder().join("token")));
    let client = Client::new(options).expect("a client");
    let all = soon("a list", client.tools().list()).await.expect("a list");
    check_complete(&all.tools);
    assert_eq!(all.next_page_token, "");
}
