//! The check of a chain, from its first line to its last.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::line::{AuditAction, ChainEnd, LineError, ReadLine, parse};
use super::tail::first_sequence;

/// The longest line that is read, in bytes. Those of an audit log are far shorter.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The result of a check that found nothing wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// The number of files with lines.
    pub files: u64,
    /// The number of lines.
    pub lines: u64,
    /// The sequence of the first line, or 0 if there is none.
    pub first_sequence: u64,
    /// The sequence of the last line, or 0 if there is none.
    pub last_sequence: u64,
    /// The hash of the last line, or nothing if there is none.
    pub last_hash: String,
    /// The number of entries that the lines say were lost.
    pub lost_entries: u64,
    /// The number of bytes that the lines say were damaged, as by a crash.
    pub damaged_bytes: u64,
    /// `true` if the last line has no end: it is being written, or a crash has torn it.
    pub ends_in_part: bool,
    /// `true` if a line has the hash that was looked for.
    pub hash_found: bool,
}

/// The error of a check.
#[derive(Debug, thiserror::Error)]
pub enum BrokenChain {
    /// A file cannot be read.
    #[error("{} cannot be read: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// A line is not the one that was written.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line in the file, from 1.
        line: u64,
        /// The problem.
        problem: String,
    },
}

/// Checks the lines of files of one audit log, which may be given in any order. `hash` is looked for
/// among them.
///
/// The first line of all may be any, since older files may be gone.
///
/// # Errors
///
/// The first line that is not the one that was written, or a file that cannot be read.
pub fn verify(paths: &[PathBuf], hash: Option<&str>) -> Result<AuditReport, BrokenChain> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let failed = |cause| BrokenChain::File { path: path.clone(), cause };
        let sequence = File::open(path).and_then(|mut file| first_sequence(&mut file));
        // A file without a line is the newest one.
        files.push((sequence.map_err(failed)?.unwrap_or(u64::MAX), path));
    }
    files.sort();
    // An empty file is one that has just been begun, or the lock.
    let is_empty = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
    if files.len() > 1 {
        files.retain(|(_, path)| !is_empty(path));
    }
    let mut check = Check { hash, ..Check::default() };
    for (index, (_, path)) in files.iter().enumerate() {
        check.file(path, index + 1 == files.len())?;
    }
    Ok(check.report)
}

#[derive(Default)]
struct Check<'a> {
    report: AuditReport,
    /// The end of the chain, or `None` before the first line.
    end: Option<ChainEnd>,
    hash: Option<&'a str>,
}

/// Lines that cannot be read, which a later line may explain.
struct Damage {
    bytes: u64,
    first_line: u64,
    error: LineError,
}

impl Check<'_> {
    fn file(&mut self, path: &Path, is_last: bool) -> Result<(), BrokenChain> {
        let failed = |cause| BrokenChain::File { path: path.to_owned(), cause };
        let broken = |line, problem| BrokenChain::Line { path: path.to_owned(), line, problem };
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let mut damage: Option<Damage> = None;
        let (mut bytes, mut ends_line) = (Vec::new(), true);
        for number in 1_u64.. {
            bytes.clear();
            reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).map_err(failed)?;
            if bytes.is_empty() {
                break;
            }
            self.report.files += u64::from(number == 1);
            ends_line = bytes.ends_with(b"\n");
            match parse(bytes.strip_suffix(b"\n").unwrap_or(&bytes)) {
                Ok(line) => {
                    self.line(&line, damage.take())
                        .map_err(|(at, problem)| broken(at.unwrap_or(number), problem))?;
                }
                Err(error) => {
                    let damage =
                        damage.get_or_insert(Damage { bytes: 0, first_line: number, error });
                    damage.bytes += bytes.len() as u64;
                }
            }
        }
        match damage {
            None => Ok(()),
            // Nothing was written behind it that could explain it.
            Some(damage) if is_last && !ends_line && damage.error == LineError::NotALine => {
                self.report.ends_in_part = true;
                Ok(())
            }
            Some(damage) => Err(broken(damage.first_line, problem(damage.error).to_owned())),
        }
    }

    /// Checks a line. The error has the number of an earlier line if that one is wrong.
    fn line(
        &mut self,
        line: &ReadLine,
        damage: Option<Damage>,
    ) -> Result<(), (Option<u64>, String)> {
        let explained = (line.action == AuditAction::Repaired).then_some(line.count).flatten();
        match (damage, explained) {
            (None, Some(_)) => return Err((None, "the damage before it is gone".to_owned())),
            (Some(damage), explained) if explained != Some(damage.bytes) => {
                return Err((Some(damage.first_line), problem(damage.error).to_owned()));
            }
            (None, None) | (Some(_), _) => {}
        }
        let expected = match &self.end {
            Some(end) => Some(end.clone()),
            None if line.sequence <= 1 => Some(ChainEnd::default()),
            None => None,
        };
        if let Some(end) = expected {
            let next = end.sequence.saturating_add(1);
            if line.sequence != next {
                let found = line.sequence;
                return Err((None, format!("its sequence is {found}, and {next} is the next one")));
            }
            if line.previous_hash != end.hash {
                let problem = "its previous_hash is not the hash of the line before";
                return Err((None, problem.to_owned()));
            }
        }
        let report = &mut self.report;
        if report.lines == 0 {
            report.first_sequence = line.sequence;
        }
        report.lines += 1;
        report.last_sequence = line.sequence;
        report.last_hash.clone_from(&line.hash);
        report.hash_found |= self.hash.is_some_and(|hash| hash.eq_ignore_ascii_case(&line.hash));
        let count = line.count.unwrap_or_default();
        match line.action {
            AuditAction::Lost => report.lost_entries += count,
            AuditAction::Repaired => report.damaged_bytes += count,
            _ => {}
        }
        self.end = Some(ChainEnd { sequence: line.sequence, hash: line.hash.clone() });
        Ok(())
    }
}

fn problem(error: LineError) -> &'static str {
    match error {
        LineError::NotALine => "it is not a line of an audit log",
        LineError::WrongHash => "it was changed: its hash is that of another line",
    }
}
