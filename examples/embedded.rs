//! A program with a callpark server inside, which has a tool of the program's own.
//!
//! `cargo run --example embedded` starts the server, calls the tool through a client, and prints its
//! progress and its result.

use std::error::Error;

use callpark::config::AuthMode;
use callpark::model::Progress;
use callpark::tool::{FunctionTool, ToolOutput};
use callpark::{Config, Server};
use callpark_client::v1::{content, session_event::Payload, tool_call_finished::Outcome};
use callpark_client::{Client, ClientOptions, RunTool, SessionItem};
use futures::TryStreamExt as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let count = FunctionTool::new("count").description("Counts to three.").run(
        |_: Value, context| async move {
            for done in 1..=3 {
                let (done, total) = (f64::from(done), Some(3.0));
                context.progress(Progress { done, total, message: "counting".into() }).await;
            }
            Ok(ToolOutput::text("one, two, three"))
        },
    );

    let folder = tempfile::tempdir()?;
    let config = Config {
        listen: vec![([127, 0, 0, 1], 0).into()],
        data_dir: Some(folder.path().to_owned()),
        auth: AuthMode::None,
        ..Config::default()
    };
    let server = Server::builder(config).tool(count).build().await?;
    let endpoint = format!("http://{}", server.addresses()[0]);

    let stop = CancellationToken::new();
    let calling = async {
        let called = call(endpoint).await;
        stop.cancel();
        called
    };
    let (served, called) = tokio::join!(server.run(stop.clone()), calling);
    served?;
    called
}

/// Calls the tool and prints the events of its call.
async fn call(endpoint: String) -> Result<(), Box<dyn Error>> {
    let client = Client::new(ClientOptions::new(endpoint))?;
    let mut events = client.tools().stream(RunTool::new("count"));
    while let Some(item) = events.try_next().await? {
        let SessionItem::Event(event) = item else { continue };
        match event.payload {
            Some(Payload::ToolProgress(report)) => {
                let progress = report.progress.unwrap_or_default();
                println!("{} of {}", progress.done, progress.total.unwrap_or_default());
            }
            Some(Payload::ToolCallFinished(finished)) => {
                let Some(Outcome::Result(result)) = finished.outcome else { continue };
                let pieces = result.content.into_iter().filter_map(|content| content.kind);
                for piece in pieces {
                    if let content::Kind::Text(text) = piece {
                        println!("result: {text}");
                    }
                }
                return Ok(());
            }
            _ => {}
        }
    }
    Err("the call has no end".into())
}
