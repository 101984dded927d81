//! Configurations of TLS that are made again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::{TlsError, TlsFiles, server_config};
use crate::auth::FileVersion;

/// The time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The number of looks in a row at which a file has changed again, after which they are read all the same.
const UNSTEADY_LOOKS_MAX: u32 = 5;

/// The time after which files that do not answer are named in the log.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A configuration of TLS that follows its files. Connections that are open keep the one they began with.
pub(in crate::app) struct TlsRenewal<T> {
    files: Arc<Files<T>>,
    current: watch::Sender<T>,
    state: State,
}

/// The files of a configuration, and how it is made of them.
struct Files<T> {
    paths: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>,
}

/// The version of each file, or `None` for one that cannot be seen.
type Versions = Vec<Option<FileVersion>>;

/// The state of the files, as far as it is known.
struct State {
    /// The versions that the configuration was made of.
    read: Versions,
    /// The versions at the last look.
    seen: Versions,
    /// The number of looks in a row at which a file had changed again.
    unsteady_looks: u32,
    /// The error of the last attempt, if it failed.
    failure: Option<String>,
}

impl<T: Send + Sync + 'static> Files<T> {
    fn versions(&self) -> Versions {
        self.paths.iter().map(|path| FileVersion::of(path).ok()).collect()
    }

    /// Looks at the files, and makes the configuration if they have changed since they were read, and rest: a
    /// certificate is written before its key, or behind it.
    fn look(&self, state: &mut State) -> Option<Result<T, TlsError>> {
        let versions = self.versions();
        let rests = versions == state.seen;
        state.seen.clone_from(&versions);
        if versions == state.read {
            state.unsteady_looks = 0;
            return None;
        }
        if !rests && state.unsteady_looks < UNSTEADY_LOOKS_MAX {
            state.unsteady_looks += 1;
            return None;
        }
        state.unsteady_looks = 0;
        let made = (self.make)();
        // Files that cannot be used are tried again, as the reason may pass without a change of them.
        if made.is_ok() {
            state.read = versions;
            state.failure = None;
        }
        Some(made)
    }
}

impl<T: Send + Sync + 'static> TlsRenewal<T> {
    /// Makes a configuration of these files.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(in crate::app) fn new(
        paths: Vec<PathBuf>,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let files = Files { paths, make: Box::new(make) };
        // A change from here on is seen at the first look.
        let versions = files.versions();
        let current = watch::Sender::new((files.make)()?);
        let seen = versions.clone();
        let state = State { read: versions, seen, unsteady_looks: 0, failure: None };
        Ok(Self { files: Arc::new(files), current, state })
    }

    /// Returns the configuration, as it changes.
    pub(in crate::app) fn subscribe(&self) -> watch::Receiver<T> {
        self.current.subscribe()
    }

    /// Follows the files until `over` is cancelled. Files that cannot be used leave the configuration as it
    /// is.
    pub(in crate::app) async fn keep_up(self, over: CancellationToken) {
        let Self { files, current, mut state } = self;
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = over.cancelled() => return,
            }
            let looker = files.clone();
            let mut looking = tokio::task::spawn_blocking(move || {
                let made = looker.look(&mut state);
                (state, made)
            });
            let in_time = tokio::select! {
                looked = timeout(SILENCE_MAX, &mut looking) => looked,
                () = over.cancelled() => return,
            };
            let looked = match in_time {
                Ok(looked) => looked,
                Err(_) => {
                    let files = shown(&files.paths);
                    tracing::warn!(?files, "the files of TLS do not answer: is their disk there?");
                    tokio::select! {
                        looked = looking => looked,
                        () = over.cancelled() => return,
                    }
                }
            };
            let made;
            (state, made) = match looked {
                Ok(looked) => looked,
                Err(_) => return tracing::error!("the look at the files of TLS panicked"),
            };
            match made {
                None => {}
                Some(Ok(made)) => {
                    current.send_replace(made);
                    tracing::info!(files = ?shown(&files.paths), "the files of TLS were read again");
                }
                Some(Err(error)) => state.report(&error),
            }
        }
    }
}

impl State {
    /// Logs an error, unless the last attempt had the same.
    fn report(&mut self, error: &TlsError) {
        let text = error.to_string();
        if self.failure.as_ref() != Some(&text) {
            tracing::error!(%error, "the last good files of TLS stay in use for new connections");
        }
        self.failure = Some(text);
    }
}

fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

/// The configuration of listeners, which follows its files.
pub(in crate::app) type ServerTls = TlsRenewal<Arc<ServerConfig>>;

impl TlsFiles {
    /// Returns the configuration of listeners with these files.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(in crate::app) fn serve(self) -> Result<ServerTls, TlsError> {
        TlsRenewal::new(self.paths(), move || server_config(&self))
    }

    /// Returns the paths of the files.
    pub(in crate::app) fn paths(&self) -> Vec<PathBuf> {
        let paths = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        paths.into_iter().flatten().map(|path: &PathBuf| Path::to_path_buf(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn renewal(paths: &[PathBuf]) -> TlsRenewal<String> {
        let from = paths.to_vec();
        let make = move || {
            let texts: Vec<_> = from.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
            let [one, other] = <[String; 2]>::try_from(texts).unwrap();
            let reason = format!("{one} and {other} do not match");
            if one == other {
                Ok(one)
            } else {
                Err(TlsError::ClientCa { path: "both".into(), reason })
            }
        };
        TlsRenewal::new(paths.to_vec(), make).unwrap()
    }

    /// Files that do not match are not used, however long they stay so, and those that match are.
    #[tokio::test(start_paused = true)]
    async fn files_are_read_again_when_all_of_them_match() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let write = |index: usize, text: &str| fs::write(&paths[index], text).unwrap();
        write(0, "one");
        write(1, "one");
        let renewal = renewal(&paths);
        let mut current = renewal.subscribe();
        let over = CancellationToken::new();
        let mut task = tokio::task::JoinSet::new();
        task.spawn(renewal.keep_up(over.clone()));
        assert_eq!(*current.borrow_and_update(), "one");
        write(0, "another");
        tokio::time::sleep(LOOK_INTERVAL * 5).await;
        assert!(!current.has_changed().unwrap());
        write(1, "another");
        current.changed().await.unwrap();
        assert_eq!(*current.borrow_and_update(), "another");
        over.cancel();
        task.join_next().await.unwrap().unwrap();
    }

    #[test]
    fn files_that_change_are_read_when_they_rest_or_change_all_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let write = |text: &str| paths.iter().for_each(|path| fs::write(path, text).unwrap());
        write("one");
        let TlsRenewal { files, mut state, .. } = renewal(&paths);
        let mut look = || files.look(&mut state).map(|made| made.map_err(drop));
        assert_eq!(look(), None);
        write("another");
        assert_eq!(look(), None, "it has just changed");
        assert_eq!(look(), Some(Ok("another".to_owned())));
        assert_eq!(look(), None);
        // Those that cannot be used are tried again.
        fs::write(&paths[0], "a third").unwrap();
        assert_eq!(look(), None);
        assert_eq!((look(), look()), (Some(Err(())), Some(Err(()))));
        for number in 0..UNSTEADY_LOOKS_MAX {
            write(&"x".repeat(number as usize + 10));
            assert_eq!(look(), None, "{number}");
        }
        write("always another");
        assert_eq!(look(), Some(Ok("always another".to_owned())));
    }
}
