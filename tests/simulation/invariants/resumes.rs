//! Control messages of streams.

use callpark_client::SessionItem;

use crate::history::{History, Seen};

/// A stream that was cut goes on behind the last event that it gave, and says that it has caught up
/// only when it has.
pub fn go_on_where_they_were(history: &History) -> Vec<String> {
    let followers = history.followers.iter().map(Vec::as_slice);
    let streams = history.calls.values().filter_map(|story| story.stream.as_deref());
    let mut wrong = Vec::new();
    for (number, seen) in followers.chain(streams).enumerate() {
        let mut last = None;
        for seen in seen {
            let Seen::Item(item) = seen else { continue };
            match item {
                SessionItem::Event(event) => last = Some(event.sequence),
                SessionItem::Resumed { after_sequence } if *after_sequence != last => {
                    wrong.push(format!(
                        "stream {number} resumed after {after_sequence:?}, not {last:?}"
                    ));
                }
                SessionItem::CaughtUp { head_sequence } if last.unwrap_or(0) < *head_sequence => {
                    wrong.push(format!(
                        "stream {number} has caught up with {head_sequence} at {last:?}"
                    ));
                }
                _ => {}
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::sample::check_finds;
    use super::*;

    #[test]
    fn a_stream_that_goes_on_elsewhere_is_found() {
        check_finds(go_on_where_they_were, "resumed after Some(1)", |history| {
            let resumed = SessionItem::Resumed { after_sequence: Some(1) };
            history.followers[0].push(Seen::Item(resumed));
        });
        check_finds(go_on_where_they_were, "has caught up with 7", |history| {
            let caught_up = SessionItem::CaughtUp { head_sequence: 7 };
            history.followers[1].insert(0, Seen::Item(caught_up));
        });
    }
}
