//! Ids: 122 random bits, written as a prefix and 32 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a string is not an id of the kind that was asked for.
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
            /// What the written form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id that nobody can guess.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The 16 bytes behind the written form, as a store keeps them.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these 16 bytes.
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
    /// A session: the owner of one event log.
    SessionId,
    "ses-"
);
id!(
    /// One call of a tool. Once the call is in the background its task goes by the same digits
    /// behind `bg-`; see [`CallId::background`].
    CallId,
    "call-"
);
id!(
    /// One turn of an agent.
    TurnId,
    "turn-"
);

impl CallId {
    /// What the background form of the id begins with.
    pub const BACKGROUND_PREFIX: &'static str = "bg-";

    /// The name of the background task that this call is, or may become.
    pub fn background(&self) -> String {
        format!("{}{}", Self::BACKGROUND_PREFIX, self.0.simple())
    }

    /// What the name of a follow-up begins with.
    pub const FOLLOW_UP_PREFIX: &'static str = "fu-";

    /// The name of the follow-up of the task that this call is.
    pub fn follow_up(&self) -> String {
        format!("{}{}", Self::FOLLOW_UP_PREFIX, self.0.simple())
    }

    /// Reads the name of a follow-up: the call whose it is.
    pub fn parse_follow_up(text: &str) -> Result<Self, IdError> {
        parse(text, Self::FOLLOW_UP_PREFIX).map(Self)
    }

    /// Reads the background form of the id.
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
