//! The server as a whole: built from a configuration, it serves until it is stopped.

mod admin;
mod builder;
pub(crate) mod config;
mod error;
mod health;
mod listener;
mod server;
mod tls;

pub use builder::ServerBuilder;
pub use error::Error;
pub use server::Server;
