//! The types of settings, with their text in flags, variables and files.

use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::telemetry::LogFormat;

/// A type that a setting may have.
pub(super) trait Value: Sized {
    /// `true` if the flag may stand alone, and then means `true`.
    const IS_SWITCH: bool = false;
    /// All values, or none if there are too many to list.
    const CHOICES: &[&str] = &[];

    /// Parses a value. The error names the expected form.
    fn parse(text: &str) -> Result<Self, String>;

    /// Returns the value as a text that [`Value::parse`] accepts. It has no secret.
    fn show(&self) -> String;

    /// Returns a text that may not be a value as an error shows it, without what may be a secret.
    fn show_text(text: &str) -> String {
        text.to_owned()
    }
}

/// The text of a value that a setting cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(String);

impl InvalidValue {
    pub(super) fn new(reason: String) -> Self {
        Self(reason)
    }
}

macro_rules! from_str {
    ($($type:ty),+) => {$(
        impl std::str::FromStr for $type {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                Value::parse(text).map_err(InvalidValue)
            }
        }
    )+};
}

from_str!(ByteSize, VariableName, LogFilter, AuthMode);

/// A size below 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u32);

/// Units of durations in nanoseconds, the largest first.
const DURATION_UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of sizes, the largest first.
const SIZE_UNITS: [(&str, u32); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// Creates a size in bytes.
    pub const fn new(bytes: u32) -> Self {
        Self(bytes)
    }

    /// Creates a size in KiB.
    pub const fn kib(count: u32) -> Self {
        Self(count << 10)
    }

    /// Creates a size in MiB.
    pub const fn mib(count: u32) -> Self {
        Self(count << 20)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Returns the number of bytes, as the type of lengths.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl Value for ByteSize {
    fn parse(text: &str) -> Result<Self, String> {
        let expected = || "a size below 4 GiB such as 65536, 64KiB or 4MiB is expected".to_owned();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text[digits.len()..].to_ascii_lowercase();
        let factor = SIZE_UNITS.iter().find(|(name, _)| name.to_ascii_lowercase() == unit);
        let factor = match (unit.as_str(), factor) {
            ("", _) => 1,
            (_, Some((_, factor))) => *factor,
            (_, None) => return Err(expected()),
        };
        let count: u32 = digits.trim().parse().map_err(|_| expected())?;
        count.checked_mul(factor).map(Self).ok_or_else(expected)
    }

    fn show(&self) -> String {
        let fits = |(_, factor): &&(&str, u32)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match SIZE_UNITS.iter().find(fits) {
            Some((unit, factor)) => format!("{}{unit}", self.0 / factor),
            None => self.0.to_string(),
        }
    }
}

impl Value for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map_err(|_| "a duration such as 500ms, 30s, 5m or 1h 30m is expected".to_owned())
    }

    fn show(&self) -> String {
        // Without months and years, which are not whole numbers of days.
        let mut left = self.as_nanos();
        let mut parts = Vec::new();
        for (unit, nanos) in DURATION_UNITS {
            let count = left / nanos;
            left %= nanos;
            if count > 0 {
                parts.push(format!("{count}{unit}"));
            }
        }
        if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
    }
}

impl Value for bool {
    const IS_SWITCH: bool = true;
    const CHOICES: &[&str] = &["true", "false"];

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "true or false is expected".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Value for $number {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| "a whole number is expected".to_owned())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

numbers!(u32, u64, usize);

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a path is expected".to_owned()),
            _ if text == "~" || text.starts_with("~/") => {
                Err("`~` is expanded by shells only: write the whole path".to_owned())
            }
            _ => Ok(text.into()),
        }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("some text is expected".to_owned()),
            text => Ok(text.to_owned()),
        }
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl<T: Value> Value for Vec<T> {
    fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(|item| T::parse(item).map_err(|error| format!("`{item}`: {error}"))).collect()
    }

    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(",")
    }
}

impl<T: Value> Value for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(None);
        }
        T::parse(text).map(Some).map_err(|error| format!("{error}, or `none`"))
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), T::show)
    }
}

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableName(String);

impl VariableName {
    /// Creates a name from a text that is known to be valid.
    pub(super) fn from_static(name: &'static str) -> Self {
        Self(name.to_owned())
    }
}

impl AsRef<str> for VariableName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Value for VariableName {
    fn parse(text: &str) -> Result<Self, String> {
        let is_name = !text.is_empty() && !text.contains(['=', '\0']);
        is_name.then(|| Self(text.to_owned())).ok_or_else(|| {
            "names of environment variables are expected, such as PATH,HOME".to_owned()
        })
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// Directives for the log: a level, or a list such as `info,callpark::engine=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl Default for LogFilter {
    /// The level `info`, without messages of libraries that concern only developers of callpark.
    fn default() -> Self {
        Self("info,refinery_core=warn,rmcp=off".to_owned())
    }
}

impl AsRef<str> for LogFilter {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Value for LogFilter {
    fn parse(text: &str) -> Result<Self, String> {
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(format!(
                "a level (error, warn, info, debug, trace) or directives such as \
                 info,callpark::engine=debug are expected ({error})"
            )),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// The way in which callers authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthMode {
    /// The bearer token in the token file.
    Token,
    /// No authentication, on loopback addresses only.
    None,
}

/// Implements [`Value`] for an enum with a name for each variant.
macro_rules! names {
    ($type:ty { $($name:literal => $value:expr),+ $(,)? }) => {
        impl Value for $type {
            const CHOICES: &[&str] = &[$($name),+];

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok($value),)+
                    _ => Err(format!("one of {} is expected", Self::CHOICES.join(", "))),
                }
            }

            fn show(&self) -> String {
                let names = [$(($name, $value)),+];
                let own = names.into_iter().find(|(_, value)| value == self);
                own.map_or_else(String::new, |(name, _)| name.to_owned())
            }
        }
    };
}

names!(AuthMode { "token" => AuthMode::Token, "none" => AuthMode::None });
names!(LogFormat { "text" => LogFormat::Text, "json" => LogFormat::Json });

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn check_both_ways<T: Value + PartialEq + Debug>(text: &str, value: &T, shown: &str) {
        assert_eq!(T::parse(text).as_ref(), Ok(value), "{text}");
        assert_eq!(value.show(), shown);
        assert_eq!(T::parse(shown).as_ref(), Ok(value), "{shown}");
    }

    #[test]
    fn values_are_shown_in_the_form_in_which_they_are_read() {
        check_both_ways("4194304", &ByteSize::new(4 << 20), "4MiB");
        check_both_ways("16 kib", &ByteSize::new(16 << 10), "16KiB");
        check_both_ways("1025", &ByteSize::new(1025), "1025B");
        check_both_ways("0", &ByteSize::new(0), "0");
        check_both_ways("90s", &Duration::from_secs(90), "1m 30s");
        check_both_ways("0s", &Duration::ZERO, "0s");
        check_both_ways("none", &None::<PathBuf>, "none");
        check_both_ways(
            "PATH, HOME,",
            &Vec::<VariableName>::parse("PATH,HOME").expect("names"),
            "PATH,HOME",
        );
        check_both_ways("json", &LogFormat::Json, "json");
        check_both_ways("none", &AuthMode::None, "none");
    }

    #[test]
    fn invalid_sizes_are_refused() {
        for text in ["", "KiB", "-1", "4 MB", "4GiB", "99999999999", "1.5MiB"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bad_item_of_a_list_is_named() {
        let error = Vec::<ByteSize>::parse("1KiB,many").expect_err("a word");
        assert!(error.starts_with("`many`: a size below 4 GiB"), "{error}");
    }
}
