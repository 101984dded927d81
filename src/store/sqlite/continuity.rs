//! The proof that a store continues what its readers have seen.
//!
//! Readers keep the sequences of events. They would silently miss events, or see others under
//! sequences that they know, if the server went on with an older copy of the database, or with one
//! whose write-ahead log was lost. So a small file beside the database names the database and its
//! newest commit. A store that does not match the file gets new stream epochs, and readers start
//! again.
//!
//! The file is written after each commit, without a sync: it is read after a crash of the server, and
//! after a loss of power it may only be older than the database, which is no contradiction.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use super::files::{FileIdentity, Files, private_file, sync_directory};
use crate::model::Timestamp;

/// The time by which the file may be newer than its content, in microseconds. A file that was changed
/// later than it says has been copied over.
const FILE_TIME_TOLERANCE_MICROS: i64 = 2_000_000;

/// The state of a database, as its tables have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DatabaseState {
    /// The random name of the store.
    pub(super) store_id: [u8; 16],
    /// The number of commits.
    pub(super) commit: u64,
    /// `true` if the database held all commits when it was last written, so that no write-ahead log
    /// belongs to it.
    pub(super) is_clean: bool,
}

/// A store that may not be what its readers have seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Discontinuity {
    /// The file beside the database is missing or damaged.
    NoRecord,
    /// The file belongs to another store.
    OtherStore,
    /// The database is another file.
    Copied {
        /// The number of missing commits.
        commits: u64,
    },
    /// The file beside the database was changed after its last commit.
    Changed,
    /// The database lacks commits that were acknowledged.
    Behind {
        /// The number of missing commits.
        commits: u64,
    },
}

impl Discontinuity {
    /// Returns whether the database came here without the files that belonged to it.
    pub(super) fn is_copy(&self) -> bool {
        matches!(self, Self::NoRecord | Self::OtherStore | Self::Copied { .. })
    }
}

impl fmt::Display for Discontinuity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecord => f.write_str("the file that names its newest commit is missing"),
            Self::OtherStore => f.write_str("the file beside it belongs to another store"),
            Self::Copied { commits: 0 } => f.write_str("it is a copy"),
            Self::Copied { commits } => {
                write!(f, "it is a copy, and its newest {commits} commits are missing")
            }
            Self::Changed => f.write_str(
                "its files were changed after its last commit, as they are when a copy is put back",
            ),
            Self::Behind { commits } => write!(
                f,
                "its newest {commits} commits are missing: it is an older copy, or its write-ahead \
                 log was lost"
            ),
        }
    }
}

/// The content of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    store_id: [u8; 16],
    database: FileIdentity,
    commit: u64,
    write_time: Timestamp,
}

impl Record {
    fn encode(&self) -> String {
        let Self { store_id, database: FileIdentity { device, inode }, commit, write_time } = self;
        let (store_id, time) = (u128::from_be_bytes(*store_id), write_time.as_micros());
        let text = format!("{store_id:032x} {device:016x} {inode:016x} {commit:016x} {time:016x}");
        format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
    }

    fn decode(text: &str) -> Option<Self> {
        let (text, checksum) = text.trim_end().rsplit_once(' ')?;
        if u32::from_str_radix(checksum, 16).ok()? != crc32c::crc32c(text.as_bytes()) {
            return None;
        }
        let mut fields = text.split(' ');
        let store_id = u128::from_str_radix(fields.next()?, 16).ok()?.to_be_bytes();
        let mut number = || u64::from_str_radix(fields.next()?, 16).ok();
        let database = FileIdentity { device: number()?, inode: number()? };
        let (commit, time) = (number()?, number()?);
        let write_time = Timestamp::from_micros(i64::try_from(time).ok()?);
        Some(Self { store_id, database, commit, write_time })
    }

    /// Compares the file with the database that it lies beside.
    fn check(
        &self,
        state: &DatabaseState,
        database: Option<FileIdentity>,
        change_time: Timestamp,
    ) -> Result<(), Discontinuity> {
        let later = change_time.as_micros().saturating_sub(self.write_time.as_micros());
        let commits = self.commit.saturating_sub(state.commit);
        if self.store_id != state.store_id {
            Err(Discontinuity::OtherStore)
        } else if Some(self.database) != database {
            Err(Discontinuity::Copied { commits })
        } else if commits > 0 {
            Err(Discontinuity::Behind { commits })
        } else if later > FILE_TIME_TOLERANCE_MICROS {
            Err(Discontinuity::Changed)
        } else {
            Ok(())
        }
    }
}

