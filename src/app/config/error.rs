//! Errors of a configuration, and the sources of its values.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// The program that embeds the server.
    Program,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(&'static str),
    /// A flag, such as `--data-dir`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Program => f.write_str("program"),
            Self::File { path, line } => write!(f, "file {}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One error in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingError {
    /// The configuration file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// The configuration file is not TOML.
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// The error.
        reason: String,
    },
    /// A key of the configuration file, or the name of a flag, is not a setting.
    Unknown {
        /// The name.
        name: String,
        /// The place: a flag, or a line and a column.
        place: String,
        /// Names of settings that are similar.
        nearest: Vec<&'static str>,
    },
    /// A setting has a value that it cannot have.
    Value {
        /// The setting.
        setting: &'static str,
        /// The value.
        value: String,
        /// The source of the value.
        origin: Origin,
        /// The error, and a valid form.
        reason: String,
    },
    /// Settings that are right one by one exclude each other.
    Conflict(String),
}

impl SettingError {
    /// Creates the error of a value that the program has set.
    pub(crate) fn in_program(setting: &'static str, value: String, reason: String) -> Self {
        Self::Value { setting, value, origin: Origin::Program, reason }
    }

    /// Returns whether the value of the setting with this key is wrong.
    pub(super) fn is_about(&self, key: &str) -> bool {
        matches!(self, Self::Value { setting, .. } if *setting == key.replace('_', "-"))
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, reason } => {
                write!(f, "cannot read the configuration file {}: {reason}", path.display())
            }
            Self::Syntax { path, line, column, reason } => {
                write!(f, "{}:{line}:{column}: {reason}", path.display())
            }
            Self::Unknown { name, place, nearest } => {
                write!(f, "{place}: there is no setting `{name}`")?;
                match nearest.as_slice() {
                    [] => f.write_str("; `callpark config` lists them"),
                    nearest => write!(f, "; did you mean {}?", quoted(nearest, " or ")),
                }
            }
            Self::Value { setting, value, origin: Origin::Program, reason } => {
                write!(f, "{setting} = `{value}`: {reason}")
            }
            Self::Value { setting, value, origin: origin @ Origin::File { .. }, reason } => {
                write!(f, "{} = `{value}` ({origin}): {reason}", setting.replace('-', "_"))
            }
            Self::Value { setting, value, origin, reason } => {
                write!(f, "{setting} = `{value}` ({origin}): {reason}")
            }
            Self::Conflict(reason) => f.write_str(reason),
        }
    }
}

/// Returns names for a sentence.
pub(super) fn quoted<T: AsRef<str>>(names: &[T], separator: &str) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(separator)
}

/// A configuration that cannot be used, with all its errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The errors, at least one.
    pub errors: Vec<SettingError>,
}

impl From<SettingError> for ConfigError {
    fn from(error: SettingError) -> Self {
        Self { errors: vec![error] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.as_slice() {
            [error] => write!(f, "the configuration has an error: {error}"),
            errors => {
                write!(f, "the configuration has {} errors:", errors.len())?;
                errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}
