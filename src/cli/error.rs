//! The reasons for which a command fails.

use std::io;

use callpark_client::Error;

use super::exit::Exit;

/// The reason for which a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of standard output has closed it. Not an error: the reader decides how much it
    /// wants.
    OutputClosed,
    /// A request to the server failed.
    Client(Box<Error>),
    /// Any other error.
    Message {
        /// The exit code.
        exit: Exit,
        /// One or two lines: what is wrong, and what to do.
        text: String,
    },
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self::Message { exit, text: text.into() }
    }

    /// An error in the command line, or in what it refers to.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// An error in reading or writing on this side.
    pub(crate) fn io(text: impl Into<String>) -> Self {
        Self::new(Exit::Io, text)
    }

    /// An answer of the server that its contract does not allow.
    pub(crate) fn unexpected_answer(text: impl Into<String>) -> Self {
        let hint = "use a client and a server of the same version";
        Self::new(Exit::Internal, format!("{}\n{hint}", text.into()))
    }

    /// A failed write to standard output.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::io(format!("cannot write to standard output: {error}")),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::OutputClosed => Exit::Success,
            Self::Client(error) => Exit::of_error(error),
            Self::Message { exit, .. } => *exit,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(Box::new(error))
    }
}
