//! The shim: a small process that owns the processes of calls, so that they outlive the server.
//!
//! A server starts one shim, or finds the one that an earlier server has left. It sends orders over a
//! Unix domain socket, and gets output, exits and refusals ([`message`]). The shim keeps what the server
//! has not acknowledged as durable: in memory up to a bound, beyond which a process blocks while a
//! server reads, and a file grows while none does. The next server gets a list of all runs, and adopts
//! those of live calls. A shim without runs and without a server exits. A server may limit the time for which the
//! runs go on without another word of it ([`deadline`]).
//!
//! | side | files |
//! | --- | --- |
//! | both | [`message`], [`deadline`], [`frame`], [`folder`] |
//! | operators | [`inspect`] |
//! | server | [`runner`], [`link`], [`followed`], [`run_inbox`] |
//! | shim | [`host`], [`hosted`], [`backlog`], [`spool`], [`delivered`] |

mod backlog;
mod deadline;
mod delivered;
mod error;
mod folder;
mod followed;
mod frame;
mod host;
mod hosted;
mod inspect;
mod link;
mod memory;
mod message;
mod run_inbox;
mod runner;
mod spool;

pub use error::ShimError;
pub use folder::ShimFolder;
pub use host::{HostOptions, host};
pub use inspect::{ShimReport, inspect_shims};
pub use link::ShimStatus;
pub use runner::{ShimProgram, ShimRunner};

/// The version of the protocol. A server speaks with shims of this version and of older ones.
const PROTOCOL: u32 = 1;
