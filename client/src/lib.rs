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
//! - A stream ([`Client::stream_session`], [`Client::stream_tool`], [`Client::watch`]) goes on after
//!   cuts, restarts of the server, drains and missed heartbeats. Each event is handed out once, in
//!   order; a hole in the log or another log is an item of its own.
//! - A parked call is a [`ParkedCall`]: wait for it, for any time, cancel it, follow its output.
//!
//! ```no_run
//! use callpark_client::{Client, ClientOptions, RunOutcome, v1};
//! use futures::StreamExt as _;
//!
//! # async fn example() -> Result<(), callpark_client::Error> {
//! let client = Client::new(ClientOptions {
//!     endpoint: "http://127.0.0.1:50051".to_owned(),
//!     ..ClientOptions::default()
//! })?;
//!
//! let request = v1::RunToolRequest { tool: "build".to_owned(), ..Default::default() };
//! match client.run_tool(request).await? {
//!     RunOutcome::Finished(call) => println!("{:?}", call.result.content),
//!     RunOutcome::Parked(call) => {
//!         println!("{} goes on in the background", call.background_id());
//!         let mut output = call.output(Default::default());
//!         while let Some(chunk) = output.next().await {
//!             print!("{}", String::from_utf8_lossy(&chunk?.data));
//!         }
//!         let answer = call.wait(None).await?;
//!         println!("{:?}", answer.task);
//!     }
//!     RunOutcome::Checked(_) => println!("nothing was started"),
//! }
//! # Ok(())
//! # }
//! ```

mod advice;
mod call;
mod client;
mod connect;
mod error;
mod follow;
mod log;
mod options;
mod output;
mod parked;
mod retry;
mod session_stream;
mod token;
mod tool_stream;
mod unary;
mod wait_many;
mod watch;

pub use callpark_proto::{google, v1};
pub use prost_types;
pub use secrecy::SecretString;
pub use tonic::Code;

pub use crate::{
    client::Client,
    connect::{BoxIo, Connector, Io},
    error::{Details, Error, Origin, Resource, Violation},
    options::{ClientOptions, OnRetry, RetryNotice, TlsOptions, TokenSource},
    output::{OutputChunk, OutputOptions, OutputReader},
    parked::{FinishedCall, ParkedCall, RunOutcome},
    retry::Budget,
    session_stream::{SessionItem, SessionStream},
    tool_stream::ToolStream,
    watch::{WatchItem, WatchStream},
};
