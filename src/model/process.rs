//! What it takes to start a process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

/// The variables that a process sees: those named here, and nothing else.
pub type Environment = BTreeMap<String, String>;

/// A process to start: a program and its arguments, never a line for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSpec {
    /// The program (looked up in the `PATH` of [`ProcessSpec::environment`] when it has no
    /// slash), then its arguments.
    pub argv: Vec<String>,
    /// Where it runs; none: the server's own working directory.
    pub working_directory: Option<PathBuf>,
    /// The whole of its environment.
    pub environment: Environment,
    /// What it reads from standard input before the end of the file; none: nothing.
    pub stdin: Option<Bytes>,
}
