//! The shim of a server: the program, and the settings that both sides have.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::Config;
use crate::exec::{ExecutorOptions, ShimProgram};
#[cfg(feature = "cli")]
use crate::exec::{HostOptions, ShimFolder};
use crate::model::limits::{OUTPUT_CHUNK_BYTES_MAX, OUTPUT_DELAY_MS};

/// Returns the options of the processes of a server or a shim.
pub(super) fn executor_options(drain: Duration, niceness: u32) -> ExecutorOptions {
    ExecutorOptions {
        drain,
        chunk_bytes_max: OUTPUT_CHUNK_BYTES_MAX,
        chunk_delay: Duration::from_millis(OUTPUT_DELAY_MS),
        niceness,
    }
}

/// Returns the program with which a server starts its shim, for the store at `data`.
pub(super) fn shim_program(program: PathBuf, config: &Config, data: &Path) -> ShimProgram {
    let settings = settings(config.output_drain, config.tool_niceness);
    ShimProgram { program, settings, folder: shims_folder(data) }
}

/// Returns the options of a shim.
#[cfg(feature = "cli")]
pub(crate) fn shim_options(folder: ShimFolder, drain: Duration, niceness: u32) -> HostOptions {
    let settings = settings(drain, niceness).join(" ");
    HostOptions { folder, executor: executor_options(drain, niceness), settings }
}

fn settings(drain: Duration, niceness: u32) -> Vec<String> {
    let drain = humantime::format_duration(drain).to_string().replace(' ', "");
    vec![format!("--output-drain={drain}"), format!("--tool-niceness={niceness}")]
}

/// Returns the folder of the shims of a store: beside the database, which is the path itself if it ends
/// in `.db`.
pub(crate) fn shims_folder(data: &Path) -> PathBuf {
    let is_database = data.extension().is_some_and(|extension| extension == "db");
    let database = if is_database { data.to_owned() } else { data.join("callpark.db") };
    let mut folder = database.into_os_string();
    folder.push(".shims");
    folder.into()
}
