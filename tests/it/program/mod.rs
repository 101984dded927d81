//! The program as a process: its commands, its start and stop, and what a kill leaves.

mod addresses;
mod cli;
mod crash;
mod orphans;
mod server;
mod start;
mod stop;
mod terminal;
mod tls;
