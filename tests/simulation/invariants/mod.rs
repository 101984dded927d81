//! Invariants of every run, each in a file of its own with a history that breaks it.

mod answers;
mod call_streams;
mod effects;
mod ends;
mod followers;
mod log;
mod resumes;

use crate::history::History;

/// Checks one invariant: all that breaks it, in words.
pub type Checker = fn(&History) -> Vec<String>;

/// All invariants.
const INVARIANTS: [(&str, Checker); 7] = [
    ("the log has no gap, and ends with its shutdown", log::has_no_gap),
    ("a follower is given the log, each event once, to its end", followers::are_given_the_log),
    ("a stream goes on where it was", resumes::go_on_where_they_were),
    ("a request has one effect", effects::happen_once),
    ("a call ends once", ends::come_once),
    ("answers agree with the log", answers::agree_with_the_log),
    ("a stream of a call gives its events, each once, to its end", call_streams::are_whole),
];

/// Violations of one invariant that are printed; the others are counted.
const PRINTED_MAX: usize = 3;

/// All that is wrong, in words.
pub fn violations(history: &History) -> Vec<String> {
    let mut all = Vec::new();
    for (invariant, check) in INVARIANTS {
        let found = check(history);
        if !found.is_empty() {
            let printed = found.iter().take(PRINTED_MAX).cloned().collect::<Vec<_>>().join("; ");
            all.push(format!("{invariant}: {} violations: {printed}", found.len()));
        }
    }
    all
}

#[cfg(test)]
pub mod sample {
    use std::sync::LazyLock;

    use super::{Checker, violations};
    use crate::history::History;
    use crate::run;

    /// A run in which all is well, with something of everything: it takes some seeds.
    static SOUND: LazyLock<History> = LazyLock::new(|| {
        let is_rich = |history: &History| {
            let stories = || history.calls.values();
            stories().filter(|story| story.stream.is_some()).count() > 1
                && stories().any(|story| story.replies.len() > 2)
                && stories().flat_map(|story| &story.replies).any(|reply| reply.result.is_some())
                && history.faults > 10
        };
        let runs = (0..).map(|seed| run::run(seed).expect("a run that comes to its end"));
        runs.into_iter().find(is_rich).expect("one of them")
    });

    #[test]
    fn a_sound_history_breaks_no_invariant() {
        assert_eq!(violations(&SOUND), Vec::<String>::new());
    }

    /// The checker finds nothing in a sound history, and this in one that is broken in this way.
    #[track_caller]
    pub fn check_finds(check: Checker, words: &str, breaking: impl FnOnce(&mut History)) {
        let mut history = SOUND.clone();
        assert_eq!(check(&history), Vec::<String>::new(), "a sound history");
        breaking(&mut history);
        let found = check(&history);
        assert!(found.iter().any(|found| found.contains(words)), "no `{words}` in {found:?}");
    }
}
