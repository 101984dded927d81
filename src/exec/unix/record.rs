//! The record of the processes that cannot be found by a mark: a file in the folder of the store.
//!
//! A process that has cleared its environment shows whose it is only while the server lives, as the
//! leader of a call or as an orphan of one. If the server is killed, the next one has this file.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use super::mark::ServerProcess;

/// The name of the file.
const FILE: &str = "processes";

/// The largest file that is read, in bytes: far more than a machine has processes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The ticks in a second, in which the start of a process is given. Every Linux has these.
const TICKS_PER_SECOND: u64 = 100;

/// A process that was a leader or an orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordedProcess {
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
}

/// The processes that a server had when it wrote its record last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) processes: Vec<RecordedProcess>,
    /// The time at which it was written, in ticks since the start of the system.
    pub(super) written_ticks: u64,
}

impl Record {
    /// Reads the record that an earlier server has left in a folder. It is empty if there is none, if the
    /// ids in it are of another system or an earlier start of this one, or if its server is alive: then
    /// the folder is a copy.
    pub(super) fn read(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let is_small = fs::metadata(&path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
        let text = is_small.then(|| fs::read_to_string(&path).ok()).flatten();
        text.and_then(|text| Self::parse(&text, &system()?)).unwrap_or_default()
    }

    fn parse(text: &str, system: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut head = lines.next()?.split(' ');
        let (of, server, written) = (head.next()?, head.next()?, head.next()?);
        let is_alive = server.parse().is_ok_and(ServerProcess::is_another_alive);
        if of != system || is_alive {
            return None;
        }
        let process = |line: &str| {
            let (pid, start_ticks) = line.split_once(' ')?;
            let (pid, start_ticks) = (pid.parse().ok()?, start_ticks.parse().ok()?);
            Some(RecordedProcess { pid, start_ticks })
        };
        let processes = lines.filter_map(process).collect();
        Some(Self { processes, written_ticks: written.parse().ok()? })
    }

    fn text(&self, system: &str) -> String {
        let server = ServerProcess::this();
        let mut text = format!("{system} {server} {}\n", self.written_ticks);
        for RecordedProcess { pid, start_ticks } in &self.processes {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{pid} {start_ticks}");
        }
        text
    }
}

/// Returns what the ids of processes belong to: the start of the system, and the namespace.
fn system() -> Option<String> {
    let start = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", start.trim(), namespace.display()))
}

/// The record of this server.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    system: Option<String>,
    /// The processes in it, with the times of their starts.
    known: HashMap<Pid, u64>,
    written_ticks: u64,
    /// `true` if the file has other processes.
    is_changed: bool,
    has_failed: bool,
}

impl RecordFile {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE),
            system: system(),
            known: HashMap::new(),
            written_ticks: 0,
            // What an earlier server has left is not of this one.
            is_changed: true,
            has_failed: false,
        }
    }

    /// Returns whether it is to be written although the processes are the same: its time bounds which
    /// processes can have been members of their groups.
    pub(super) fn is_old(&self) -> bool {
        !self.known.is_empty() && now_ticks() >= self.written_ticks + TICKS_PER_SECOND
    }

    /// Sets the processes that are to be in it. `start_ticks` is asked for those that are new, or is
    /// `None` for those that have gone.
    pub(super) fn set(&mut self, pids: &[Pid], start_ticks: impl Fn(Pid) -> Option<u64>) {
        let start_of = |pid: &Pid| self.known.get(pid).copied().or_else(|| start_ticks(*pid));
        let known = pids.iter().filter_map(|pid| Some((*pid, start_of(pid)?))).collect();
        self.is_changed |= self.known != known;
        self.known = known;
    }

    /// Writes it if it has changed or is old. A crash of the program leaves the file before or the file
    /// after.
    pub(super) fn write(&mut self) {
        let Some(system) = self.system.as_ref().filter(|_| self.is_changed || self.is_old()) else {
            return;
        };
        let of = |(pid, start_ticks): (&Pid, &u64)| RecordedProcess {
            pid: pid.as_raw_pid().unsigned_abs(),
            start_ticks: *start_ticks,
        };
        self.written_ticks = now_ticks();
        let processes = self.known.iter().map(of).collect();
        let record = Record { processes, written_ticks: self.written_ticks };
        let written = match record.processes.is_empty() {
            true => remove(&self.path),
            false => replace(&self.path, &record.text(system)),
        };
        if let Err(error) = &written
            && !self.has_failed
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the processes of calls cannot be recorded: if this server is \
                killed, those that carry no mark may stay");
        }
        self.has_failed = written.is_err();
        self.is_changed = self.has_failed;
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

fn now_ticks() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    // Neither is ever negative.
    let part = |number| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec) * TICKS_PER_SECOND + part(time.tv_nsec) * TICKS_PER_SECOND / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::super::status::ProcessStatus;
    use super::*;

    fn process(pid: u32, start_ticks: u64) -> RecordedProcess {
        RecordedProcess { pid, start_ticks }
    }

    #[test]
    fn a_record_is_read_by_the_next_server_on_the_same_system() {
        let record = Record { processes: vec![process(7, 99), process(8, 100)], written_ticks: 5 };
        let text = record.text("here/pid:[1]");
        assert_eq!(Record::parse(&text, "here/pid:[1]"), Some(record));
        assert_eq!(Record::parse(&text, "here/pid:[2]"), None, "the ids are of another system");
        let cut = &text[..text.len() - 4];
        let kept = Record::parse(cut, "here/pid:[1]").expect("its head is whole");
        assert_eq!(kept.processes[0], process(7, 99));
        for broken in ["", "here/pid:[1]", "here/pid:[1] x y"] {
            assert_eq!(Record::parse(broken, "here/pid:[1]"), None, "{broken}");
        }
    }

    #[test]
    fn the_file_has_the_processes_that_were_set_last() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(folder.path()), Record::default());
        let mut file = RecordFile::new(folder.path());
        let this = rustix::process::getpid();
        let start = ProcessStatus::read(this).unwrap().start_ticks;
        file.set(&[this, Pid::INIT], |pid| (pid == this).then_some(start));
        file.write();
        let read = Record::read(folder.path());
        assert_eq!(read.processes, [process(this.as_raw_pid().unsigned_abs(), start)]);
        assert!(read.written_ticks >= start && !file.is_old());
        file.set(&[], |_| None);
        file.write();
        assert_eq!(Record::read(folder.path()), Record::default());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
