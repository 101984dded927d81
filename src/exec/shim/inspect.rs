//! A look at the shims of a store from outside, without a connection: that would take the place of the
//! server's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::ShimFolder;
use crate::exec::unix::is_running;

/// The name of the file in which a shim describes itself.
const ABOUT: &str = "about";

/// The ending of the names of files with output that no server has read.
pub(super) const SPOOL_EXTENSION: &str = "spool";

/// A shim, as its folder shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimReport {
    /// The folder.
    pub folder: PathBuf,
    /// The process id, or 0 if it is not known.
    pub pid: u32,
    /// The version of the program, or an empty text if it is not known.
    pub version: String,
    /// `true` if the process runs.
    pub is_alive: bool,
    /// The size of the output that no server has read, in bytes.
    pub spooled_bytes: u64,
}

/// The description that a shim writes into its folder.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct About {
    pid: u32,
    /// The process with the time of its start.
    process: String,
    version: String,
}

/// Writes the description of this process.
pub(super) fn describe(folder: &ShimFolder) -> io::Result<()> {
    let about = About {
        pid: std::process::id(),
        process: crate::exec::unix::this_process(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    fs::write(folder.path().join(ABOUT), serde_json::to_vec(&about)?)
}

/// Returns the shims whose folders are in this one.
///
/// # Errors
///
/// The folder cannot be read.
pub fn inspect_shims(parent: &Path) -> io::Result<Vec<ShimReport>> {
    let folders = ShimFolder::list(parent)?;
    Ok(folders.iter().map(|folder| report(folder.path())).collect())
}

fn report(folder: &Path) -> ShimReport {
    let about = fs::read(folder.join(ABOUT)).unwrap_or_default();
    let about: About = serde_json::from_slice(&about).unwrap_or_default();
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let spools = files.filter(|file| {
        file.path().extension().is_some_and(|extension| extension == SPOOL_EXTENSION)
    });
    let spooled_bytes = spools.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
    ShimReport {
        folder: folder.to_owned(),
        pid: about.pid,
        version: about.version,
        is_alive: is_running(&about.process),
        spooled_bytes,
    }
}
