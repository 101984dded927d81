//! The description of a process to start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

/// The complete environment of a process.
pub type Environment = BTreeMap<String, String>;

/// A process to start, without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSpec {
    /// The program and its arguments. A program without a slash is looked up in the `PATH` of
    /// [`ProcessSpec::environment`].
    pub argv: Vec<String>,
    /// The working directory, or `None` for that of the server.
    pub working_directory: Option<PathBuf>,
    /// The environment. No variable of the server is inherited.
    pub environment: Environment,
    /// The content of standard input, or `None` if it is empty.
    pub stdin: Option<Bytes>,
}
