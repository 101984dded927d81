//! The part of a replica in an engine: its lease, the sessions that it owns and takes over, and what it
//! hears of others.

mod changes;
mod lease;
mod peers;
mod take_over;
mod term;

use std::sync::Arc;
use std::time::Duration;

use super::{Error, Shared};
use crate::store::{REPLICA_RESTART, Renewed, StoreError};

pub use peers::Peers;
pub(crate) use term::{Ownership, Term};

/// Takes the time of the store, and starts the tasks of a replica, until the engine has stopped. Does
/// nothing for a server that has its store alone.
pub(super) async fn join(shared: &Arc<Shared>) -> Result<(), Error> {
    let Some(replicas) = shared.ownership.replicas() else {
        // A server that was a replica may have set a limit.
        shared.runner.keep_for(None);
        return Ok(());
    };
    let others = match replicas.renew().await? {
        Renewed::Renewed { time, others } => {
            // The clocks of replicas differ, and what is due must be due for all of them.
            shared.time.set(time);
            others
        }
        Renewed::Dead => {
            let cause = "another server has declared this one dead at its start: start it again";
            return Err(StoreError::Unavailable(cause.to_owned()).into());
        }
    };
    lease::spawn(shared, others);
    changes::spawn(shared);
    Ok(())
}

/// Frees the sessions of a server that stops, but for those whose calls go on until it is back.
pub(super) async fn leave(shared: &Shared) {
    let Some(replicas) = shared.ownership.replicas() else { return };
    let restart = if shared.leaves_runs() { REPLICA_RESTART } else { Duration::ZERO };
    shared.runner.keep_for(Some(restart));
    if let Err(error) = replicas.leave(restart).await {
        tracing::warn!(%error, "the sessions of this server are free only when its lease runs out");
    }
}
