//! Configurations of TLS that are made again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{TlsError, TlsFiles};
use crate::auth::FileVersion;

/// The time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A configuration of TLS that follows its files. Connections that are open keep the one they began with.
pub(in crate::app) struct TlsRenewal<T> {
    files: Arc<Files<T>>,
    current: watch::Sender<T>,
    /// The versions of the files that were read last.
    read: Versions,
}

/// The files of a configuration, and how it is made of them.
struct Files<T> {
    paths: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>,
}

/// The version of each file, or `None` for one that cannot be seen.
type Versions = Vec<Option<FileVersion>>;

/// The result of a look at files that have changed.
struct Change<T> {
    versions: Versions,
    /// The new configuration, or `None` while the files go on changing.
    made: Option<Result<T, TlsError>>,
}

impl<T: Send + Sync + 'static> Files<T> {
    fn versions(&self) -> Versions {
        self.paths.iter().map(|path| FileVersion::of(path).ok()).collect()
    }

    /// Looks at the files, and makes the configuration if they have changed since `read` and not since
    /// `seen`: a certificate is written before its key, or behind it.
    fn look(&self, read: &Versions, seen: &Versions) -> Option<Change<T>> {
        let versions = self.versions();
        if versions == *read {
            return None;
        }
        let made = (versions == *seen).then(|| (self.make)());
        Some(Change { versions, made })
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
        let read = files.versions();
        let current = watch::Sender::new((files.make)()?);
        Ok(Self { files: Arc::new(files), current, read })
    }

    /// Returns the configuration, as it changes.
    pub(in crate::app) fn subscribe(&self) -> watch::Receiver<T> {
        self.current.subscribe()
    }

    /// Follows the files until `over` is cancelled. Files that cannot be used leave the configuration as it
    /// is.
    pub(in crate::app) async fn keep_up(self, over: CancellationToken) {
        let Self { files, current, mut read } = self;
        let mut seen = read.clone();
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = over.cancelled() => return,
            }
            let (looker, known, last) = (files.clone(), read.clone(), seen.clone());
            let looking = tokio::task::spawn_blocking(move || looker.look(&known, &last));
            // A file may be on a disk that does not answer.
            let looked = tokio::select! {
                looked = looking => looked,
                () = over.cancelled() => return,
            };
            let change = match looked {
                Ok(Some(change)) => change,
                Ok(None) => continue,
                Err(_) => {
                    tracing::error!("the look at the files of TLS panicked");
                    continue;
                }
            };
            seen.clone_from(&change.versions);
            match change.made {
                None => {}
                Some(made) => {
                    read = change.versions;
                    report(&files.paths, made.map(|made| drop(current.send_replace(made))));
                }
            }
        }
    }
}

fn report(paths: &[PathBuf], made: Result<(), TlsError>) {
    let files = || paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    match made {
        Ok(()) => tracing::info!(files = ?files(), "the files of TLS were read again"),
        Err(error) => {
            tracing::error!(%error, "the last good files of TLS stay in use for new connections");
        }
    }
}

impl TlsFiles {
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
        (write(0, "one"), write(1, "one"));
        let renewal = renewal(&paths);
        let mut current = renewal.subscribe();
        let over = CancellationToken::new();
        let task = tokio::spawn(renewal.keep_up(over.clone()));
        assert_eq!(*current.borrow_and_update(), "one");
        write(0, "another");
        tokio::time::sleep(LOOK_INTERVAL * 5).await;
        assert!(!current.has_changed().unwrap());
        write(1, "another");
        current.changed().await.unwrap();
        assert_eq!(*current.borrow_and_update(), "another");
        over.cancel();
        task.await.unwrap();
    }

    #[test]
    fn files_that_go_on_changing_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        paths.iter().for_each(|path| fs::write(path, "one").unwrap());
        let TlsRenewal { files, read, .. } = renewal(&paths);
        assert!(files.look(&read, &read).is_none());
        paths.iter().for_each(|path| fs::write(path, "another").unwrap());
        let change = files.look(&read, &read).unwrap();
        assert!(change.made.is_none(), "it has just changed");
        let change = files.look(&read, &change.versions).unwrap();
        assert_eq!(change.made.unwrap().unwrap(), "another");
        assert!(files.look(&change.versions, &change.versions).is_none());
    }
}
