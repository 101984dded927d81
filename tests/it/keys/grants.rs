//! The tools and models that callers are given.

use callpark::model::{Scope, Scopes};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Key, Keys, all_but};
use crate::support::{soon, v1};
use crate::turns::{Endpoint, calls, config, says};

const GRANTS: &str = r#"
[[models]]
name = "large"
endpoint = "http://127.0.0.1:9"
model = "fake-2"

[[tools]]
name = "files_read"
description = "Reads."
argv = ["true"]

[[grants]]
name = "shops"
tenants = ["shop-*"]
tools = ["files_*", "python"]
models = ["main"]

[[grants]]
name = "operators"
scopes = ["admin"]
tools = ["*"]
models = ["*"]
"#;

/// A server with a model that answers, and one that does not.
async fn serve() -> (Keys, Endpoint) {
    let endpoint = Endpoint::new(Vec::new()).await;
    let keys = Keys::with_config(&config(&endpoint, GRANTS)).await;
    (keys, endpoint)
}

async fn tools_of(key: &Key) -> Vec<String> {
    let mut tools = key.clients.tools.clone();
    let listed = tools.list_tools(v1::ListToolsRequest::default()).await.expect("tools");
    let mut names: Vec<_> = listed.into_inner().tools.into_iter().map(|tool| tool.name).collect();
    names.sort_unstable();
    names
}

fn reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().expect("an ErrorInfo");
    (status.code(), info.reason)
}

async fn run(key: &Key, tool: &str) -> Result<v1::RunToolResponse, Status> {
    let request = v1::RunToolRequest { tool: tool.into(), ..Default::default() };
    let answer = key.clients.tools.clone().run_tool(request).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn callers_have_the_tools_that_they_are_given() {
    let (keys, _endpoint) = serve().await;
    let shop = keys.create("shop-1", all_but(Scope::Admin)).await;
    let other = keys.create("acme", all_but(Scope::Admin)).await;
    let admin = keys.create("acme", Scopes::ALL).await;
    assert_eq!(tools_of(&shop).await, ["files_read", "python"]);
    assert_eq!(tools_of(&other).await, Vec::<String>::new());
    assert_eq!(tools_of(&admin).await, ["bash", "files_read", "python"]);

    run(&shop, "files_read").await.expect("a call");
    run(&admin, "files_read").await.expect("a call");
    // As if there were no such tool.
    let unknown = run(&shop, "none").await.expect_err("no such tool");
    let refused = run(&shop, "bash").await.expect_err("of others");
    assert_eq!(reason(&refused), (Code::NotFound, "TOOL_NOT_FOUND".into()));
    let as_unknown = |text: &str| text.replace("`none`", "`bash`");
    assert_eq!(as_unknown(unknown.message()), refused.message());
    let named = |status: &Status| status.get_details_resource_info().expect("a resource").owner;
    assert_eq!(named(&unknown), named(&refused));

    let session = |names: &[&str]| v1::CreateSessionRequest {
        allowed_tools: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let mut tools = shop.clients.tools.clone();
    let refused = tools.create_session(session(&["python", "bash"])).await.expect_err("of others");
    assert_eq!(reason(&refused), (Code::NotFound, "TOOL_NOT_FOUND".into()));
    tools.create_session(session(&["python"])).await.expect("a session");
}

#[tokio::test]
async fn turns_have_the_models_and_tools_that_their_tenant_is_given() {
    let (keys, endpoint) = serve().await;
    let shop = keys.create("shop-1", all_but(Scope::Admin)).await;
    let admin = keys.create("shop-2", Scopes::ALL).await;
    let turn = async |key: &Key, model: &str| {
        let request =
            v1::RunTurnRequest { prompt: "go".into(), model: model.into(), ..Default::default() };
        let answer = soon("a turn", key.clients.tools.clone().run_turn(request)).await;
        answer.map(tonic::Response::into_inner)
    };
    let refused = turn(&shop, "large").await.expect_err("of others");
    assert_eq!(reason(&refused), (Code::NotFound, "MODEL_NOT_FOUND".into()));
    // It lists the caller's own models.
    assert!(refused.message().ends_with("this server has main"), "{refused}");
    let unknown = turn(&shop, "none").await.expect_err("no such model");
    assert_eq!(unknown.message().replace("none", "large"), refused.message());
    let named =
        |model: &str| v1::CreateSessionRequest { model: model.into(), ..Default::default() };
    for model in ["large", "none"] {
        let refused = shop.clients.tools.clone().create_session(named(model)).await;
        assert_eq!(reason(&refused.expect_err("of others")).1, "MODEL_NOT_FOUND");
    }
    let named = named("large");
    admin.clients.tools.clone().create_session(named).await.expect("a session");

    // A model works for the tenant, also when its caller may do more.
    for key in [&shop, &admin] {
        // The model asks for a tool that it was not offered.
        endpoint.then(calls(&[("1", "bash", json!({ "command": "echo hi" }))]));
        endpoint.then(says("done"));
        turn(key, "main").await.expect("a turn");
        let request = endpoint.requests().pop().expect("a request");
        let result = request["messages"].as_array().expect("messages").last().expect("one");
        assert!(result.to_string().contains("there is no tool `bash`"), "{result}");
        let offered = request["tools"].as_array().expect("tools").iter();
        let names: Vec<_> = offered.map(|tool| tool["function"]["name"].clone()).collect();
        assert!(names.contains(&json!("files_read")), "{names:?}");
        assert!(!names.contains(&json!("bash")), "{names:?}");
    }
}
