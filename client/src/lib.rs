//! A client of callpark, a gRPC service that runs the tool calls of AI agents and parks the slow
//! ones.
//!
//! [`Client`] has a method for each RPC that runs tools, holds sessions and handles background
//! tasks. It connects at the first call, sends every call again that is safe to repeat, and resumes
//! streams where they were cut:
//!
//! - A call is sent again after UNAVAILABLE and after a cut of the connection, and after nothing
//!   else. Rate limits and every other code come back as an [`Error`] at once. A `request_id` that
//!   the caller left empty is made by the client and kept over all tries, so that a call whose answer
//!   was lost never runs twice.
//! - A stream ([`Client::stream_session`], [`Client::stream_tool`], [`Client::stream_turn`],
//!   [`Client::watch`]) goes on after
//!   cuts, restarts of the server, drains and missed heartbeats. Each event is handed out once, in
//!   order; a hole in the log or another log is an item of its own.
//! - A parked call is a [`ParkedCall`]: wait for it, for any time, cancel it, follow its output.
//! - [`FollowUps`] hears of tasks that ended: it leases their follow-ups, hands each to a handler,
//!   renews its lease meanwhile and acknowledges it. It alone waits rate limits out.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use callpark_client::{Client, ClientOptions, OutputOptions, RunOutcome, SessionItem, TokenSource, v1};
//! use futures::TryStreamExt as _;
//! use prost_types::{Duration, Struct, Value, value::Kind};
//!
//! # use callpark::app::{App, config::{Config, Environment, LoadOptions}};
//! #
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let overrides = vec![
//! #     ("listen".to_owned(), "127.0.0.1:0".to_owned()),
//! #     ("data-dir".to_owned(), folder.path().display().to_string()),
//! # ];
//! # let options = LoadOptions { config_file: None, overrides, environment: Environment::capture() };
//! # let app = App::build(Config::load(options)?.config).await?;
//! # let endpoint = format!("http://{}", app.addresses()[0]);
//! # let token_file = app.token_file().ok_or("no token file")?.to_owned();
//! # let stop = tokio_util::sync::CancellationToken::new();
//! # let server = tokio::spawn(app.run(stop.clone()));
//! let client = Client::new(ClientOptions {
//!     endpoint, // such as http://127.0.0.1:50051
//!     token: TokenSource::File(token_file),
//!     ..ClientOptions::default()
//! })?;
//!
//! // A call that outlasts its budget is parked: it goes on, and has an id.
//! let command = Kind::StringValue("echo one; sleep 0.3; echo two".to_owned());
//! let fields = BTreeMap::from([("command".to_owned(), Value { kind: Some(command) })]);
//! let request = v1::RunToolRequest {
//!     tool: "bash".to_owned(),
//!     arguments: Some(Struct { fields }),
//!     call_budget: Some(Duration { seconds: 0, nanos: 100_000_000 }),
//!     ..v1::RunToolRequest::default()
//! };
//! let RunOutcome::Parked(parked) = client.run_tool(request).await? else { panic!("it was quick") };
//!
//! // Its output can be followed, and its end waited for, for any time.
//! let mut output = parked.output(OutputOptions::default());
//! let mut text = Vec::new();
//! while let Some(chunk) = output.try_next().await? {
//!     text.extend_from_slice(&chunk.data);
//! }
//! assert_eq!(text, b"one\ntwo\n");
//! let task = parked.wait(None).await?.task.unwrap_or_default();
//! assert_eq!(task.state(), v1::State::Succeeded);
//!
//! // What has happened is in the log of its session. Without `follow`, a stream ends at the head.
//! let request = v1::StreamSessionRequest {
//!     session_id: task.session_id,
//!     follow: Some(false),
//!     ..v1::StreamSessionRequest::default()
//! };
//! let mut stream = client.stream_session(request);
//! let mut sequences = Vec::new();
//! while let Some(item) = stream.try_next().await? {
//!     match item {
//!         SessionItem::Event(event) => sequences.push(event.sequence),
//!         SessionItem::Gap { from, to } => println!("{from} to {to} are no longer kept"),
//!         SessionItem::Resumed { .. } => println!("the connection was lost, and is back"),
//!         _ => {}
//!     }
//! }
//! assert!(sequences.is_sorted() && sequences.len() > 3);
//! # stop.cancel();
//! # server.await??;
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod follow_up;
mod options;
mod request;
mod sessions;
mod stream;
mod task;
mod tools;
mod transport;
mod turns;

pub use callpark_proto::{google, v1};
pub use prost_types;
pub use secrecy::SecretString;
pub use tonic::Code;

pub use crate::{
    client::Client,
    error::{Details, Error, Origin, Reason, Resource, Violation},
    follow_up::{ConsumerReport, FollowUpConsumer, FollowUps},
    options::{ClientOptions, OnRetry, RetryBudget, RetryNotice, TlsOptions, TokenSource},
    request::{
        AcknowledgeFollowUp, CancelTask, CancelTurn, CloseSession, CreateSession, DeleteTask,
        IntoArguments, LeaseFollowUps, ListFollowUps, ListSessions, ListTasks, ListTools,
        ReadOutput, ResolveApproval, RetryFollowUp, RunTool, RunTurn, SessionEvents, StartTask,
        WatchTasks,
    },
    sessions::Sessions,
    stream::{CallStream, SessionItem, SessionStream, WatchItem, WatchStream},
    task::{OutputChunk, OutputOptions, OutputReader, TaskHandle, Tasks, WaitLimit},
    tools::{FinishedCall, RunOutcome, Tools},
    transport::connect::{BoxIo, Connector, Io},
    turns::Turns,
};
