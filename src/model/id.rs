//! Ids of 122 random bits, written as a prefix and 32 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The error of a string that isn't an id of the expected kind, or the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be `{prefix}` followed by {digits}32 lower-case hexadecimal digits")]
pub struct IdError {
    prefix: &'static str,
    /// The words before the number of digits.
    digits: &'static str,
}

/// The ids from the first to the last one, such as those that begin with the same digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    first: [u8; 16],
    last: [u8; 16],
}

impl IdRange {
    /// Every id.
    pub const ALL: Self = Self { first: [0; 16], last: [u8::MAX; 16] };

    /// Returns whether the range holds the id with these bytes.
    pub fn contains(&self, id: &[u8; 16]) -> bool {
        (self.first..=self.last).contains(id)
    }

    /// Returns the bytes of the first and of the last id.
    pub fn bounds(&self) -> [&[u8; 16]; 2] {
        [&self.first, &self.last]
    }

    /// Parses the beginning of an id: the prefix of its kind and up to 32 digits.
    fn parse(text: &str, prefix: &'static str) -> Result<Self, IdError> {
        let error = IdError { prefix, digits: "up to " };
        let digits = text.strip_prefix(prefix).ok_or(error.clone())?;
        if digits.len() > 32 || !are_digits(digits) {
            return Err(error);
        }
        let id = |padded: String| {
            Uuid::try_parse(&padded).map(Uuid::into_bytes).map_err(|_| error.clone())
        };
        Ok(Self { first: id(format!("{digits:0<32}"))?, last: id(format!("{digits:f<32}"))? })
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the written form.
            pub const PREFIX: &'static str = $prefix;

            /// Creates a random id, which cannot be guessed.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// Parses the beginning of an id, and returns all ids that begin with it.
            pub fn parse_beginning(text: &str) -> Result<IdRange, IdError> {
                IdRange::parse(text, $prefix)
            }

            /// Returns the 16 bytes of the id, as a store keeps them.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Creates the id with these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

impl CallId {
    /// Returns the id of the turn of the agent that works for this call, which every server can tell.
    #[must_use]
    pub fn of_agent(self) -> Self {
        let mut bytes = *self.as_bytes();
        // Not the bytes that say that the id is a random one.
        bytes.iter_mut().take(6).for_each(|byte| *byte ^= 0xa5);
        Self::from_bytes(bytes)
    }
}

id!(
    /// The id of a session.
    SessionId,
    "ses-"
);
id!(
    /// The id of a call. The background task of a parked call has the same digits after `bg-`; see
    /// [`CallId::background`].
    CallId,
    "call-"
);
id!(
    /// The id of an agent's turn.
    TurnId,
    "turn-"
);

impl CallId {
    /// The prefix of a background task's id.
    pub const BACKGROUND_PREFIX: &'static str = "bg-";

    /// Returns the id of the background task that this call is or may become.
    pub fn background(&self) -> String {
        format!("{}{}", Self::BACKGROUND_PREFIX, self.0.simple())
    }

    /// The prefix of a follow-up's id.
    pub const FOLLOW_UP_PREFIX: &'static str = "fu-";

    /// Returns the id of the follow-up of this call's background task.
    pub fn follow_up(&self) -> String {
        format!("{}{}", Self::FOLLOW_UP_PREFIX, self.0.simple())
    }

    /// Parses the id of a follow-up and returns the id of its call.
    pub fn parse_follow_up(text: &str) -> Result<Self, IdError> {
        parse(text, Self::FOLLOW_UP_PREFIX).map(Self)
    }

    /// Parses the beginning of a background task's id, and returns the ids of all calls whose tasks'
    /// ids begin with it.
    pub fn parse_background_beginning(text: &str) -> Result<IdRange, IdError> {
        IdRange::parse(text, Self::BACKGROUND_PREFIX)
    }

    /// Parses the id of a background task and returns the id of its call.
    pub fn parse_background(text: &str) -> Result<Self, IdError> {
        parse(text, Self::BACKGROUND_PREFIX).map(Self)
    }
}

fn parse(text: &str, prefix: &'static str) -> Result<Uuid, IdError> {
    let error = IdError { prefix, digits: "" };
    let digits = text.strip_prefix(prefix).ok_or(error.clone())?;
    if digits.len() != 32 || !are_digits(digits) {
        return Err(error);
    }
    Uuid::try_parse(digits).map_err(|_| error)
}

fn are_digits(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let id = CallId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(CallId::parse_background(&id.background()), Ok(id));
        assert_eq!(CallId::parse_follow_up(&id.follow_up()), Ok(id));
        assert_eq!(id.to_string()[5..], id.background()[3..]);
    }

    #[test]
    fn the_beginning_of_an_id_stands_for_all_ids_that_begin_with_it() {
        let id = CallId::random();
        let text = id.background();
        for length in "bg-".len()..=text.len() {
            let range = CallId::parse_background_beginning(&text[..length]).expect("a beginning");
            assert!(range.contains(id.as_bytes()), "{length}");
        }
        let one = CallId::parse_background_beginning(&text).expect("a beginning");
        assert_eq!(one.bounds(), [id.as_bytes(); 2]);
        let odd = SessionId::parse_beginning("ses-3f2").expect("a beginning");
        assert_eq!([odd.first[..2].to_vec(), odd.last[..2].to_vec()], [[0x3f, 0x20], [0x3f, 0x2f]]);
        assert_eq!(SessionId::parse_beginning("ses-"), Ok(IdRange::ALL));
        for wrong in ["", "ses", "bg-3F", "ses-3f", &format!("{text}0")] {
            assert!(CallId::parse_background_beginning(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let id = SessionId::random().to_string();
        for wrong in [&id[4..], &id.to_uppercase(), &id[..20], "", "ses-", "call-x"] {
            assert!(wrong.parse::<SessionId>().is_err(), "{wrong:?}");
        }
    }
}
