//! Followers of the session.

use callpark_client::SessionItem;

use crate::history::{History, Seen, events};

/// Whatever was cut in between: a follower is given every event of the log, once and in order,
/// then the end, and neither a gap nor an error.
pub fn are_given_the_log(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, seen) in history.followers.iter().enumerate() {
        let given = events(seen);
        if !given.iter().copied().eq(&history.log) {
            let sequences: Vec<i64> = given.iter().map(|event| event.sequence).collect();
            wrong.push(format!(
                "follower {number} was given {sequences:?} of {} events, or others",
                history.log.len()
            ));
        }
        if let Some(last) = Seen::untrue_end(seen.last()) {
            wrong.push(format!("follower {number} ended with {last}"));
        }
        for seen in seen {
            if let Seen::Item(item @ (SessionItem::Gap { .. } | SessionItem::EpochChanged { .. })) =
                seen
            {
                wrong.push(format!("follower {number} was given {item:?}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::sample::check_finds;
    use super::*;

    fn event_at(history: &History) -> usize {
        let is_event = |seen: &Seen| matches!(seen, Seen::Item(SessionItem::Event(_)));
        history.followers[0].iter().position(is_event).expect("an event")
    }

    #[test]
    fn an_event_that_is_missing_comes_twice_or_is_another_is_found() {
        check_finds(are_given_the_log, "was given", |history| {
            let at = event_at(history);
            history.followers[0].remove(at);
        });
        check_finds(are_given_the_log, "was given", |history| {
            let at = event_at(history);
            let again = history.followers[0][at].clone();
            history.followers[0].push(again);
        });
        check_finds(are_given_the_log, "or others", |history| history.log[2].attempt += 1);
    }

    #[test]
    fn another_end_than_the_true_one_and_a_gap_are_found() {
        check_finds(are_given_the_log, "ended with", |history| {
            history.followers[1].pop();
        });
        check_finds(are_given_the_log, "ended with", |history| {
            history.followers[1].push(Seen::Error("the server is gone".into()));
        });
        check_finds(are_given_the_log, "was given Gap", |history| {
            history.followers[1].insert(3, Seen::Item(SessionItem::Gap { from: 1, to: 2 }));
        });
    }
}
