//! Agents that speak ACP, through the port to agents, with real processes.

#![expect(clippy::expect_used, clippy::panic, reason = "that is how a test says what is wrong")]

mod faults;
mod support;
mod tools;
mod turns;
