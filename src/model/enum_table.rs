//! One table for each enum of the domain: its values, their labels and their stored numbers.

/// Defines an enum without fields from a table with a row for each value.
///
/// A row gives the value its label, as in `Budget => "budget"`. In an enum whose values stand in
/// columns of the store it also gives the number, as in `Pending => (1, "pending")`. Labels and
/// numbers are in files on disk: never change or reuse one.
///
/// The enum has `ALL`, `as_str`, `from_label`, [`Display`](std::fmt::Display) and serde by label,
/// and, with numbers, `number` and `from_number`.
macro_rules! enum_table {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$value_meta:meta])* $value:ident => ($number:literal, $label:literal)),+ $(,)?
        }
    ) => {
        $crate::model::enum_table! {
            $(#[$meta])*
            pub enum $name {
                $($(#[$value_meta])* $value => $label),+
            }
        }

        impl $name {
            /// The number that the store keeps for this value.
            pub const fn number(self) -> u8 {
                match self {
                    $(Self::$value => $number,)+
                }
            }

            /// Returns the value that the store keeps as `number`, or `None` if there is none.
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$value),)+
                    _ => None,
                }
            }
        }
    };
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$value_meta:meta])* $value:ident => $label:literal),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $($(#[$value_meta])* #[serde(rename = $label)] $value,)+
        }

        impl $name {
            /// Every value, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The label of this value, as it stands in records, metrics and messages.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $label,)+
                }
            }

            /// Returns the value with this label, or `None` if there is none.
            pub fn from_label(label: &str) -> Option<Self> {
                match label {
                    $($label => Some(Self::$value),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use enum_table;

#[cfg(test)]
mod tests {
    use crate::model::{FollowUpState, OutputStream, PayloadKind, SessionState, State, ToolKind};

    /// Checks one table: labels and numbers are distinct, read back, and agree with serde. Numbers of
    /// removed values may be missing between the first and the last.
    macro_rules! check {
        ($($name:ident: $count:literal, $first:literal, $last:literal;)+) => {$(
            let all = $name::ALL;
            for value in all.iter().copied() {
                assert_eq!($name::from_label(value.as_str()), Some(value));
                assert_eq!($name::from_number(value.number()), Some(value));
                let json = format!("\"{value}\"");
                assert_eq!(serde_json::to_string(&value).unwrap(), json);
                assert_eq!(serde_json::from_str::<$name>(&json).unwrap(), value);
            }
            let of_files = (1..=$count).map($name::from_number);
            let known = of_files.clone().flatten().count();
            assert_eq!(known, all.len(), "a stored number is unknown, or larger than the last");
            assert_eq!(of_files.clone().next().flatten().unwrap().as_str(), $first);
            assert_eq!(of_files.last().flatten().unwrap().as_str(), $last);
            assert_eq!($name::from_label(""), None);
            assert_eq!($name::from_number(0), None);
        )+};
    }

    #[test]
    fn labels_and_numbers_read_back() {
        check! {
            State: 9, "pending", "lost";
            SessionState: 3, "open", "closed";
            ToolKind: 5, "command", "built_in";
            OutputStream: 2, "stdout", "stderr";
            FollowUpState: 5, "pending", "dead_lettered";
            PayloadKind: 23, "tool_call_started", "tool_output_blocked";
        }
    }
}
