//! The server as its users meet it: over the wire, with a real store and real processes.

#![expect(unreachable_pub, reason = "the support modules are a small library of this program")]
#![expect(clippy::expect_used, clippy::panic, reason = "that is how a test says what is wrong")]

mod support;

mod access;
mod admission;
mod audit;
mod calls;
mod compression;
mod descriptor;
mod error_reasons;
mod errors;
mod event_bounds;
mod faults;
mod follow_ups;
mod forward;
mod history;
mod http2;
mod idempotency;
mod in_process;
#[cfg(feature = "jwt")]
mod jwt;
mod keys;
mod mcp;
mod output;
mod park;
mod processes;
mod program;
mod quota;
mod required_ids;
mod secrets;
mod server_info;
mod sessions;
mod smoke;
mod streams;
mod tasks;
mod toolbox;
mod turns;
mod workload;
