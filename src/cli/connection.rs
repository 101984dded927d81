//! The server that a command talks to, as messages of errors name it: its endpoints, and where the token came
//! from.

use std::path::PathBuf;

use crate::app::config::TOKEN_VARIABLE;

/// The server that a command talks to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    pub(crate) endpoints: Vec<String>,
    pub(crate) token: TokenOrigin,
}

impl Connection {
    /// Returns the endpoints, for a message.
    pub(crate) fn endpoints(&self) -> String {
        self.endpoints.join(", ")
    }
}

/// The place that the token comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum TokenOrigin {
    /// No token, and no file to look in: the server runs on another machine.
    #[default]
    OtherMachine,
    /// No token, because this file does not exist.
    MissingFile(PathBuf),
    /// The environment variable.
    Variable,
    /// A file.
    File(PathBuf),
}

impl TokenOrigin {
    /// Returns the origin as a clause of an error message.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::OtherMachine => {
                "no token was sent: the token of this machine's server is not sent to other \
                 machines"
                    .to_owned()
            }
            Self::MissingFile(path) => {
                format!("no token was sent: {} does not exist", path.display())
            }
            Self::Variable => format!(
                "the token was read from ${TOKEN_VARIABLE}, which holds the token itself, not the \
                 path of a file"
            ),
            Self::File(path) => format!("the token was read from {}", path.display()),
        }
    }
}
