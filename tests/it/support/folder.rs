//! Folders for the stores of servers and the files of tests.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};
use tempfile::TempDir;

use super::proofs::is_proof;
use super::waiting::variable;

/// The file system in memory that Linux offers to every user.
const MEMORY: &str = "/dev/shm";
/// The type of a file system in memory, as statfs(2) has it.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Far more than all tests that run at the same time write.
const FREE_BYTES_MIN: u64 = 4 << 30;

/// Creates an empty folder that is removed when it is dropped.
///
/// A server waits for the disk at every commit, and tests would spend most of their time on that.
/// So the folder is in memory where that has enough room, unless the proofs run or `TMPDIR` says
/// otherwise.
pub fn folder() -> TempDir {
    static PARENT: LazyLock<PathBuf> = LazyLock::new(|| {
        let is_free = !is_proof() && variable("TMPDIR").is_none() && is_fit(Path::new(MEMORY));
        if is_free { PathBuf::from(MEMORY) } else { std::env::temp_dir() }
    });
    tempfile::tempdir_in(&*PARENT).expect("a folder")
}

/// Returns whether the file system of this path is in memory, has room, and runs programs.
fn is_fit(path: &Path) -> bool {
    let (Ok(system), Ok(mount)) = (statfs(path), statvfs(path)) else { return false };
    let forbidden = StatVfsMountFlags::NOEXEC | StatVfsMountFlags::RDONLY;
    u64::try_from(system.f_type) == Ok(TMPFS_MAGIC)
        && mount.f_bavail.saturating_mul(mount.f_frsize) >= FREE_BYTES_MIN
        && !mount.f_flag.intersects(forbidden)
}
