//! Metrics of models and of MCP servers.

use serde_json::json;

use super::*;
use crate::mcp::toml;
use crate::support::streams::new_session;

#[tokio::test]
async fn requests_tokens_and_starts_are_counted_by_name() {
    let failing = Script::Status(503, vec![], "{}".into());
    let listing = calls(&[("c1", "odd__echo", json!({ "text": "x" }))]);
    let endpoint = Endpoint::new(vec![failing, listing, says("done")]).await;
    let folder = crate::support::folder();
    let gone = "[[mcp_servers]]\nname = 'gone'\nargv = ['no-such-program']\n";
    let toml = config(&endpoint, &format!("{}\n{gone}", toml(folder.path(), "", "")));
    let settings = [("model-retry-delay", "20ms"), ("admin-listen", "127.0.0.1:0")];
    let server = TestServer::with_config(&toml, &settings).await;
    let session = new_session(&server).await;
    assert_eq!(turn(&server, prompt(&session, "go")).await.final_text, "done");
    check_counts(
        &server,
        &[
            r#"callpark_model_requests_total{model="main",outcome="ok"} 2"#,
            r#"callpark_model_requests_total{model="main",outcome="model_unavailable"} 1"#,
            r#"callpark_model_tokens_total{model="main",direction="input"} 200"#,
            r#"callpark_model_tokens_total{model="main",direction="cached_input"} 80"#,
            r#"callpark_model_tokens_total{model="main",direction="output"} 20"#,
            r#"callpark_mcp_starts_total{server="odd",outcome="started"} 1"#,
            r#"callpark_mcp_starts_total{server="gone",outcome="failed"} 1"#,
        ],
    )
    .await;
}
