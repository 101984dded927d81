//! Errors of the shims of a store.

use std::path::PathBuf;

/// The reason why the shims of a store cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShimError {
    /// A shim is newer than this program.
    #[error(
        "the running calls belong to a shim of callpark {version} (process {pid}), which is newer than \
         this program: start that version, or kill the process to give up the calls"
    )]
    Newer {
        /// The process id.
        pid: u32,
        /// The version.
        version: String,
    },
    /// A shim does not answer.
    #[error(
        "the shim of `{folder}` does not answer: {cause}; if its process is stopped, continue it, or \
         kill it to give up its calls"
    )]
    Unreachable {
        /// The folder.
        folder: PathBuf,
        /// The error of the system.
        cause: String,
    },
    /// A shim is alive, and its socket is not in this network namespace.
    #[error(
        "the shim of `{folder}` is in another network namespace: start the server there, or kill the \
         process to give up its calls"
    )]
    OtherNetwork {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder of the shims cannot be used.
    #[error("the folder `{folder}` for running calls cannot be used: {cause}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The error of the system.
        cause: String,
    },
}
