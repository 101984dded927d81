//! The client against a server that misbehaves on purpose. Each test is a script: the behaviour of
//! the server at each attempt, the result that the caller must receive, and the requests that the
//! server must receive.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot continue fails, in its helpers too"
)]

mod endpoints;
mod fake;
mod follow_ups;
mod leases;
mod pages;
mod parked;
mod proxy;
mod resume;
mod service;
mod session;
mod story;
mod tool;
mod turn;
mod unary;
mod watch;
