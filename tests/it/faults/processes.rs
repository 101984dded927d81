//! Processes that leave others behind: the call ends soon after its own, and all others are gone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use v1::State;
use v1::tool_result::Exit;

use crate::history::check_everything;
use crate::support::waiting::{
    cancel, cancel_of, ended, is_alive, lines_of, outcome_of, park, pids, text_of, time,
};
use crate::support::{TestServer, bash, millis, soon, stdout_of, v1};

/// The longest time that a call may stay open after the exit of its process.
const DRAIN: Duration = Duration::from_secs(2);
/// The delay that a busy machine may add to it.
const SLACK: Duration = Duration::from_millis(1_500);

/// A family whose head writes when it exits.
struct Family {
    pids: PathBuf,
    exit: PathBuf,
}

impl Family {
    fn new(folder: &Path) -> Self {
        Self { pids: folder.join("pids"), exit: folder.join("exit") }
    }

    /// Returns the first command of each child.
    fn child(&self) -> String {
        format!("echo $$ >> {}", self.pids.display())
    }

    /// The head: begins its children, waits until so many are there, writes, and exits.
    fn head(&self, children: &str, count: usize) -> String {
        let (pids, exit) = (self.pids.display(), self.exit.display());
        format!(
            "{children}\nuntil [ $(wc -l < {pids}) = {count} ]; do sleep 0.02; done 2> /dev/null
             echo so far; date +%s.%N > {exit}; exit 3"
        )
    }

    /// Checks a task whose head has exited by itself: how long it was open after that.
    async fn check(&self, task: &v1::Task, count: usize) -> Duration {
        assert_eq!((task.state(), task.reason.as_str()), (State::Failed, "exit code 3"));
        let result = outcome_of(task);
        assert_eq!(result.exit, Some(Exit::ExitCode(3)));
        assert_eq!(stdout_of(result), b"so far\n");
        let pids = pids(&lines_of(&self.pids, count).await);
        let alive: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
        assert!(alive.is_empty(), "{alive:?} of {pids:?}");
        let exit: f64 = text_of(&self.exit).trim().parse().expect("a time");
        let open = time(&task.end_time).as_secs_f64() - exit;
        assert!((0.0..(DRAIN + SLACK).as_secs_f64()).contains(&open), "{open} s after the exit");
        Duration::from_secs_f64(open)
    }
}

async fn until_dead(pids: &[u32]) {
    while pids.iter().any(|pid| is_alive(*pid)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Commands that hold standard output open for longer than the leader lives, in its group and out
/// of it.
const HOLDERS: [&str; 4] = [
    "bash -c '{child}; sleep 300; echo late' &",
    "setsid bash -c '{child}; sleep 300; echo late' &",
    "(setsid bash -c '{child}; sleep 300; echo late' &) &",
    "bash -c \"trap '' TERM HUP; {child}; while :; do sleep 1; done\" &",
];

#[tokio::test]
async fn a_call_ends_within_the_drain_even_if_its_output_is_held_open() {
    let server = TestServer::start().await;
    let families = HOLDERS.iter().enumerate().map(|(number, holder)| {
        let server = &server;
        async move {
            let folder = server.folder().join(format!("family-{number}"));
            std::fs::create_dir(&folder).expect("a folder");
            let family = Family::new(&folder);
            let holder = holder.replace("{child}", &family.child().replace('$', "\\$"));
            let holder = if holder.contains('"') { holder } else { holder.replace("\\$", "$") };
            let id = park(server, bash(&family.head(&holder, 1))).await;
            let task = ended(server, &id).await;
            let open = family.check(&task, 1).await;
            assert!(open >= DRAIN - Duration::from_millis(50), "it was waited for: {open:?}");
            let output = outcome_of(&task).output.as_ref().expect("a summary");
            assert!(output.incomplete, "the output may not be complete: {output:?}");
        }
    });
    futures::future::join_all(families).await;
    check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn background_children_that_hold_no_output_delay_nothing_and_are_gone() {
    let server = TestServer::start().await;
    let family = Family::new(server.folder());
    let child = family.child();
    let away = "> /dev/null 2>&1 < /dev/null &";
    let children = format!(
        "bash -c '{child}; sleep 300' {away}
         bash -c \"trap '' TERM HUP INT; {}; while :; do sleep 1; done\" {away}
         nohup bash -c '{child}; sleep 300' {away}
         (bash -c '{child}; sleep 300' {away})
         setsid bash -c '{child}; sleep 300' {away}",
        child.replace('$', "\\$")
    );
    let id = park(&server, bash(&family.head(&children, 5))).await;
    let task = ended(&server, &id).await;
    // The one that left the group is looked for after the end.
    let all = pids(&lines_of(&family.pids, 5).await);
    soon("the end of all", until_dead(&all)).await;
    let open = family.check(&task, 5).await;
    assert!(open < DRAIN, "there was nothing to wait for: {open:?}");
    check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn a_child_that_ignores_term_goes_with_a_head_that_heeds_it() {
    let server = TestServer::start().await;
    let family = Family::new(server.folder());
    let child = family.child().replace('$', "\\$");
    let children = format!("bash -c \"trap '' TERM; {child}; while :; do sleep 1; done\" &");
    let (pids_file, exit) = (family.pids.display(), family.exit.display());
    let command = format!(
        "trap 'echo so far; date +%s.%N > {exit}; exit 3' TERM
         {children}
         echo $$ >> {pids_file}; while :; do sleep 0.05; done"
    );
    let id = park(&server, bash(&command)).await;
    lines_of(&family.pids, 2).await;
    let request = v1::CancelRequest { grace: millis(60_000), ..cancel_of(&id) };
    let answer = cancel(&server, request).await;
    let task = answer.task.expect("a task");
    assert_eq!((task.state(), answer.survivors), (State::Cancelled, Vec::new()));
    assert_eq!(outcome_of(&task).exit, Some(Exit::ExitCode(3)), "in its own way");
    let family_pids = pids(&lines_of(&family.pids, 2).await);
    assert!(!family_pids.iter().any(|pid| is_alive(*pid)), "{family_pids:?}");
    let exit: f64 = text_of(&family.exit).trim().parse().expect("a time");
    let open = time(&task.end_time).as_secs_f64() - exit;
    assert!(open < (DRAIN + SLACK).as_secs_f64(), "{open} s after the exit");
    check_everything(&server.connect(), 0).await;
}
