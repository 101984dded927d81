//! Colours of states on a terminal.

use crate::app::config::Environment;

/// Returns whether output to a terminal may be coloured: see <https://no-color.org>.
pub(super) fn is_wanted() -> bool {
    let environment = Environment::capture();
    environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb")
}

/// Returns the text of a state, which may be padded, in the colour of the state.
pub(super) fn paint_state(text: &str) -> String {
    let code = match text.trim_end().replace(' ', "_").as_str() {
        "succeeded" | "delivered" => "32",
        "failed" | "timed_out" | "lost" | "dead_lettered" => "31",
        "cancelling" | "cancelled" | "closing" => "33",
        "running" | "open" | "leased" => "36",
        "closed" | "suppressed" => "2",
        _ => return text.to_owned(),
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use callpark_client::v1::{FollowUpState, SessionState, State};

    use super::*;
    use crate::cli::print::labels::{Labeled, label, phrase, values};

    fn plain<E: Labeled>() -> Vec<String> {
        values::<E>().into_iter().map(label).filter(|text| paint_state(text) == *text).collect()
    }

    #[test]
    fn every_state_that_is_more_than_a_plan_has_a_colour() {
        assert_eq!(plain::<State>(), ["pending"]);
        assert_eq!(plain::<SessionState>(), [""; 0]);
        assert_eq!(plain::<FollowUpState>(), ["pending"]);
    }

    #[test]
    fn a_phrase_has_the_colour_of_its_state() {
        assert_eq!(paint_state(&phrase(State::TimedOut)), "\x1b[31mtimed out\x1b[0m");
        assert_eq!(paint_state("lost   "), "\x1b[31mlost   \x1b[0m");
        assert_eq!(paint_state("other"), "other");
    }
}
