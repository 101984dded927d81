//! Changes of the keys in a file, as a server that reads it sees them.

use std::sync::{Arc, Mutex, PoisonError};

use super::record::KeyRecord;
use super::verifier::{KeyVerifier, Keyring};
use crate::model::Timestamp;

/// A change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChange {
    /// The key was added.
    Added,
    /// The key was revoked.
    Revoked,
    /// The key was changed in another way.
    Changed,
    /// The key was taken out of the file.
    Removed,
}

/// A function that is called with each change of a key.
pub type KeyObserver = Arc<dyn Fn(KeyChange, &KeyRecord) + Send + Sync>;

/// The keys whose changes were reported.
pub(super) struct ReportedKeys {
    observer: KeyObserver,
    keyring: Mutex<Arc<Keyring>>,
}

impl KeyVerifier {
    /// Calls `observer` with each later change of the file, and with the keys that were created or revoked
    /// after `since`, when no server may have looked.
    pub(crate) fn observe(&mut self, observer: KeyObserver, since: Option<Timestamp>) {
        let keyring = self.keyring();
        if let Some(since) = since {
            for record in keyring.records() {
                if record.create_time > since {
                    observer(KeyChange::Added, record);
                }
                if record.revoke_time.is_some_and(|time| time > since) {
                    observer(KeyChange::Revoked, record);
                }
            }
        }
        self.reported = Some(ReportedKeys { observer, keyring: keyring.into() });
    }

    /// Reports how the keys that were just read differ from those that were read before.
    pub(super) fn report_changes(&self) {
        let Some(reported) = &self.reported else { return };
        let after = self.keyring();
        let mut keyring = reported.keyring.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *keyring, after.clone());
        drop(keyring);
        for record in after.records() {
            let change = match before.record(record) {
                None => KeyChange::Added,
                Some(known) if known == record => continue,
                Some(known) if known.revoke_time.is_none() && record.revoke_time.is_some() => {
                    KeyChange::Revoked
                }
                Some(_) => KeyChange::Changed,
            };
            (reported.observer)(change, record);
        }
        for record in before.records().filter(|record| after.record(record).is_none()) {
            (reported.observer)(KeyChange::Removed, record);
        }
    }
}
