//! The memory that the runs of a shim have for output, beside the part of each run that is its own.

use std::sync::atomic::{AtomicU64, Ordering};

/// The size of the output in memory, of all runs together, up to which a run may have more than its own
/// part. In bytes.
const SHARED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A count of the output in memory, of all runs of a shim.
#[derive(Debug, Default)]
pub(super) struct OutputMemory(AtomicU64);

impl OutputMemory {
    /// Returns whether a run may have more than its own part.
    pub(super) fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < SHARED_BYTES_MAX
    }

    /// Adds to the count.
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes from the count what was added to it.
    pub(super) fn remove(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}
