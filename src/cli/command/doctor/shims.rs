//! The shims: the processes that own the running commands of a store.

use std::path::Path;

use super::Finding;
use crate::app::shims_folder;
use crate::cli::print::text::count;
use crate::exec::{ShimReport, inspect_shims};

const CHECK: &str = "shim";

/// Checks the shims of the store in a folder.
pub(super) fn check(folder: &Path) -> Vec<Finding> {
    let folder = shims_folder(folder);
    match inspect_shims(&folder) {
        Ok(shims) if shims.is_empty() => vec![Finding::ok(CHECK, "no command is running")],
        Ok(shims) => shims.iter().map(describe).collect(),
        Err(error) => {
            let text = format!("{}: {error}", folder.display());
            vec![Finding::problem(CHECK, text, "let the server's user read the folder")]
        }
    }
}

fn describe(shim: &ShimReport) -> Finding {
    let ShimReport { folder, pid, version, is_alive, spooled_bytes } = shim;
    if !is_alive {
        return Finding::warning(
            CHECK,
            format!("{} is of a process that has ended", folder.display()),
            "nothing: the server ends its calls when it starts, or runs them again",
        );
    }
    let spooled = match usize::try_from(*spooled_bytes).unwrap_or(usize::MAX) {
        0 => String::new(),
        bytes => format!(", {} of output wait for a server", count(bytes, "byte")),
    };
    Finding::ok(CHECK, format!("process {pid}, callpark {version}{spooled}"))
}
