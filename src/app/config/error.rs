//! What can be wrong with a configuration, and where values come from.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has set it.
    Default,
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

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The configuration file can't be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The configuration file isn't TOML.
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where, in characters from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A key of the configuration file, or the name of a flag, is no setting.
    Unknown {
        /// The name.
        name: String,
        /// Where it stands.
        place: String,
        /// Names like it that there are.
        nearest: Vec<&'static str>,
    },
    /// A setting has a value that it can't have.
    Value {
        /// The setting.
        setting: &'static str,
        /// What was given.
        value: String,
        /// Where.
        origin: Origin,
        /// What would be right.
        reason: String,
    },
    /// Settings that are good one by one don't go together.
    Conflict(String),
}

impl fmt::Display for Fault {
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
                match nearest.split_first() {
                    None => f.write_str("; `callpark config` lists them"),
                    Some((first, rest)) => {
                        write!(f, "; did you mean `{first}`")?;
                        rest.iter().try_for_each(|name| write!(f, " or `{name}`"))?;
                        f.write_str("?")
                    }
                }
            }
            Self::Value { setting, value, origin, reason } => {
                write!(f, "{setting} = `{value}` ({origin}): {reason}")
            }
            Self::Conflict(reason) => f.write_str(reason),
        }
    }
}

/// A configuration that can't be used, with all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [fault] => write!(f, "the configuration has a fault: {fault}"),
            faults => {
                write!(f, "the configuration has {} faults:", faults.len())?;
                faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}
