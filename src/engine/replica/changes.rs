//! The changes of other replicas, which wake those that watch a tenant or a session here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;

use crate::engine::{Shared, Watched};
use crate::store::RemoteChange;

/// Starts the task that wakes waiters, until the engine stops. Does nothing for a server that has its
/// store alone.
pub(in crate::engine) fn spawn(shared: &Arc<Shared>) {
    let Some(replicas) = shared.ownership.replicas() else { return };
    let mut changes = replicas.changes();
    let tracker = &shared.tracker;
    let shared = shared.clone();
    tracker.spawn(async move {
        let stopping = shared.stopping.clone();
        while let Some(Some(change)) = stopping.run_until_cancelled(changes.next()).await {
            match change {
                RemoteChange::Session(tenant, session_id) => {
                    let count = next_count(&shared);
                    for scope in [Watched::Tenant(tenant), Watched::Session(session_id)] {
                        shared.changes.publish(&scope, count);
                        shared.leases.publish(&scope, count);
                    }
                }
                RemoteChange::Everything => {
                    let count = next_count(&shared);
                    shared.changes.publish_to_all(count);
                    shared.leases.publish_to_all(count);
                }
            }
        }
    });
}

fn next_count(shared: &Shared) -> u64 {
    shared.change_count.fetch_add(1, Ordering::Relaxed) + 1
}
