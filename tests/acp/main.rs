//! Agents that speak ACP, through the port to agents, with real processes.

mod copilot;
mod faults;
mod support;
mod tools;
mod turns;
