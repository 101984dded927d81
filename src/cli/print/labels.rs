//! Names of the contract's enumeration values on the command line.

use callpark_client::v1::{
    EndReason, FollowUpPolicy, FollowUpState, Kind, OutputStream, ParkReason, PayloadKind,
    SessionState, State, StopReason,
};

/// The highest number of a value in any enumeration of the contract.
const NUMBER_MAX: i32 = 255;

/// An enumeration of the contract whose values have names on the command line.
pub(crate) trait Labeled: Copy + PartialEq + TryFrom<i32> {
    /// The beginning of the names of its values in the contract.
    const PREFIX: &'static str;

    /// Returns the name of the value in the contract.
    fn wire_name(self) -> &'static str;
}

macro_rules! labeled {
    ($($name:ident: $prefix:literal),+ $(,)?) => {$(
        impl Labeled for $name {
            const PREFIX: &'static str = $prefix;

            fn wire_name(self) -> &'static str {
                self.as_str_name()
            }
        }
    )+};
}

labeled!(
    EndReason: "END_REASON_",
    FollowUpPolicy: "FOLLOW_UP_POLICY_",
    FollowUpState: "FOLLOW_UP_STATE_",
    Kind: "KIND_",
    OutputStream: "OUTPUT_STREAM_",
    ParkReason: "PARK_REASON_",
    PayloadKind: "PAYLOAD_KIND_",
    SessionState: "SESSION_STATE_",
    State: "STATE_",
    StopReason: "STOP_REASON_",
);

/// Returns the label of a value: its name in lower case, without the prefix of its enumeration.
pub(crate) fn label<E: Labeled>(value: E) -> String {
    let name = value.wire_name();
    name.strip_prefix(E::PREFIX).unwrap_or(name).to_lowercase()
}

/// Returns the label of a value with spaces between its words, for sentences.
pub(crate) fn phrase<E: Labeled>(value: E) -> String {
    label(value).replace('_', " ")
}

/// Returns all values of an enumeration except the unspecified one.
pub(crate) fn values<E: Labeled>() -> Vec<E> {
    (1..=NUMBER_MAX).filter_map(|number| E::try_from(number).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_in_lower_case_and_has_no_prefix() {
        assert_eq!(label(State::TimedOut), "timed_out");
        assert_eq!(phrase(ParkReason::BackgroundStart), "background start");
        assert_eq!(label(PayloadKind::ToolCallParked), "tool_call_parked");
    }

    #[test]
    fn every_value_of_an_enumeration_is_found() {
        assert_eq!(values::<State>().len(), 8);
        assert_eq!(values::<Kind>().len(), 4);
        assert_eq!(values::<FollowUpState>().last(), Some(&FollowUpState::DeadLettered));
        assert_eq!(values::<PayloadKind>().last(), Some(&PayloadKind::ToolOutputBlocked));
    }
}
