//! callpark runs the tool calls and sessions of AI agents as durable, observable work.
//!
//! A call that outlasts its budget is parked, never cancelled: its caller gets a background id
//! and goes on. Writes go through the session's actor, reads come from the log. ARCHITECTURE.md
//! tells how the floors below fit together.

pub mod auth;
pub mod exec;
pub mod model;
pub mod store;
pub mod tool;
