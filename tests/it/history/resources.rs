//! The resources that a server takes while it works, and gives back.

use std::path::Path;

use super::{History, Violation};

/// The resources of a server at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Memory that is in use, in KiB.
    pub resident_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Processes that it has started and that haven't ended or weren't reaped.
    pub children: u64,
    /// Calls that haven't ended.
    pub live_calls: u64,
    /// Calls whose work is running.
    pub running_calls: u64,
    /// Open streams of answers.
    pub streams: u64,
    /// Open connections.
    pub connections: u64,
}

/// Two moments at which nothing was under way, with work between them.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    /// After some work, so that all that is made once is there.
    pub base: Figures,
    /// At the end.
    pub last: Figures,
    /// Memory by which the end may be above the base line: what an allocator keeps, and what the
    /// store's cache holds.
    pub resident_growth_kib_max: u64,
}

/// At rest, everything is back at the base line, but for some memory.
pub fn all_is_given_back(history: &History) -> Vec<Violation> {
    let Some(Rest { base, last, resident_growth_kib_max }) = history.rest else {
        return Vec::new();
    };
    let rows = [
        ("KiB of memory", base.resident_kib + resident_growth_kib_max, last.resident_kib),
        ("descriptors", base.descriptors, last.descriptors),
        ("threads", base.threads, last.threads),
        ("children", base.children, last.children),
        ("live calls", base.live_calls, last.live_calls),
        ("running calls", base.running_calls, last.running_calls),
        ("streams", base.streams, last.streams),
        ("connections", base.connections, last.connections),
    ];
    let over = rows.into_iter().filter(|(_, most, now)| now > most);
    let detail =
        |(what, most, now)| Violation::new("the server", format!("{now} {what}, not {most}"));
    over.map(detail).collect()
}

impl Figures {
    /// Returns the resources of a process, as far as the system knows them.
    pub fn of_process(pid: u32) -> Self {
        let folder = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(folder.join("status")).expect("a process");
        let row = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).expect("a number")
        };
        let descriptors = std::fs::read_dir(folder.join("fd")).expect("descriptors").count();
        Self {
            resident_kib: row("VmRSS:"),
            threads: row("Threads:"),
            descriptors: descriptors as u64,
            children: children_of(pid).len() as u64,
            ..Self::default()
        }
    }

    /// Adds what a server says of itself to operators.
    pub fn with_metrics(self, metrics: &str) -> Self {
        let gauge = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            // A gauge that nothing has moved isn't there.
            line.map_or(0, |value| value.trim().parse::<f64>().expect("a number") as u64)
        };
        Self {
            live_calls: gauge("callpark_calls_live"),
            running_calls: gauge("callpark_calls_running"),
            streams: gauge("callpark_streams_open"),
            connections: gauge("callpark_connections_open"),
            ..self
        }
    }
}

/// The children of a process, each with the letter of its state.
pub fn children_of(parent: u32) -> Vec<(u32, char)> {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let child = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it is in brackets, and may itself contain some.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let is_child = fields.next()?.parse::<u32>().ok()? == parent;
        is_child.then_some((pid, state))
    };
    pids.filter_map(child).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::check_fails;
    use super::*;

    type Break = fn(&mut Figures);

    #[test]
    fn a_leaked_resource_is_found() {
        let breaks: [(&str, Break); 8] = [
            ("KiB", |figures| figures.resident_kib += 5_000),
            ("descriptors", |figures| figures.descriptors += 1),
            ("threads", |figures| figures.threads += 1),
            ("children", |figures| figures.children += 1),
            ("live calls", |figures| figures.live_calls += 1),
            ("running calls", |figures| figures.running_calls += 1),
            ("streams", |figures| figures.streams += 1),
            ("connections", |figures| figures.connections += 1),
        ];
        for (what, change) in breaks {
            check_fails(all_is_given_back, what, |history| {
                change(&mut history.rest.as_mut().expect("figures").last);
            });
        }
    }

    #[test]
    fn figures_are_read_where_they_stand() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let figures = Figures::of_process(own);
        let is_listed = children_of(own).iter().any(|(pid, _)| *pid == child.id());
        child.kill().and_then(|()| child.wait().map(drop)).expect("ended");
        assert!(is_listed && figures.children >= 1, "{figures:?}");
        assert!(figures.resident_kib > 1_000 && figures.threads > 0 && figures.descriptors > 2);
        let metrics =
            "# HELP callpark_calls_live x\ncallpark_calls_live 3\ncallpark_streams_open 2\n";
        let parsed = figures.with_metrics(metrics);
        assert_eq!((parsed.live_calls, parsed.streams, parsed.connections), (3, 2, 0));
    }
}
