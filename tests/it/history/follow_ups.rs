//! Follow-ups: each has one course of events, and is delivered once.

use super::{History, Violation};
use crate::support::v1;
use v1::FollowUpState as State;
use v1::session_event::Payload;

/// The state of a follow-up between two of its events.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Nowhere,
    Pending,
    Leased,
    Dead,
    Settled,
}

/// A follow-up is scheduled right behind the end of its task, is leased by one consumer at a time, and is
/// delivered or suppressed once; only one that was given up begins anew.
pub fn follow_ups_are_delivered_once(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for call in history.calls().values() {
        let mut place = Place::Nowhere;
        let mut ended = None;
        for (event, payload) in call.payloads() {
            if matches!(payload, Payload::ToolCallFinished(_)) {
                ended = Some(event.sequence);
            }
            let Some(next) = next(place, payload) else { continue };
            let is_first = place == Place::Nowhere && next == Ok(Place::Pending);
            if is_first && ended.map(|end| end + 1) != Some(event.sequence) {
                wrong.push(Violation::new(call.id, "scheduled apart from the end of its task"));
            }
            match next {
                Ok(next) => place = next,
                Err(detail) => {
                    wrong.push(Violation::new(call.id, format!("{detail} after {place:?}")));
                    break;
                }
            }
        }
    }
    wrong
}

/// Returns the state after an event, or `None` if the event is about something else.
fn next(place: Place, payload: &Payload) -> Option<Result<Place, String>> {
    Some(match (place, payload) {
        (Place::Nowhere | Place::Dead, Payload::FollowUpScheduled(_)) => Ok(Place::Pending),
        (Place::Pending, Payload::FollowUpStarted(_)) => Ok(Place::Leased),
        (Place::Pending, Payload::FollowUpFinished(end)) if end.state() == State::Suppressed => {
            Ok(Place::Settled)
        }
        (Place::Leased, Payload::FollowUpFinished(end)) => match end.state() {
            State::Pending => Ok(Place::Pending),
            State::Delivered | State::Suppressed => Ok(Place::Settled),
            State::DeadLettered => Ok(Place::Dead),
            other => Err(format!("an end as {other:?}")),
        },
        (_, Payload::FollowUpScheduled(_)) => Err("scheduled".into()),
        (_, Payload::FollowUpStarted(_)) => Err("started".into()),
        (_, Payload::FollowUpFinished(end)) => Err(format!("finished as {:?}", end.state())),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::super::sample::{check_fails, sample};
    use super::*;

    fn scheduled() -> Payload {
        Payload::FollowUpScheduled(v1::FollowUpScheduled::default())
    }

    fn started() -> Payload {
        Payload::FollowUpStarted(v1::FollowUpStarted::default())
    }

    fn finished(state: State) -> Payload {
        let state = state.into();
        Payload::FollowUpFinished(v1::FollowUpFinished { state, ..Default::default() })
    }

    /// Puts these behind the end of the first call.
    fn put(history: &mut History, story: Vec<Payload>) {
        for (behind, payload) in (0..).zip(story) {
            let message = v1::SessionEvent {
                sequence: 6 + behind,
                payload: Some(payload),
                ..history.logs[0].events[4].message.clone()
            };
            let place = 5 + usize::try_from(behind).expect("few");
            history.logs[0].events.insert(place, Event::new(message));
        }
    }

    #[test]
    fn a_whole_story_is_fine() {
        let mut history = sample();
        let story = vec![
            scheduled(),
            started(),
            finished(State::Pending),
            started(),
            finished(State::DeadLettered),
            scheduled(),
            started(),
            finished(State::Delivered),
        ];
        put(&mut history, story);
        assert_eq!(follow_ups_are_delivered_once(&history), []);
    }

    #[test]
    fn a_second_delivery_or_a_missing_schedule_is_found() {
        let broken: [(&str, Vec<Payload>); 5] = [
            ("started after Nowhere", vec![started()]),
            ("scheduled after Pending", vec![scheduled(), scheduled()]),
            ("started after Leased", vec![scheduled(), started(), started()]),
            ("finished as Delivered after Pending", vec![scheduled(), finished(State::Delivered)]),
            (
                "started after Settled",
                vec![scheduled(), started(), finished(State::Delivered), started()],
            ),
        ];
        for (detail, story) in broken {
            check_fails(follow_ups_are_delivered_once, detail, |history| {
                put(history, story.clone())
            });
        }
        check_fails(follow_ups_are_delivered_once, "apart", |history| {
            put(history, vec![started(), scheduled()]);
            history.logs[0].events.remove(5);
        });
    }
}
