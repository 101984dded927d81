//! The part of a replica in an engine: its lease, the sessions that it owns and takes over, and the
//! changes that others announce.

mod changes;
mod lease;
mod peers;
mod take_over;
pub(super) mod term;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Error, Shared};
use crate::store::{REPLICA_RESTART, Renewed, StoreError};

pub use peers::Peers;
pub(crate) use term::Ownership;

/// The time between the end of processes and the moment at which others may take their calls over.
const MARGIN: Duration = Duration::from_secs(1);

/// Takes the time of the store, and starts the tasks of a replica, until the engine has stopped. Does
/// nothing for a server that has its store alone.
pub(super) async fn join(shared: &Arc<Shared>) -> Result<(), Error> {
    let Some(replicas) = shared.ownership.replicas() else { return Ok(()) };
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
    let start = Instant::now();
    let left = match replicas.leave(restart).await {
        Ok(()) => Ok(()),
        Err(_) => replicas.leave(restart).await,
    };
    match left {
        // The processes end before others take the calls over.
        Ok(()) => shared.runner.keep_for(Some(restart.saturating_sub(start.elapsed() + MARGIN))),
        Err(error) => {
            tracing::warn!(%error, "the sessions of this server are free only when its lease runs out");
        }
    }
}