/// Checks that a database continues what its readers have seen.
pub(super) fn check(files: &Files, state: &DatabaseState) -> Result<(), Discontinuity> {
    let path = files.continuity();
    let read = || Some((fs::read_to_string(&path).ok()?, change_time(&path)?));
    let (text, change_time) = read().ok_or(Discontinuity::NoRecord)?;
    let record = Record::decode(&text).ok_or(Discontinuity::NoRecord)?;
    record.check(state, FileIdentity::of(&files.database), change_time)
}

/// Returns the time at which the kernel has last seen a change of a file, which no program can set.
fn change_time(path: &Path) -> Option<Timestamp> {
    let metadata = fs::metadata(path).ok()?;
    let micros =
        metadata.ctime().checked_mul(1_000_000)?.checked_add(metadata.ctime_nsec() / 1000)?;
    Some(Timestamp::from_micros(micros))
}

/// Returns the time that the kernel gives to files.
#[expect(clippy::disallowed_methods, reason = "times of files are compared with no other clock")]
fn time_of_files() -> Timestamp {
    SystemTime::now().into()
}

/// The file beside an open database.
#[derive(Debug)]
pub(super) struct ContinuityFile {
    file: File,
    record: Record,
    has_failed: bool,
}

impl ContinuityFile {
    /// Writes the file durably.
    pub(super) fn create(files: &Files, state: &DatabaseState) -> io::Result<Self> {
        let database = FileIdentity::of(&files.database).ok_or(io::ErrorKind::NotFound)?;
        let file = private_file(&files.continuity())?;
        let (store_id, commit) = (state.store_id, state.commit);
        let record = Record { store_id, database, commit, write_time: time_of_files() };
        let created = Self { file, record, has_failed: false };
        let text = created.record.encode();
        created.file.set_len(text.len() as u64)?;
        created.file.write_all_at(text.as_bytes(), 0)?;
        created.file.sync_all()?;
        sync_directory(files.directory())?;
        Ok(created)
    }

    /// Writes the number of the newest commit. A file that cannot be written is reported once: the
    /// store works without it, but the loss of its write-ahead log would not be noticed.
    pub(super) fn committed(&mut self, commit: u64) {
        self.record = Record { commit, write_time: time_of_files(), ..self.record };
        let written = self.file.write_all_at(self.record.encode().as_bytes(), 0);
        if let Err(error) = written
            && !std::mem::replace(&mut self.has_failed, true)
        {
            tracing::warn!(%error, "the file that names the newest commit cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: FileIdentity = FileIdentity { device: 1, inode: u64::MAX };

    fn record(commit: u64) -> Record {
        let write_time = Timestamp::from_micros(1_000_000);
        Record { store_id: [0xa5; 16], database: DATABASE, commit, write_time }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_or_not_at_all() {
        let text = record(7).encode();
        assert_eq!(Record::decode(&text), Some(record(7)));
        assert_eq!(text.len(), record(u64::MAX).encode().len(), "it is written over in place");
        for end in 0..text.len() - 1 {
            assert_eq!(Record::decode(&text[..end]), None, "{end}");
        }
        assert_eq!(Record::decode(&text.replace(" 0000000000000007 ", " 0000000000000008 ")), None);
    }

    #[test]
    fn each_contradiction_is_named() {
        let state = DatabaseState { store_id: [0xa5; 16], commit: 7, is_clean: false };
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let check = |record: Record, file, changed| record.check(&state, file, at(changed));
        assert_eq!(check(record(7), Some(DATABASE), 1), Ok(()));
        assert_eq!(check(record(6), Some(DATABASE), 1), Ok(()), "killed before it was written");
        let behind = Err(Discontinuity::Behind { commits: 3 });
        assert_eq!(check(record(10), Some(DATABASE), 1), behind);
        let other = FileIdentity { device: 1, inode: 5 };
        assert_eq!(check(record(7), Some(other), 1), Err(Discontinuity::Copied { commits: 0 }));
        assert_eq!(check(record(7), Some(DATABASE), 60), Err(Discontinuity::Changed));
        let theirs = Record { store_id: [0; 16], ..record(7) };
        assert_eq!(check(theirs, Some(DATABASE), 1), Err(Discontinuity::OtherStore));
    }
}
