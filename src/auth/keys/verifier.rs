//! Access with API keys.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use super::api_key::{KEY_PREFIX, KeyHash, KeyId};
use super::changes::ReportedKeys;
use super::file::{KeyFile, KeyFileError, KeyList};
use super::record::{KeyRecord, KeyState};
use crate::auth::file_version::FileVersion;
use crate::auth::{AuthError, Caller, Credentials, Verifier};
use crate::model::{Principal, Scope, Timestamp};

/// Accepts callers with a key of a file, which is read again when it changes.
pub struct KeyVerifier {
    pub(super) file: KeyFile,
    keyring: RwLock<Arc<Keyring>>,
    /// Held while the keys are replaced.
    replacing: Mutex<()>,
    /// The version of the file before it was read first, or `None` if there was none.
    pub(super) first_version: Option<FileVersion>,
    /// The keys whose changes were reported, or `None` without an observer.
    pub(super) reported: Option<ReportedKeys>,
}

/// The keys, as they were read together.
#[derive(Default)]
pub(super) struct Keyring {
    keys: HashMap<KeyHash, Arc<Key>>,
}

/// A key that is known to the server.
struct Key {
    record: KeyRecord,
    principal: Principal,
    /// The time of the last use in microseconds, or 0.
    last_use_micros: AtomicI64,
    /// The last use that was written down.
    recorded_micros: AtomicI64,
    /// Ends the requests of the key, once there has been one.
    ended: OnceLock<CancellationToken>,
}

impl Key {
    /// Creates a key, of which `before` is what was known, if it was known.
    fn new(record: KeyRecord, before: Option<&Self>) -> Self {
        let principal = Principal {
            tenant: record.tenant.clone(),
            name: record.name.as_str().into(),
            scopes: record.scopes,
        };
        let micros = |of: fn(&Self) -> &AtomicI64| {
            before.map_or(0, |key| of(key).load(Ordering::Relaxed)).into()
        };
        // The requests that are open go on, and so do those that are just being admitted.
        let ended = match before.filter(|key| key.allows(&record)) {
            Some(key) => key.ended().clone().into(),
            None => OnceLock::new(),
        };
        Self {
            record,
            principal,
            last_use_micros: micros(|key| &key.last_use_micros),
            recorded_micros: micros(|key| &key.recorded_micros),
            ended,
        }
    }

    /// Returns whether requests that this key has admitted may go on when it is changed to `record`.
    fn allows(&self, record: &KeyRecord) -> bool {
        let keeps = |scope: Scope| record.scopes.contains(scope);
        // Requests that are open know the end that the key had.
        let lasts = match (self.record.expire_time, record.expire_time) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(before), Some(after)) => after >= before,
        };
        record.revoke_time.is_none()
            && lasts
            && record.tenant == self.record.tenant
            && self.record.scopes.iter().all(keeps)
    }

    fn ended(&self) -> &CancellationToken {
        self.ended.get_or_init(CancellationToken::new)
    }

    fn caller(&self, now: Timestamp) -> Result<Caller, AuthError> {
        match self.record.state(now) {
            KeyState::Active => {}
            KeyState::Expired => return Err(AuthError::Expired),
            KeyState::Revoked => return Err(AuthError::Revoked),
        }
        let ended = self.ended().clone();
        if ended.is_cancelled() {
            // The key goes at this moment.
            return Err(AuthError::Revoked);
        }
        self.last_use_micros.fetch_max(now.as_micros(), Ordering::Relaxed);
        Ok(Caller {
            principal: self.principal.clone(),
            credential_id: Some(self.record.id.as_str().into()),
            expire_time: self.record.expire_time,
            ended: Some(ended),
        })
    }
}

impl Keyring {
    /// Returns the keys of a list. Those that are known and unchanged keep what is known of them.
    fn new(list: KeyList, before: &Self) -> Self {
        let key = |record: KeyRecord| match before.keys.get(&record.hash) {
            Some(key) if key.record == record => (record.hash, key.clone()),
            known => (record.hash, Arc::new(Key::new(record, known.map(|key| &**key)))),
        };
        Self { keys: list.records.into_iter().map(key).collect() }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.keys.values().map(|key| &key.record)
    }

    /// Returns what is known of the same key.
    pub(super) fn record(&self, record: &KeyRecord) -> Option<&KeyRecord> {
        self.keys.get(&record.hash).map(|key| &key.record)
    }

    /// Ends the requests of keys of which `after` has nothing, or another key that does not allow them.
    fn end_those_gone(&self, after: &Self) {
        for (hash, key) in &self.keys {
            let goes_on = after.keys.get(hash).is_some_and(|later| key.allows(&later.record));
            if !goes_on && key.record.revoke_time.is_none() {
                tracing::info!(key = %key.record.id, "an API key is not valid any more");
                key.ended().cancel();
            }
        }
    }
}

impl KeyVerifier {
    /// Reads the keys of a file, which need not exist.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or others could change it.
    pub fn open(file: KeyFile) -> Result<Self, KeyFileError> {
        // A later change is noticed.
        let first_version = FileVersion::of(file.path()).ok();
        let list = file.read()?;
        list.report(&file);
        let keyring = Arc::new(Keyring::new(list, &Keyring::default()));
        Ok(Self {
            file,
            keyring: keyring.into(),
            replacing: Mutex::default(),
            first_version,
            reported: None,
        })
    }

    /// Takes the keys of a list in the place of those that are known.
    pub(super) fn replace(&self, list: KeyList) {
        let _one_at_a_time = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        // A million keys take a second, for which no request waits.
        let before = self.keyring();
        let after = Arc::new(Keyring::new(list, &before));
        let mut keyring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        *keyring = after.clone();
        drop(keyring);
        before.end_those_gone(&after);
    }

    /// Calls `record` with the last uses that were not written down, and takes note if it has done so.
    pub(super) fn record_uses<E>(
        &self,
        record: impl FnOnce(&[(KeyId, Timestamp)]) -> Result<(), E>,
    ) -> Result<(), E> {
        let keyring = self.keyring();
        let used = |key: &Arc<Key>| {
            let last = key.last_use_micros.load(Ordering::Relaxed);
            let is_new = last > key.recorded_micros.load(Ordering::Relaxed);
            is_new.then(|| (key.clone(), last))
        };
        let used: Vec<(Arc<Key>, i64)> = keyring.keys.values().filter_map(used).collect();
        if used.is_empty() {
            return Ok(());
        }
        let id = |key: &Key| key.record.id.clone();
        let uses: Vec<(KeyId, Timestamp)> =
            used.iter().map(|(key, last)| (id(key), Timestamp::from_micros(*last))).collect();
        record(&uses)?;
        for (key, last) in used {
            key.recorded_micros.fetch_max(last, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn keyring(&self) -> Arc<Keyring> {
        self.keyring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Verifier for KeyVerifier {
    fn verify(&self, credentials: &Credentials<'_>) -> Option<Result<Caller, AuthError>> {
        let text = credentials.bearer().filter(|text| text.starts_with(KEY_PREFIX))?;
        // The time of the lookup reveals nothing: a caller that can choose a hash knows the key.
        let hash = KeyHash::of(text);
        let key = self.keyring().keys.get(&hash).cloned().ok_or(AuthError::Invalid);
        Some(key.and_then(|key| key.caller(credentials.time)))
    }
}
