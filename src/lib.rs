//! callpark runs the tool calls and sessions of AI agents as durable, observable work.
//!
//! A call that outlasts its budget is parked, never cancelled: its caller gets a background id
//! and goes on. Writes go through the session's actor, reads come from the log. ARCHITECTURE.md
//! tells how the floors fit together; [`app::App`] is the server as a whole.

pub mod acp;
pub mod agent;
pub mod app;
pub mod auth;
pub mod cli;
pub mod engine;
pub mod exec;
pub mod machine;
pub mod mcp;
pub mod model;
pub mod rpc;
pub mod store;
mod sync;
pub mod telemetry;
pub mod tool;
