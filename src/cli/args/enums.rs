//! Values of the contract's enumerations on the command line.

use crate::cli::print::labels::{Labeled, label, values};

/// Parses the label of a value. Capitals, and dashes instead of underscores, are allowed.
pub(crate) fn parse<E: Labeled>(text: &str) -> Result<E, String> {
    let given = text.to_lowercase().replace('-', "_");
    let all = values::<E>();
    all.iter().copied().find(|&value| label(value) == given).ok_or_else(|| {
        let labels: Vec<String> = all.iter().copied().map(label).collect();
        format!("must be one of {}", labels.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use callpark_client::v1::{
        FollowUpPolicy, FollowUpState, Kind, PayloadKind, SessionState, State,
    };

    use super::*;

    fn check_all<E: Labeled + Debug>() {
        for value in values::<E>() {
            assert_eq!(parse(&label(value)), Ok(value));
        }
    }

    #[test]
    fn every_label_can_be_parsed() {
        check_all::<State>();
        check_all::<Kind>();
        check_all::<SessionState>();
        check_all::<FollowUpState>();
        check_all::<FollowUpPolicy>();
        check_all::<PayloadKind>();
    }

    #[test]
    fn dashes_and_capitals_are_allowed() {
        assert_eq!(parse("TIMED-OUT"), Ok(State::TimedOut));
        assert_eq!(parse("tool-call-parked"), Ok(PayloadKind::ToolCallParked));
    }

    #[test]
    fn an_unknown_label_is_answered_with_the_known_ones() {
        let error = parse::<State>("done").unwrap_err();
        assert!(error.contains("pending, running") && error.contains("lost"), "{error}");
        let error = parse::<PayloadKind>("nothing").unwrap_err();
        assert!(error.contains("turn_started") && error.contains("session_shutdown"), "{error}");
    }
}
