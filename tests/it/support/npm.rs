//! Programs from the npm registry.

use std::path::{Path, PathBuf};

use tokio::process::Command;

/// Installs what the lock file in this folder of the repository names, once, and gives the folder
/// that holds `node_modules`.
pub async fn install(from: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(from);
    let name = from.file_name().expect("a name");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(from.join(name), folder.join(name)).expect("copied");
    }
    if !folder.join("node_modules/.package-lock.json").exists() {
        let npm = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&folder)
            .status();
        let status = npm.await.expect("npm");
        assert!(status.success(), "npm ci ended with {status}");
    }
    folder
}
