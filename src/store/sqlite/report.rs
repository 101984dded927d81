//! A report about a store, for operators.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::backup::{BackupError, open_source};
use super::continuity;
use super::error::SqliteError;
use super::files::{Files, length};
use super::identity::Identity;
use super::read;
use super::schema;
use super::verify::{Verification, VerifyDepth, verify};
use crate::model::Timestamp;

/// The state of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReport {
    /// The database.
    pub database: PathBuf,
    /// The version of its schema.
    pub schema: u32,
    /// The process that has it open, or `None` if it is not in use.
    pub server: Option<u32>,
    /// The reason for which streams get new epochs at the next start, if they do.
    pub discontinuity: Option<String>,
    /// The time of the newest record, or `None` if there is none.
    pub newest_time: Option<Timestamp>,
    /// The verification of the store.
    pub verification: Verification,
}

/// Inspects the store at `store`, which a server may be using, without a change of it.
///
/// # Errors
///
/// Fails if there is no store, if its schema is another one, or if it cannot be read.
pub fn inspect_store(store: &Path, depth: VerifyDepth) -> Result<StoreReport, BackupError> {
    let files = Files::of(store);
    if length(&files.database) == 0 {
        return Err(BackupError::Missing { path: files.database });
    }
    let connection = open_source(&files.database)?;
    let server = holder(&files.lock());
    let failed = |cause| BackupError::Sqlite { path: files.database.clone(), cause };
    let identity = Identity::load(&connection).map_err(failed)?;
    let discontinuity = identity
        // The files of a running server change between two looks at them.
        .filter(|_| server.is_none())
        .and_then(|identity| continuity::check(&files, &identity.state).err())
        .map(|cause| cause.to_string());
    let newest_time = match read::newest_time(&connection) {
        Ok(time) => time,
        Err(SqliteError::Sql(cause)) => return Err(failed(cause)),
        Err(SqliteError::Store(_)) => None,
    };
    let verification = verify(&connection, depth).map_err(failed)?;
    let (database, schema) = (files.database.clone(), schema::newest());
    Ok(StoreReport { database, schema, server, discontinuity, newest_time, verification })
}

/// Returns the process that holds the lock of a file. The kernel's list is read, because a try to take
/// the lock would be in the way of a server that starts at this moment.
fn holder(lock: &Path) -> Option<u32> {
    let metadata = fs::metadata(lock).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    // 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip_while(|field| *field != "FLOCK");
        let (process, name) = (fields.nth(3)?, fields.next()?);
        (name == file).then(|| process.parse().ok()).flatten()
    })
}
