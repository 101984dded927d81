//! Access with API keys.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::api_key::{KEY_PREFIX, KeyHash, KeyId};
use super::file::{KeyFile, KeyFileError, KeyList};
use super::last_use::LastUses;
use super::record::{KeyRecord, KeyState};
use crate::auth::{AuthError, Caller, Credentials, Verifier};
use crate::model::{Principal, Timestamp};

/// The time between two looks at the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The number of looks after which the last uses of keys are written down: a minute.
const LOOKS_PER_RECORD: u32 = 60;

/// Accepts callers with a key of a file, which is read again when it changes.
pub struct KeyVerifier {
    file: KeyFile,
    state: RwLock<State>,
}

/// The keys, as they were last read.
#[derive(Default)]
struct State {
    keys: HashMap<KeyHash, Arc<Key>>,
    /// The keys with an end that has not come, the next one last.
    expiring: Vec<(Timestamp, KeyHash)>,
    /// What the file was when it was read.
    version: Version,
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

/// The properties of a file that change with its content: it is replaced, never written to.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Version(Option<(u64, u64, u64, i64, i64)>);

impl Version {
    fn of(file: &KeyFile) -> io::Result<Self> {
        let of =
            |meta: Metadata| (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        match std::fs::metadata(file.path()) {
            Ok(metadata) => Ok(Self(Some(of(metadata)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }
}

impl Key {
    fn new(record: KeyRecord) -> Self {
        let principal =
            Principal { tenant: record.tenant.clone(), name: record.name.as_str().into() };
        Self {
            record,
            principal,
            last_use_micros: AtomicI64::default(),
            recorded_micros: AtomicI64::default(),
            ended: OnceLock::new(),
        }
    }

    fn last_use(&self) -> AtomicI64 {
        self.last_use_micros.load(Ordering::Relaxed).into()
    }

    /// Ends the requests of the key.
    fn end(&self) {
        if let Some(ended) = self.ended.get() {
            ended.cancel();
        }
    }

    fn caller(&self, now: Timestamp) -> Result<Caller, AuthError> {
        match self.record.state(now) {
            KeyState::Active => {}
            KeyState::Expired => return Err(AuthError::Expired),
            KeyState::Revoked => return Err(AuthError::Revoked),
        }
        self.last_use_micros.fetch_max(now.as_micros(), Ordering::Relaxed);
        Ok(Caller {
            principal: self.principal.clone(),
            scopes: self.record.scopes,
            credential_id: Some(self.record.id.as_str().into()),
            expire_time: self.record.expire_time,
            ended: Some(self.ended.get_or_init(CancellationToken::new).clone()),
        })
    }
}

impl KeyVerifier {
    /// Reads the keys of a file, which need not exist.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or others could change it.
    pub fn open(file: KeyFile) -> Result<Self, KeyFileError> {
        let verifier = Self { file, state: RwLock::default() };
        verifier.read()?;
        Ok(verifier)
    }

    /// Reads the file again.
    fn read(&self) -> Result<(), KeyFileError> {
        // A change between the two is seen at the next look.
        let version = Version::of(&self.file).unwrap_or_default();
        let list = self.file.read()?;
        for (line, reason) in &list.unreadable {
            let file = self.file.path().display();
            tracing::warn!(%file, line, reason, "a line is not an API key, and admits no caller");
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.replace(list, version);
        Ok(())
    }

    /// Reads the file again when it changes, ends the requests of keys that are revoked or expire, and
    /// writes down the last uses of keys, until `over` is cancelled. `now` returns the time.
    pub(crate) async fn keep_up(
        self: Arc<Self>,
        now: impl Fn() -> Timestamp,
        over: CancellationToken,
    ) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for count in 1_u32.. {
            let is_over = tokio::select! {
                _ = looks.tick() => false,
                () = over.cancelled() => true,
            };
            let (verifier, now) = (self.clone(), now());
            let records = is_over || count % LOOKS_PER_RECORD == 0;
            // A large file takes a second to read.
            let looked = tokio::task::spawn_blocking(move || verifier.look(now, records)).await;
            if looked.is_err() {
                tracing::error!("the look at the file of API keys panicked");
            }
            if is_over {
                return;
            }
        }
    }

    fn look(&self, now: Timestamp, records: bool) {
        let file = self.file.path().display();
        let known = self.state.read().unwrap_or_else(PoisonError::into_inner).version;
        match Version::of(&self.file) {
            Ok(version) if version == known => {}
            Ok(_) => match self.read() {
                Ok(()) => tracing::info!(%file, "the API keys were read again"),
                // Without what it says, nobody can be let in.
                Err(error) => {
                    tracing::error!(%error, "the API keys admit no caller");
                    let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                    state.replace(KeyList::default(), Version::of(&self.file).unwrap_or_default());
                }
            },
            Err(error) => tracing::warn!(%file, %error, "the file of API keys cannot be seen"),
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.end_expired(now);
        drop(state);
        if records && let Err(error) = self.record_uses() {
            tracing::warn!(%file, %error, "the last uses of API keys cannot be written down");
        }
    }

    fn record_uses(&self) -> io::Result<()> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let used = |key: &Arc<Key>| {
            let last = key.last_use_micros.load(Ordering::Relaxed);
            let is_new = last > key.recorded_micros.load(Ordering::Relaxed);
            is_new.then(|| (key.clone(), last))
        };
        let used: Vec<(Arc<Key>, i64)> = state.keys.values().filter_map(used).collect();
        drop(state);
        if used.is_empty() {
            return Ok(());
        }
        let id = |key: &Key| key.record.id.clone();
        let uses: Vec<(KeyId, Timestamp)> =
            used.iter().map(|(key, last)| (id(key), Timestamp::from_micros(*last))).collect();
        LastUses::add(&self.file, &uses)?;
        for (key, last) in used {
            key.recorded_micros.fetch_max(last, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl State {
    /// Takes the keys of a list. Those that are known and unchanged keep what is known of them; the
    /// requests of others end.
    fn replace(&mut self, list: KeyList, version: Version) {
        let mut before = std::mem::take(&mut self.keys);
        for record in list.records {
            let hash = record.hash;
            let key = match before.remove(&hash) {
                Some(key) if key.record == record => key,
                Some(changed) => {
                    changed.end();
                    Arc::new(Key { last_use_micros: changed.last_use(), ..Key::new(record) })
                }
                None => Arc::new(Key::new(record)),
            };
            self.keys.insert(hash, key);
        }
        before.values().for_each(|key| key.end());
        let end = |key: &Arc<Key>| Some((key.record.expire_time?, key.record.hash));
        self.expiring = self.keys.values().filter_map(end).collect();
        self.expiring.sort_unstable_by_key(|(time, _)| std::cmp::Reverse(*time));
        self.version = version;
    }

    fn end_expired(&mut self, now: Timestamp) {
        while let Some((_, hash)) = self.expiring.pop_if(|(time, _)| *time <= now) {
            if let Some(key) = self.keys.get(&hash) {
                key.end();
            }
        }
    }
}

impl Verifier for KeyVerifier {
    fn verify(&self, credentials: &Credentials<'_>) -> Option<Result<Caller, AuthError>> {
        let text = credentials.bearer().filter(|text| text.starts_with(KEY_PREFIX))?;
        // The time of the lookup says nothing: whoever can choose a hash knows the key.
        let hash = KeyHash::of(text);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let key = state.keys.get(&hash).cloned();
        drop(state);
        let key = key.ok_or(AuthError::Invalid);
        Some(key.and_then(|key| key.caller(credentials.time)))
    }
}
