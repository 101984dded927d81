//! `/proc`, in which the processes of calls are found.

use std::fs;

use rustix::process::getpid;

/// The link of `/proc` to the process that reads it, whose target is the id of the process.
const OWN: &str = "/proc/self";

/// The reason why processes cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// There is nothing at `/proc`.
    #[error(
        "/proc is not mounted ({cause}), so that processes of its tools cannot be found: mount it with \
         `mount -t proc proc /proc`"
    )]
    Missing {
        /// The error of the system.
        cause: String,
    },
    /// The ids in `/proc` are not those that this program uses.
    #[error(
        "/proc shows another PID namespace (this process is {shown} there, and {own} in its own), so that \
         processes of its tools cannot be found: mount its own with `mount -t proc proc /proc`"
    )]
    Foreign {
        /// The id that `/proc` shows.
        shown: String,
        /// The id of this process.
        own: i32,
    },
}

/// Checks that `/proc` is there and shows the processes under the ids by which this program signals them.
///
/// # Errors
///
/// There is none, or it is that of another PID namespace.
pub fn check_proc() -> Result<(), ProcError> {
    let own = getpid().as_raw_nonzero().get();
    match fs::read_link(OWN) {
        Ok(shown) if shown.as_os_str() == own.to_string().as_str() => Ok(()),
        Ok(shown) => Err(ProcError::Foreign { shown: shown.display().to_string(), own }),
        Err(error) => Err(ProcError::Missing { cause: error.to_string() }),
    }
}
