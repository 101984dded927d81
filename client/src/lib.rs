//! The Rust client of callpark, a gRPC service that runs the tool calls of AI agents. A call that takes
//! longer than its budget is parked: it continues in the background, and its caller receives an id.
//!
//! # Overview
//!
//! A [`Client`] connects at its first call and is cheap to clone. Its methods are grouped into five
//! handles:
//!
//! | Handle | Type | Methods |
//! | --- | --- | --- |
//! | [`client.tools()`](Client::tools) | [`Tools`] | list tools, run a call, stream a call |
//! | [`client.tasks()`](Client::tasks) | [`Tasks`] | start, get, list, wait for, watch, cancel and delete background tasks, read their output |
//! | [`client.sessions()`](Client::sessions) | [`Sessions`] | create, get, list, update and close sessions, list their messages, stream their events |
//! | [`client.turns()`](Client::turns) | [`Turns`] | run, stream and cancel the turns of agents |
//! | [`client.follow_ups()`](Client::follow_ups) | [`FollowUps`] | consume the follow-ups of tasks that have ended, or list, lease, acknowledge and retry them |
//!
//! [`client.server_info()`](Client::server_info) returns the version and the bounds of the server, and
//! [`client.is_serving()`](Client::is_serving) its health.
//!
//! A method takes a builder such as [`RunTool`], or the message of the contract in [`v1`] that the
//! builder converts into. [`RunTool`] and [`RunTurn`] serve a run, a stream and a start in the
//! background alike. The answers are messages of the contract, with three additions: a parked call or
//! turn is a [`TaskHandle`], streams are `Stream`s, and errors are an [`Error`] with a [`Reason`].
//! Tasks and results have an [`EndReason`], which states why they ended.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use callpark_client::{
//!     Client, ClientOptions, OutputOptions, RunOutcome, RunTool, SessionEvents, SessionItem,
//!     TokenSource, WaitLimit, v1,
//! };
//! use futures::TryStreamExt as _;
//! use serde_json::json;
//!
//! # use callpark::{Config, Server, config::{Environment, LoadOptions}};
//! #
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let overrides = vec![
//! #     ("listen".to_owned(), "127.0.0.1:0".to_owned()),
//! #     ("data-dir".to_owned(), folder.path().display().to_string()),
//! # ];
//! # let options = LoadOptions { config_file: None, overrides, environment: Environment::capture() };
//! # let app = Server::builder(Config::load(options)?.config).build().await?;
//! # let endpoint = format!("http://{}", app.addresses()[0]);
//! # let token_file = app.token_file().ok_or("no token file")?.to_owned();
//! # let stop = tokio_util::sync::CancellationToken::new();
//! # let server = tokio::spawn(app.run(stop.clone()));
//! let options = ClientOptions::new(endpoint) // such as http://127.0.0.1:50051
//!     .with_token(TokenSource::File(token_file));
//! let client = Client::new(options)?;
//!
//! // This call takes longer than its budget, so it is parked.
//! let request = RunTool::new("bash")
//!     .arguments(json!({ "command": "echo one; sleep 0.3; echo two" }))?
//!     .call_budget(Duration::from_millis(100));
//! let RunOutcome::Parked(task) = client.tools().run(request).await? else {
//!     panic!("it finished within its budget")
//! };
//!
//! // Follow its output, and wait until it has ended.
//! let mut output = task.output(OutputOptions::new());
//! let mut text = Vec::new();
//! while let Some(chunk) = output.try_next().await? {
//!     text.extend_from_slice(&chunk.data);
//! }
//! assert_eq!(text, b"one\ntwo\n");
//! let task = task.wait(WaitLimit::Unbounded).await?.task.unwrap_or_default();
//! assert_eq!(task.state(), v1::State::Succeeded);
//!
//! // The log of its session has every event. Without `follow`, the stream ends at the head.
//! let request = SessionEvents::new(task.session_id).follow(false);
//! let mut stream = client.sessions().events(request);
//! let mut sequences = Vec::new();
//! while let Some(item) = stream.try_next().await? {
//!     match item {
//!         SessionItem::Event(event) => sequences.push(event.sequence),
//!         SessionItem::Gap { from, to } => println!("{from} to {to} are no longer kept"),
//!         SessionItem::Resumed { .. } => println!("the connection was restored"),
//!         _ => {}
//!     }
//! }
//! assert!(sequences.is_sorted() && sequences.len() > 3);
//! # stop.cancel();
//! # server.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # Retries
//!
//! The client retries after UNAVAILABLE and after an interruption of the connection, and after nothing
//! else. Rate limits and all other codes are returned as an [`Error`] at once;
//! [`Error::retryable`] and [`Error::retry_delay`] help a caller that wants to retry itself.
//!
//! A retry never runs work twice. Requests that create or change something carry a `request_id`. If
//! the caller sets none, the client creates one and sends it with every attempt, so that the server
//! recognizes a request whose answer was lost.
//!
//! There are two budgets: [`start_attempts`](ClientOptions::start_attempts) for a call, or for a stream
//! before its first message, and [`resume_attempts`](ClientOptions::resume_attempts) for an established
//! stream or a long wait. Progress resets the second one. Delays double up to a limit, with jitter; a
//! delay that the server asks for takes precedence. [`ClientOptions::deadline`] limits a call over all
//! its attempts, and [`ClientOptions::on_retry`] reports each retry.
//!
//! # Endpoints
//!
//! [`ClientOptions::endpoints`] is a list. Its endpoints, and all addresses of each of its host names, must
//! be equal servers, any of which answers any request.
//!
//! - Requests take the endpoints that are connected in turn. The others are dialed beside the requests: at
//!   once when a connection is lost, then after a delay that grows from
//!   [`backoff`](ClientOptions::backoff) to [`backoff_max`](ClientOptions::backoff_max), with jitter. A name is
//!   resolved again before its addresses are dialed. Nothing is dialed without requests.
//! - A request waits for a connection only if there is none. It then dials all endpoints at the same time,
//!   takes the first one that answers, and fails if none does: one attempt, however many endpoints there
//!   are.
//! - A retry goes to an endpoint that the call has not tried, as long as there is one. It waits as with a
//!   single endpoint; only if the failed request was certainly not processed, it does not wait.
//! - The number of attempts, the delays and the deadline are those of a single endpoint.
//! - The error of a call that is given up names each endpoint with its failure, eight at most:
//!   [`Error::endpoint_failures`].
//! - Each endpoint with `https` must show a certificate for its own host, unless
//!   [`TlsOptions::server_name`] is set.
//!
//! ```
//! use callpark_client::{Client, ClientOptions};
//!
//! # fn main() -> Result<(), callpark_client::Error> {
//! let endpoints = ["http://10.0.0.1:50051", "http://10.0.0.2:50051"];
//! let client = Client::new(ClientOptions::default().with_endpoints(endpoints))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Streams
//!
//! Streams ([`SessionStream`], [`CallStream`], [`WatchStream`], [`OutputReader`]) survive interruptions,
//! restarts of the server and missed heartbeats. They resume after the last item, at another endpoint if
//! there is one, deliver each event once and in order, and report a gap in the log, or a log that was replaced, as an item of its own.
//!
//! # Follow-ups
//!
//! A follow-up is a record of a background task that has ended, which is to be delivered to an agent.
//! A [`FollowUpConsumer`] leases follow-ups, passes each to a handler, renews the lease while the
//! handler runs, and acknowledges the result. It also waits out rate limits.
//!
//! # Features
//!
//! - `json` (default): arguments of tools from `serde_json::json!`. Without it they are a
//!   [`prost_types::Struct`].

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

pub use callpark_proto::{
    google,
    v1::{self, EndReason},
};
pub use prost_types;
pub use secrecy::SecretString;
pub use tonic::Code;

pub use crate::{
    client::Client,
    error::{Details, EndpointFailure, Error, Origin, Reason, Resource, Violation},
    follow_up::{ConsumerReport, FollowUpConsumer, FollowUps},
    options::{
        ClientOptions, Compression, OnRetry, RetryBudget, RetryNotice, TlsOptions, TokenSource,
    },
    request::{
        AcknowledgeFollowUp, CancelTask, CancelTurn, CloseSession, CreateSession, DeleteTask,
        IntoArguments, LeaseFollowUps, ListFollowUps, ListMessages, ListSessions, ListTasks,
        ListTools, ReadOutput, RetryFollowUp, RunTool, RunTurn, SessionEvents, StartTask,
        UpdateSession, WatchTasks,
    },
    sessions::Sessions,
    stream::{CallStream, MessageStream, SessionItem, SessionStream, WatchItem, WatchStream},
    task::{OutputChunk, OutputOptions, OutputReader, TaskHandle, Tasks, WaitLimit},
    tools::{FinishedCall, RunOutcome, Tools},
    transport::{
        connect::{BoxIo, Connector, Io},
        fault::ConnectFault,
    },
    turns::{FinishedTurn, TurnOutcome, Turns},
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
