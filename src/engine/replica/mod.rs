//! The part of a replica in an engine: its lease, the sessions that it owns and takes over, and what it
//! hears of others.

mod changes;
mod lease;
mod peers;
mod take_over;
mod term;

use std::sync::Arc;

use super::Shared;

pub use peers::Peers;
pub(crate) use term::{Ownership, Term};

/// Starts the tasks of a replica, until the engine has stopped. Does nothing for a server that has its
/// store alone.
pub(super) fn spawn(shared: &Arc<Shared>) {
    lease::spawn(shared);
    changes::spawn(shared);
}
