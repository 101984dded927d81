//! The kin of processes that a server has left behind: those that carry no mark of their own.

use std::collections::{HashMap, HashSet};

use super::record::Record;
use super::status::ProcessStatus;

/// The processes of a machine at one moment.
pub(super) type Snapshot = HashMap<u32, ProcessStatus>;

/// Returns the processes without a mark that belong to those with one, or to the record of the server
/// that has ended: the recorded ones, the members of their groups and sessions, and all descendants of
/// any of them. Those that are spared are not among them, nor what only descends from those.
pub(super) fn kin_of(
    all: &Snapshot,
    marked: &HashSet<u32>,
    records: &[Record],
    mut is_spared: impl FnMut(u32) -> bool,
) -> Vec<u32> {
    let mut kin = Kin { found: marked.clone(), added: Vec::new() };
    let mut ids: Vec<u32> = all.keys().copied().collect();
    // Parents mostly come before their children.
    ids.sort_unstable();
    for pid in &ids {
        if !marked.contains(pid)
            && records.iter().any(|record| is_recorded(all, *pid, record))
            && !is_spared(*pid)
        {
            kin.add(*pid);
        }
    }
    loop {
        let before = kin.added.len();
        for pid in &ids {
            let is_child = all.get(pid).is_some_and(|status| kin.found.contains(&status.parent));
            if is_child && !kin.found.contains(pid) && !is_spared(*pid) {
                kin.add(*pid);
            }
        }
        if kin.added.len() == before {
            return kin.added;
        }
    }
}

struct Kin {
    /// With those that are marked.
    found: HashSet<u32>,
    added: Vec<u32>,
}

impl Kin {
    fn add(&mut self, pid: u32) {
        self.found.insert(pid);
        self.added.push(pid);
    }
}

/// Returns whether a process is in the record, or in a group or session that is.
///
/// As long as a group has members, no process gets its id. So where the recorded process has gone, a
/// member that is older than the record shows that the group is the same one.
fn is_recorded(all: &Snapshot, pid: u32, record: &Record) -> bool {
    let Some(status) = all.get(&pid) else { return false };
    record.processes.iter().any(|recorded| {
        if recorded.pid == pid {
            return recorded.start_ticks == status.start_ticks;
        }
        let is_member = [status.group, status.session].contains(&recorded.pid);
        let is_same = match all.get(&recorded.pid) {
            Some(leader) => leader.start_ticks == recorded.start_ticks,
            None => status.start_ticks <= record.written_ticks,
        };
        is_member && is_same && status.start_ticks >= recorded.start_ticks
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::RecordedProcess;
    use super::*;

    fn status(parent: u32, group: u32, session: u32, start_ticks: u64) -> ProcessStatus {
        let program = "sleep".to_owned();
        let (terminal, is_alive) = (0, true);
        ProcessStatus { program, parent, group, session, terminal, start_ticks, is_alive }
    }

    fn kin(all: &[(u32, ProcessStatus)], marked: &[u32], recorded: &[(u32, u64)]) -> Vec<u32> {
        let all: Snapshot = all.iter().map(|(pid, status)| (*pid, status.clone())).collect();
        let process = |(pid, start_ticks): &(u32, u64)| RecordedProcess {
            pid: *pid,
            start_ticks: *start_ticks,
        };
        let processes = recorded.iter().map(process).collect();
        let record = Record { processes, written_ticks: 500 };
        let mut found = kin_of(&all, &marked.iter().copied().collect(), &[record], |pid| pid == 99);
        found.sort_unstable();
        found
    }

    #[test]
    fn descendants_of_marked_processes_are_found() {
        let all = [
            (10, status(1, 10, 10, 100)),
            (11, status(12, 10, 10, 120)),
            (12, status(10, 12, 12, 110)),
            (20, status(1, 20, 20, 100)),
            (99, status(10, 99, 99, 130)),
            (98, status(99, 99, 99, 140)),
        ];
        assert_eq!(kin(&all, &[10], &[]), [11, 12], "not what is spared, and what belongs to it");
        assert_eq!(kin(&all, &[], &[]), [0; 0]);
    }

    #[test]
    fn recorded_processes_are_found_with_their_groups_and_sessions() {
        let all = [
            (10, status(1, 10, 10, 100)),
            (11, status(1, 10, 1, 600)),
            (12, status(1, 12, 10, 120)),
            (13, status(12, 13, 13, 700)),
        ];
        assert_eq!(kin(&all, &[], &[(10, 100)]), [10, 11, 12, 13]);
        assert_eq!(kin(&all, &[], &[(10, 99)]), [0; 0], "the id has another owner");
    }

    #[test]
    fn the_group_of_a_process_that_has_gone_is_found_by_members_older_than_the_record() {
        let all = [(11, status(1, 10, 10, 120)), (12, status(1, 12, 10, 600))];
        assert_eq!(kin(&all, &[], &[(10, 100)]), [11], "the other may be of a later group");
        assert_eq!(kin(&all, &[], &[(10, 130)]), [0; 0], "it is older than the group");
    }
}
