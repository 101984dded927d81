//! The times at which keys were last used, in a file beside that of the keys.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::api_key::KeyId;
use super::file::KeyFile;
use crate::model::Timestamp;

/// The last use of each key, as servers have written it down: a minute late at most. `None` if no server
/// has, or the file cannot be read.
#[derive(Debug, Default)]
pub struct LastUses(Option<BTreeMap<String, Timestamp>>);

/// The content of the file.
#[derive(Default, Serialize, Deserialize)]
struct Document {
    /// The last use of each key, by its id.
    last_use_times: BTreeMap<String, jiff::Timestamp>,
}

impl LastUses {
    /// Reads the times of the keys in a file.
    pub fn read(keys: &KeyFile) -> Self {
        let time = |time: jiff::Timestamp| Timestamp::from_micros(time.as_microsecond());
        let times = |document: Document| {
            document.last_use_times.into_iter().map(|(id, at)| (id, time(at))).collect()
        };
        Self(read(&path(keys)).ok().flatten().map(times))
    }

    /// Returns the last use of a key, or `None` if none is known.
    pub fn of(&self, id: &KeyId) -> Option<Timestamp> {
        self.0.as_ref()?.get(id.as_str()).copied()
    }

    /// Returns whether servers have written uses down, so that a key without one was not used.
    pub fn are_known(&self) -> bool {
        self.0.is_some()
    }

    /// Adds these uses to the file, in which a later time stays.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or another server writes it at this moment.
    pub(super) fn add(keys: &KeyFile, uses: &[(KeyId, Timestamp)]) -> io::Result<()> {
        let path = path(keys);
        // Another server that is paused must not hold up this one: there is a next time.
        let lock = keys.lock_file(".used.lock")?;
        lock.try_lock()?;
        let mut document = read(&path)?.unwrap_or_default();
        for (id, time) in uses {
            let time = jiff::Timestamp::from_microsecond(time.as_micros());
            let time = time.map_err(io::Error::other)?;
            let known = document.last_use_times.entry(id.to_string()).or_insert(time);
            *known = time.max(*known);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut draft = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        draft.write_all(&serde_json::to_vec(&document)?)?;
        draft.persist(&path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// The file of times beside a file of keys.
fn path(keys: &KeyFile) -> PathBuf {
    PathBuf::from(format!("{}.used", keys.path().display()))
}

fn read(path: &Path) -> io::Result<Option<Document>> {
    match std::fs::read(path) {
        // A damaged document is replaced: the next uses make another one.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
