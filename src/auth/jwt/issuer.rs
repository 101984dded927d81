//! An issuer of tokens, and its keys.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt as _;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Validation};
use reqwest::{Client, Url};
use rustix::fs::OFlags;
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

use super::claims::{Claims, Refusal};
use super::config::{JwtAlgorithm, JwtIssuerConfig, KeySetPlace};
use super::fetch::{KEY_SET_BYTES_MAX, client, fetch};
use super::key_set::KeySet;
use crate::auth::file_version::FileVersion;
use crate::auth::{Caller, GuardedFile};
use crate::model::Timestamp;

/// The time between two looks at a file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The time after which a key set is fetched again.
const FETCH_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The shortest time between two fetches: when a token names an unknown key, or one has failed.
const FETCH_PAUSE: Duration = Duration::from_secs(30);

/// An issuer, with the keys that were last read or fetched.
pub(super) struct Issuer {
    pub(super) config: JwtIssuerConfig,
    keys: RwLock<KeySet>,
    source: Source,
}

/// The source of the keys.
enum Source {
    File {
        path: PathBuf,
        /// The version of the file that was read.
        version: Mutex<Option<FileVersion>>,
    },
    Url {
        client: Client,
        url: Url,
        /// Is notified when a token names an unknown key.
        wanted: Notify,
    },
}

impl Issuer {
    /// Reads the keys of an issuer, if they are in a file. Those behind a URL are fetched by
    /// [`Issuer::keep_up`].
    ///
    /// # Errors
    ///
    /// The file cannot be used. The error says why.
    pub(super) fn open(config: JwtIssuerConfig) -> Result<Self, String> {
        let source = match config.place()? {
            KeySetPlace::File(path) => Source::File { path, version: Mutex::default() },
            KeySetPlace::Url(url) => {
                Source::Url { client: client(&url)?, url, wanted: Notify::new() }
            }
        };
        let issuer = Self { config, keys: RwLock::default(), source };
        if let Source::File { path, version } = &issuer.source {
            let read = read_file(path, version);
            issuer.replace(read.map_err(|error| format!("{}: {error}", path.display()))?);
        }
        Ok(issuer)
    }

    /// Returns the caller with a token, of which the header and the issuer were read.
    pub(super) fn verify(
        &self,
        token: &str,
        algorithm: JwtAlgorithm,
        key_id: Option<&str>,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        if !self.config.algorithms.contains(&algorithm) {
            return Err(Refusal::Invalid("its algorithm is not one of the issuer"));
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = keys.find(key_id, algorithm).cloned() else {
            drop(keys);
            if let Source::Url { wanted, .. } = &self.source {
                wanted.notify_one();
            }
            return Err(Refusal::Invalid(
                "no key of the issuer, or not only one, is that of the token",
            ));
        };
        drop(keys);
        let claims = self.claims(token, algorithm, &key)?;
        Claims { claims: &claims, config: &self.config }.caller(now)
    }

    /// Returns the claims of a token with the right signature, issuer and audience.
    fn claims(
        &self,
        token: &str,
        algorithm: JwtAlgorithm,
        key: &DecodingKey,
    ) -> Result<Map<String, Value>, Refusal> {
        let mut validation = Validation::new(algorithm.algorithm());
        validation.set_issuer(std::slice::from_ref(&self.config.issuer));
        validation.set_audience(&self.config.audience);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Times are compared when everything else is right.
        validation.validate_exp = false;
        let token = jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation);
        token.map(|token| token.claims).map_err(|error| {
            Refusal::Invalid(match error.kind() {
                ErrorKind::InvalidSignature => "its signature is wrong",
                ErrorKind::InvalidAudience => "its aud is for others",
                ErrorKind::InvalidIssuer => "its iss is another",
                ErrorKind::MissingRequiredClaim(_) => "it has no exp, iss or aud",
                _ => "it is malformed",
            })
        })
    }

