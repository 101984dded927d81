//! The upkeep of a server's keys: changes of their file, and the record of their uses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::file::{KeyFileError, KeyList};
use super::last_use::LastUses;
use super::verifier::KeyVerifier;
use crate::auth::file_version::FileVersion;

/// The time between two looks at the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The number of looks after which the last uses of keys are written down: a minute.
const LOOKS_PER_RECORD: u32 = 60;

/// The number of looks in a row at which the file cannot be read, after which no key is accepted: one that was
/// revoked meanwhile would be.
const FAILED_LOOKS_MAX: u32 = 10;

/// The number of looks in a row at which the file has changed again, after which it is read all the same.
const UNSTEADY_LOOKS_MAX: u32 = 3;

/// The longest time that the last look may take when the server stops.
const LAST_LOOK_MAX: Duration = Duration::from_secs(2);

/// The upkeep of the keys of a verifier.
pub(crate) struct KeyUpkeep {
    verifier: Arc<KeyVerifier>,
    state: Mutex<FileState>,
}

/// The state of the file, as it was last seen.
struct FileState {
    /// The version that was read, or `None` if it is to be read again.
    read: Option<FileVersion>,
    /// The version at the last look.
    seen: Option<FileVersion>,
    /// The number of looks in a row at which the file had changed again.
    unsteady_looks: u32,
    /// The number of looks in a row at which the file could not be read.
    failed_looks: u32,
    /// `true` if no key is accepted until the file can be read.
    has_given_up: bool,
}

impl KeyUpkeep {
    /// Creates the upkeep of a verifier that has just read its file.
    pub(crate) fn new(verifier: Arc<KeyVerifier>) -> Self {
        let state = FileState {
            read: verifier.first_version,
            seen: verifier.first_version,
            unsteady_looks: 0,
            failed_looks: 0,
            has_given_up: false,
        };
        Self { verifier, state: state.into() }
    }

    /// Reads the file again when it changes, ends the requests of keys that are revoked, and writes down the
    /// last uses of keys, until `over` is cancelled.
    pub(crate) async fn run(self, over: CancellationToken) {
        let this = Arc::new(self);
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut look, mut busy_looks) = (None, 0);
        for count in 1_u32.. {
            let is_over = tokio::select! {
                _ = looks.tick() => false,
                () = over.cancelled() => true,
            };
            // One look at a time: the file may be on a disk that does not answer.
            let is_busy = |look: &tokio::task::JoinHandle<()>| !look.is_finished();
            if look.as_ref().is_some_and(is_busy) {
                if is_over {
                    return;
                }
                busy_looks += 1;
                if busy_looks == FAILED_LOOKS_MAX {
                    tracing::error!("no API key is accepted: their file does not answer");
                    this.verifier.replace(KeyList::default());
                }
                continue;
            }
            if busy_looks >= FAILED_LOOKS_MAX {
                this.state.lock().unwrap_or_else(PoisonError::into_inner).read = None;
            }
            busy_looks = 0;
            let records = is_over || count % LOOKS_PER_RECORD == 0;
            let upkeep = this.clone();
            let mut looking = tokio::task::spawn_blocking(move || upkeep.look(records));
            if is_over {
                if tokio::time::timeout(LAST_LOOK_MAX, &mut looking).await.is_err() {
                    tracing::warn!("the last uses of API keys were not written down in time");
                }
                return;
            }
            look = Some(looking);
        }
    }

    fn look(&self, records: bool) {
        let file = self.verifier.file.path().display();
        // Before keys go, and what is known of them.
        if records
            && let Err(error) =
                self.verifier.record_uses(|uses| LastUses::add(&self.verifier.file, uses))
        {
            tracing::warn!(%file, %error, "the last uses of API keys cannot be written down");
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let version = FileVersion::of(self.verifier.file.path()).ok();
        let is_steady = version == state.seen;
        state.seen = version;
        if version.is_some() && version == state.read {
            state.unsteady_looks = 0;
            return;
        }
        // A file that is being written is left until it stays the same, or changes all the time.
        if !is_steady && state.unsteady_looks < UNSTEADY_LOOKS_MAX {
            state.unsteady_looks += 1;
            return;
        }
        state.unsteady_looks = 0;
        match self.verifier.file.read() {
            Ok(list) => {
                (state.failed_looks, state.has_given_up) = (0, false);
                state.read = version;
                list.report(&self.verifier.file);
                tracing::info!(%file, keys = list.records.len(), "the API keys were read again");
                self.verifier.replace(list);
                self.verifier.report_changes();
            }
            Err(error) => self.read_failed(&mut state, &error),
        }
    }

    /// Notes that the file could not be read. It is tried again at each look.
    fn read_failed(&self, state: &mut FileState, error: &KeyFileError) {
        state.read = None;
        state.failed_looks = state.failed_looks.saturating_add(1);
        // What others could have changed says nothing about who may be admitted.
        let is_final = matches!(error, KeyFileError::Ownership(_));
        let has_ended = is_final || state.failed_looks >= FAILED_LOOKS_MAX;
        if state.failed_looks == 1 {
            tracing::error!(%error, "the API keys cannot be read again");
        }
        if has_ended && !std::mem::replace(&mut state.has_given_up, true) {
            tracing::error!(%error, "no API key is accepted until their file can be read");
            self.verifier.replace(KeyList::default());
        }
    }
}
