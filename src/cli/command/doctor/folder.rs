//! The data folder, and the files with secrets: their owners and their permissions.

use std::path::{Path, PathBuf};

use super::Finding;
use crate::app::config::Config;
use crate::auth::{GuardedFile, OwnershipError};

/// Checks the data folder.
pub(super) fn check(folder: &Path) -> Finding {
    guarded("folder", GuardedFile::DataFolder, folder)
}

/// Checks the files with secrets that a configuration names.
pub(super) fn check_files(config: &Config) -> Vec<Finding> {
    let files = [
        ("token", GuardedFile::Token, &config.token_file),
        ("TLS key", GuardedFile::TlsKey, &config.tls_key),
        ("API keys", GuardedFile::Keys, &config.keys_file),
        ("password file", GuardedFile::StorePassword, &config.store_password_file),
    ];
    let check = |(check, kind, path): (_, _, &Option<PathBuf>)| {
        path.as_deref().map(|path| guarded(check, kind, path))
    };
    files.into_iter().filter_map(check).collect()
}

/// Checks the owner and the permissions of a file.
fn guarded(check: &'static str, kind: GuardedFile, path: &Path) -> Finding {
    match kind.check_path(path) {
        Ok(()) if !path.exists() => {
            Finding::ok(check, format!("{} does not exist yet", path.display()))
        }
        Ok(()) => Finding::ok(check, format!("{}: no other user can use it", path.display())),
        Err(OwnershipError { name, path, problem, remedy }) => {
            Finding::problem(check, format!("{name} {} {problem}", path.display()), remedy)
        }
    }
}
