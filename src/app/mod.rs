//! The server as a whole: built from a configuration, it serves until it is stopped.

mod access;
mod admin;
mod audit;
mod builder;
pub(crate) mod config;
mod error;
mod health;
mod in_use;
mod listener;
mod replicas;
mod secrets;
mod server;
mod shim;
mod store;
mod tls;
#[cfg(feature = "cli")]
mod vitals;

pub use builder::ServerBuilder;
pub use error::Error;
pub use server::Server;
#[cfg(feature = "cli")]
pub(crate) use shim::{shim_options, shims_folder};
#[cfg(all(feature = "cli", feature = "postgres"))]
pub(crate) use store::postgres_options;
#[cfg(feature = "cli")]
pub(crate) use vitals::Vitals;
