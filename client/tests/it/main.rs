//! The client against a server that misbehaves on purpose. Each test is a script: what the server
//! does at each try, what the caller must see of it, and what the server must have been asked.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on fails, in its helpers too"
)]

mod fake;
mod follow_ups;
mod leases;
mod parked;
mod resume;
mod service;
mod session;
mod story;
mod tool;
mod turn;
mod unary;
mod watch;
