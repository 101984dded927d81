//! Ids of 122 random bits, written as a prefix and 32 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The error of a string that isn't an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be `{prefix}` followed by 32 lower-case hexadecimal digits")]
pub struct IdError {
    prefix: &'static str,
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

            /// Returns the 16 bytes of the id, as a store keeps them.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Creates the id with these 16 bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
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

    /// Parses the id of a background task and returns the id of its call.
    pub fn parse_background(text: &str) -> Result<Self, IdError> {
        parse(text, Self::BACKGROUND_PREFIX).map(Self)
    }
}

fn parse(text: &str, prefix: &'static str) -> Result<Uuid, IdError> {
    let error = IdError { prefix };
    let digits = text.strip_prefix(prefix).ok_or(error.clone())?;
    let plain =
        digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !plain {
        return Err(error);
    }
    Uuid::try_parse(digits).map_err(|_| error)
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
    fn other_spellings_are_refused() {
        let id = SessionId::random().to_string();
        for wrong in [&id[4..], &id.to_uppercase(), &id[..20], "", "ses-", "call-x"] {
            assert!(wrong.parse::<SessionId>().is_err(), "{wrong:?}");
        }
    }
}
