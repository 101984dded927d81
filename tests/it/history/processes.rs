//! Processes of calls: what was seen of them, and what may be seen.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{History, Violation};

/// The longest time that a child that has ended may stay unreaped.
const ZOMBIE_AGE_MAX: Duration = Duration::from_secs(2);
/// The longest time that an exit takes on a busy machine.
const EXIT_MAX: Duration = Duration::from_secs(5);
/// The descriptors that a child inherits.
const DESCRIPTORS: [u32; 3] = [0, 1, 2];

/// Something that was seen of a process.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The process.
    pub pid: u32,
    /// The call that it belongs to. Empty: not known.
    pub call_id: String,
    /// The state that was seen.
    pub what: Seen,
}

/// The state of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Alive, though all work has ended.
    AtRest,
    /// Ended, and not reaped for this long.
    Unreaped(Duration),
    /// Alive, with these descriptors open.
    Open(Vec<u32>),
}

/// No process is left when all work has ended.
pub fn none_is_left(history: &History) -> Vec<Violation> {
    let left = history.processes.iter().filter(|sighting| sighting.what == Seen::AtRest);
    left.map(|sighting| violation(sighting, "is left".into())).collect()
}

/// No zombie is older than 2 s and the slack, and children hold the descriptors 0, 1 and 2 and no
/// other.
pub fn children_are_in_order(history: &History) -> Vec<Violation> {
    let wrong = history.processes.iter().filter_map(|sighting| match &sighting.what {
        Seen::Unreaped(age) if *age > ZOMBIE_AGE_MAX + history.slack => {
            Some(violation(sighting, format!("unreaped for {age:?}")))
        }
        Seen::Open(open) if *open != DESCRIPTORS => {
            Some(violation(sighting, format!("has {open:?} open")))
        }
        Seen::AtRest | Seen::Unreaped(_) | Seen::Open(_) => None,
    });
    wrong.collect()
}

fn violation(sighting: &Sighting, detail: String) -> Violation {
    Violation::new(format!("process {} of {}", sighting.pid, sighting.call_id), detail)
}

/// The processes on this machine that carry the mark of one of these calls, each with its call.
pub fn marked(call_ids: &BTreeSet<&str>) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_call = |pid: u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut marks = environment
            .split(|byte| *byte == 0)
            .filter_map(|variable| variable.strip_prefix(b"CALLPARK_CALL_ID="));
        let call_id = String::from_utf8(marks.next()?.to_vec()).ok()?;
        call_ids.contains(call_id.as_str()).then_some((pid, call_id))
    };
    pids.filter_map(of_call).collect()
}

/// The folders of files that a program opens by itself as it starts: libraries, and the files of
/// its language. A server has nothing open there.
const OWN_FILES: [&str; 3] = ["/usr", "/lib", "/etc"];

/// Returns the open descriptors of the programs named `sleep`, but for files of their own. A
/// shell opens files of its own for a moment; a program that it starts has what the shell was
/// given.
pub fn descriptors(processes: &[(u32, String)]) -> Vec<Sighting> {
    let seen = processes.iter().filter_map(|(pid, call_id)| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let open = open_descriptors(*pid).filter(|_| name.trim() == "sleep")?;
        // A program that ends closes its streams one by one.
        let is_whole = DESCRIPTORS.iter().all(|number| open.contains(number));
        let is_seen = is_whole || !ends_soon(*pid);
        is_seen.then(|| Sighting { pid: *pid, call_id: call_id.clone(), what: Seen::Open(open) })
    });
    seen.collect()
}

/// Returns the open descriptors of a process, but for its own files, or `None` if it is gone.
fn open_descriptors(pid: u32) -> Option<Vec<u32>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).ok()? {
        let entry = entry.ok()?;
        // One that has been closed since it was listed was opened by the program itself.
        let target = entry.path().read_link().unwrap_or_else(|_| OWN_FILES[0].into());
        if !OWN_FILES.iter().any(|folder| target.starts_with(folder)) {
            open.push(entry.file_name().to_str()?.parse().ok()?);
        }
    }
    open.sort_unstable();
    Some(open)
}

/// Returns whether a process ends within the time that an exit takes on a busy machine.
fn ends_soon(pid: u32) -> bool {
    let limit = Instant::now() + EXIT_MAX;
    // One that has ended and is not reaped has no environment.
    let lives = || std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|own| !own.is_empty());
    while lives() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
    !lives()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{check_fails, sample};
    use super::*;

    fn add(what: Seen) -> impl Fn(&mut History) {
        move |history| {
            let call_id = "call-1".to_owned();
            history.processes.push(Sighting { pid: 7, call_id, what: what.clone() });
        }
    }

    #[test]
    fn a_process_left_by_a_call_is_found() {
        check_fails(none_is_left, "process 7 of call-1", add(Seen::AtRest));
    }

    #[test]
    fn zombies_and_inherited_descriptors_are_found() {
        let old = Seen::Unreaped(ZOMBIE_AGE_MAX + sample().slack * 2);
        check_fails(children_are_in_order, "unreaped", add(old));
        check_fails(children_are_in_order, "open", add(Seen::Open(vec![0, 1, 2, 9])));
        check_fails(children_are_in_order, "open", add(Seen::Open(vec![1, 2])));
    }

    #[test]
    fn a_process_is_found_by_its_mark() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("CALLPARK_CALL_ID", "call-of-this-test")
            .stdin(std::process::Stdio::null())
            .spawn()
            .expect("started");
        // Until it has become the program, it is a copy of this process.
        let mut seen = Vec::new();
        while seen.is_empty() {
            std::thread::yield_now();
            seen = descriptors(&marked(&["call-of-this-test"].into()));
        }
        child.kill().and_then(|()| child.wait().map(drop)).expect("ended");
        assert_eq!((seen.len(), seen[0].pid), (1, child.id()));
        assert!(matches!(&seen[0].what, Seen::Open(open) if open.starts_with(&DESCRIPTORS)));
        assert!(marked(&["call-of-this-test"].into()).is_empty(), "it has ended");
    }
}
