//! Values of the contract's enumerations, in the words of the command line.

use callpark_client::v1::{FollowUpPolicy, FollowUpState, Kind, PayloadKind, SessionState, State};

/// The states a task can be in.
pub(crate) const STATES: [State; 9] = [
    State::Pending,
    State::Running,
    State::InputRequired,
    State::Cancelling,
    State::Succeeded,
    State::Failed,
    State::TimedOut,
    State::Cancelled,
    State::Lost,
];

const KINDS: [Kind; 5] = [Kind::Command, Kind::Mcp, Kind::Agent, Kind::Worker, Kind::BuiltIn];

const SESSION_STATES: [SessionState; 3] =
    [SessionState::Open, SessionState::Closing, SessionState::Closed];

const FOLLOW_UP_STATES: [FollowUpState; 5] = [
    FollowUpState::Pending,
    FollowUpState::Leased,
    FollowUpState::Delivered,
    FollowUpState::Suppressed,
    FollowUpState::DeadLettered,
];

const FOLLOW_UP_POLICIES: [FollowUpPolicy; 3] =
    [FollowUpPolicy::OnFinish, FollowUpPolicy::OnFailure, FollowUpPolicy::None];

/// A state, in lower case.
pub(crate) fn state(state: State) -> String {
    word("STATE_", state.as_str_name())
}

/// A kind, in lower case.
pub(crate) fn kind(kind: Kind) -> String {
    word("KIND_", kind.as_str_name())
}

/// The state of a session, in lower case.
pub(crate) fn session_state(state: SessionState) -> String {
    word("SESSION_STATE_", state.as_str_name())
}

/// The state of a follow-up, in lower case.
pub(crate) fn follow_up_state(state: FollowUpState) -> String {
    word("FOLLOW_UP_STATE_", state.as_str_name())
}

/// Which ends give a follow-up, in lower case.
pub(crate) fn follow_up_policy(policy: FollowUpPolicy) -> String {
    word("FOLLOW_UP_POLICY_", policy.as_str_name())
}

/// Any value, in lower case and without the prefix of its enumeration.
pub(crate) fn word(prefix: &str, name: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

/// Reads a state.
pub(crate) fn parse_state(text: &str) -> Result<State, String> {
    parse(text, &STATES, state)
}

/// Reads a kind.
pub(crate) fn parse_kind(text: &str) -> Result<Kind, String> {
    parse(text, &KINDS, kind)
}

/// Reads the state of a session.
pub(crate) fn parse_session_state(text: &str) -> Result<SessionState, String> {
    parse(text, &SESSION_STATES, session_state)
}

/// Reads the state of a follow-up.
pub(crate) fn parse_follow_up_state(text: &str) -> Result<FollowUpState, String> {
    parse(text, &FOLLOW_UP_STATES, follow_up_state)
}

/// Reads which ends give a follow-up.
pub(crate) fn parse_follow_up_policy(text: &str) -> Result<FollowUpPolicy, String> {
    parse(text, &FOLLOW_UP_POLICIES, follow_up_policy)
}

/// Reads the name of a payload, as it stands in `SessionEvent`.
pub(crate) fn parse_payload(text: &str) -> Result<PayloadKind, String> {
    // The numbers of the values are those of the payloads' fields.
    let all: Vec<PayloadKind> =
        (1..=64).filter_map(|number| PayloadKind::try_from(number).ok()).collect();
    parse(text, &all, |payload| word("PAYLOAD_KIND_", payload.as_str_name()))
}

fn parse<T: Copy>(text: &str, all: &[T], name: fn(T) -> String) -> Result<T, String> {
    let given = text.to_lowercase().replace('-', "_");
    all.iter().copied().find(|&value| name(value) == given).ok_or_else(|| {
        let names: Vec<String> = all.iter().copied().map(name).collect();
        format!("one of {} is expected", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for each in STATES {
            assert_eq!(parse_state(&state(each)), Ok(each));
        }
        for each in KINDS {
            assert_eq!(parse_kind(&kind(each)), Ok(each));
        }
        for each in SESSION_STATES {
            assert_eq!(parse_session_state(&session_state(each)), Ok(each));
        }
        for each in FOLLOW_UP_STATES {
            assert_eq!(parse_follow_up_state(&follow_up_state(each)), Ok(each));
        }
        for each in FOLLOW_UP_POLICIES {
            assert_eq!(parse_follow_up_policy(&follow_up_policy(each)), Ok(each));
        }
    }

    #[test]
    fn dashes_and_capitals_will_do() {
        assert_eq!(parse_state("TIMED-OUT"), Ok(State::TimedOut));
        assert_eq!(parse_payload("tool-call-parked"), Ok(PayloadKind::ToolCallParked));
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_right_ones() {
        let error = parse_state("done").unwrap_err();
        assert!(error.contains("pending, running") && error.contains("lost"), "{error}");
        let error = parse_payload("nothing").unwrap_err();
        assert!(error.contains("turn_started") && error.contains("session_shutdown"), "{error}");
    }

    #[test]
    fn no_value_of_the_contract_is_missing() {
        let known = |number| State::try_from(number).is_ok();
        assert_eq!((1..100).filter(|&number| known(number)).count(), STATES.len());
        let known = |number| Kind::try_from(number).is_ok();
        assert_eq!((1..100).filter(|&number| known(number)).count(), KINDS.len());
        let known = |number| FollowUpState::try_from(number).is_ok();
        assert_eq!((1..100).filter(|&number| known(number)).count(), FOLLOW_UP_STATES.len());
        let known = |number| FollowUpPolicy::try_from(number).is_ok();
        assert_eq!((1..100).filter(|&number| known(number)).count(), FOLLOW_UP_POLICIES.len());
    }
}