    fn replace(&self, keys: KeySet) {
        let issuer = &self.config.name;
        for (position, reason) in &keys.unusable {
            tracing::debug!(issuer, position, reason, "a key of an issuer of tokens is not used");
        }
        let (usable, unusable) = (keys.len(), keys.unusable.len());
        if usable == 0 {
            tracing::warn!(issuer, unusable, "no token is accepted: the key set has no usable key");
        } else {
            tracing::debug!(issuer, usable, unusable, "the key set of an issuer was read");
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Keeps the keys up to date until `over` is cancelled.
    pub(super) async fn keep_up(self: Arc<Self>, over: CancellationToken) {
        match &self.source {
            Source::File { .. } => self.follow_file(over).await,
            Source::Url { client, url, wanted } => {
                self.follow_url(client, url, wanted, over).await;
            }
        }
    }

    async fn follow_file(self: &Arc<Self>, over: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = over.cancelled() => return,
            }
            let issuer = self.clone();
            let looking = tokio::task::spawn_blocking(move || issuer.look());
            // The file may be on a disk that does not answer.
            tokio::select! {
                looked = looking => if looked.is_err() {
                    tracing::error!("the look at a key set panicked");
                },
                () = over.cancelled() => return,
            }
        }
    }

    /// Reads the file again if it has changed.
    fn look(&self) {
        let Source::File { path, version } = &self.source else { return };
        let (issuer, file) = (&self.config.name, path.display());
        let known = *version.lock().unwrap_or_else(PoisonError::into_inner);
        match FileVersion::of(path) {
            Ok(found) if known == Some(found) => {}
            Ok(_) => match read_file(path, version) {
                Ok(keys) => {
                    tracing::info!(issuer, %file, "the key set was read again");
                    self.replace(keys);
                }
                Err(FileError::Untrusted(error)) => {
                    tracing::error!(issuer, error, "no token of the issuer is accepted");
                    self.replace(KeySet::default());
                }
                Err(error @ (FileError::Unusable(_) | FileError::Failed(_))) => {
                    tracing::error!(issuer, %file, %error, "the last good key set stays in use");
                }
            },
            Err(error) => tracing::warn!(issuer, %file, %error, "the key set cannot be seen"),
        }
    }

    async fn follow_url(
        &self,
        client: &Client,
        url: &Url,
        wanted: &Notify,
        over: CancellationToken,
    ) {
        let issuer = &self.config.name;
        loop {
            // Tokens that came before are answered by what is fetched from here on.
            let _ = wanted.notified().now_or_never();
            let fetched = tokio::select! {
                fetched = fetch(client, url) => fetched,
                () = over.cancelled() => return,
            };
            let pause = match fetched {
                Ok(keys) => {
                    self.replace(keys);
                    FETCH_INTERVAL
                }
                Err(error) => {
                    let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).len();
                    tracing::warn!(
                        issuer,
                        %url,
                        error,
                        keys,
                        "the key set was not fetched: the last one stays in use"
                    );
                    FETCH_PAUSE
                }
            };
            let (next, earliest) = (Instant::now() + pause, Instant::now() + FETCH_PAUSE);
            let asked = async {
                wanted.notified().await;
                sleep_until(earliest).await;
            };
            tokio::select! {
                () = sleep_until(next) => {}
                () = asked => {}
                () = over.cancelled() => return,
            }
        }
    }
}

/// The error of a file with a key set.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{0}")]
    Untrusted(String),
    #[error("{0}")]
    Unusable(String),
    /// The next attempt may succeed, with the same file.
    #[error("{0}")]
    Failed(#[from] std::io::Error),
}

/// Reads a file, and notes the version that need not be read again.
fn read_file(path: &Path, version: &Mutex<Option<FileVersion>>) -> Result<KeySet, FileError> {
    // A change between the two is seen at the next look.
    let found = FileVersion::of(path).ok();
    let read = read_keys(path);
    let is_settled = !matches!(read, Err(FileError::Failed(_)));
    *version.lock().unwrap_or_else(PoisonError::into_inner) = found.filter(|_| is_settled);
    read
}

fn read_keys(path: &Path) -> Result<KeySet, FileError> {
    // A named pipe in the place of the file must not block the server.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // The opened file, as the path may name another one by now.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileError::Unusable("it is not a regular file".to_owned()));
    }
    let checked = GuardedFile::KeySet.check(path, &metadata);
    checked.map_err(|error| FileError::Untrusted(error.to_string()))?;
    let mut text = Vec::new();
    file.take(KEY_SET_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    if text.len() > KEY_SET_BYTES_MAX {
        return Err(FileError::Unusable("it is larger than 1 MiB".to_owned()));
    }
    KeySet::parse(&text).map_err(FileError::Unusable)
}
