//! The files of the audit log: appending, rotation, and what a crash has left.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::error::AuditError;
use super::line::{AuditAction, AuditEntry, ChainEnd};
use super::tail::{Tail, first_sequence};
use crate::auth::GuardedFile;
use crate::model::Timestamp;

/// The permissions of the files.
const PRIVATE: u32 = 0o600;

/// The number of digits at the end of the name of a file that is full.
const DIGITS: usize = 20;

/// The files of an audit log.
#[derive(Debug, Clone)]
pub struct AuditFileOptions {
    /// The file that is written. A full one gets the sequence of its first line behind its name.
    pub path: PathBuf,
    /// The size after which the next file begins, in bytes.
    pub bytes_max: u64,
    /// The number of files that are kept, with the one that is written.
    pub files_max: usize,
}

/// The file that is written, and the end of the chain.
pub(super) struct AuditFile {
    options: AuditFileOptions,
    file: File,
    /// The length of the file up to the end of its last line.
    length: u64,
    /// The bytes behind that line, with a newline that is to be added.
    damaged: u64,
    /// `true` if the last byte of the file ends a line.
    ends_line: bool,
    /// The sequence of the first line of the file, or `None` if it is empty.
    first_sequence: Option<u64>,
    chain: ChainEnd,
    /// Keeps other servers out.
    _lock: File,
}

impl AuditFile {
    /// Opens the log, and returns the time of its last line.
    pub(super) fn open(options: AuditFileOptions) -> Result<(Self, Option<Timestamp>), AuditError> {
        let path = options.path.clone();
        let failed = |cause| AuditError::File { path: path.clone(), cause };
        let folder = folder(&path);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let lock = open_private(&with_ending(&path, ".lock"), OFlags::NOFOLLOW).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => AuditError::Locked { path: path.clone() },
            TryLockError::Error(cause) => AuditError::File { path: path.clone(), cause },
        })?;
        // A named pipe in the place of the file must not block the server.
        let mut file = open_private(&path, OFlags::NONBLOCK).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        GuardedFile::Audit.check(&path, &metadata)?;
        let not_ours = || AuditError::NotAnAuditLog { path: path.clone() };
        let tail = Tail::read(&mut file).map_err(failed)?.ok_or_else(not_ours)?;
        let first_sequence = first_sequence(&mut file).map_err(failed)?;
        let (damaged, ends_line) = (tail.damaged, tail.ends_line);
        let last = match tail.last {
            Some(last) => Some(last),
            None => last_of_full_files(&path).map_err(failed)?,
        };
        let time = last.as_ref().map(|last| Timestamp::from_micros(last.time.as_microsecond()));
        let chain = last.map(|last| ChainEnd { sequence: last.sequence, hash: last.hash });
        let log = Self {
            options,
            file,
            length: metadata.len() - damaged,
            damaged,
            ends_line,
            first_sequence,
            chain: chain.unwrap_or_default(),
            _lock: lock,
        };
        Ok((log, time))
    }

    /// Returns whether the end of the file is damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged > 0
    }

    /// Appends a line. After an error the file ends as before, or the next line says that its end is
    /// damaged.
    pub(super) fn append(&mut self, entry: &AuditEntry) -> io::Result<()> {
        self.close_damaged_end(entry.time)?;
        self.append_line(entry)
    }

    /// Writes a line about the damaged end of the file, if it has one: what a crash has left stays.
    fn close_damaged_end(&mut self, time: Timestamp) -> io::Result<()> {
        if !self.ends_line {
            self.file.write_all(b"\n")?;
            self.ends_line = true;
            match self.damaged {
                // The line is whole, and only its newline was missing.
                0 => self.length += 1,
                _ => self.damaged += 1,
            }
        }
        if self.damaged == 0 {
            return Ok(());
        }
        let damaged = std::mem::take(&mut self.damaged);
        let count = Some(damaged);
        self.length += damaged;
        let written =
            self.append_line(&AuditEntry { count, ..AuditEntry::new(AuditAction::Repaired, time) });
        if written.is_err() {
            // What was added since is damaged, too.
            (self.length, self.damaged) = (self.length - damaged, self.damaged + damaged);
        }
        written
    }

    fn append_line(&mut self, entry: &AuditEntry) -> io::Result<()> {
        let (mut line, chain) = self.chain.next(entry)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            self.take_back();
            return Err(error);
        }
        self.length += line.len() as u64;
        self.first_sequence.get_or_insert(chain.sequence);
        self.chain = chain;
        Ok(())
    }

    /// Removes a part of a line that could not be written as a whole.
    fn take_back(&mut self) {
        if self.file.set_len(self.length).is_ok() {
            return;
        }
        let end = self.file.metadata().map_or(self.length, |metadata| metadata.len());
        self.damaged = end.saturating_sub(self.length);
        self.ends_line = self.damaged == 0;
    }

    /// Returns whether the file is so large that the next line belongs into another one.
    pub(super) fn is_full(&self) -> bool {
        self.length >= self.options.bytes_max && self.damaged == 0 && self.ends_line
    }

    /// Begins another file, and removes the oldest ones. The chain goes through.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let Some(first) = self.first_sequence else { return Ok(()) };
        let path = &self.options.path;
        self.file.sync_data()?;
        let full = with_ending(path, &format!(".{first:0DIGITS$}"));
        if full.exists() {
            return Err(io::Error::new(ErrorKind::AlreadyExists, full.display().to_string()));
        }
        std::fs::rename(path, &full)?;
        match open_private(path, OFlags::NOFOLLOW) {
            Ok(file) => self.file = file,
            Err(error) => {
                // The lines go on in the file that is open, under its name.
                std::fs::rename(&full, path)?;
                return Err(error);
            }
        }
        (self.length, self.first_sequence) = (0, None);
        let files = full_files(path)?;
        let kept = self.options.files_max.saturating_sub(1);
        for old in files.iter().take(files.len().saturating_sub(kept)) {
            std::fs::remove_file(old)?;
        }
        File::open(folder(path))?.sync_all()
    }

    /// Makes what was written outlast a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Returns the files of an audit log that exist, in the order in which they were written.
///
/// # Errors
///
/// The folder cannot be read.
pub fn audit_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = full_files(path)?;
    files.extend(path.exists().then(|| path.to_owned()));
    Ok(files)
}

/// Returns the files that are full, in the order in which they were written.
fn full_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned() + ".";
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder(path))? {
        let entry = entry?;
        let entry_name = entry.file_name();
        let digits = entry_name.to_str().and_then(|text| text.strip_prefix(&name));
        let is_full = digits.is_some_and(|digits| {
            digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        files.extend(is_full.then(|| entry.path()));
    }
    files.sort();
    Ok(files)
}

fn last_of_full_files(path: &Path) -> io::Result<Option<super::line::ReadLine>> {
    let Some(newest) = full_files(path)?.pop() else { return Ok(None) };
    match Tail::read(&mut File::open(&newest)?)?.and_then(|tail| tail.last) {
        Some(last) => Ok(Some(last)),
        None => Err(io::Error::other(format!("{} has no line of it", newest.display()))),
    }
}

fn open_private(path: &Path, flags: OFlags) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(PRIVATE);
    options.custom_flags(flags.bits().cast_signed()).open(path)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
