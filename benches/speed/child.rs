//! Servers as processes of their own.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

use crate::Result;

/// The first argument of this program when it is to be a server.
pub const SERVE: &str = "--serve";

/// A server that ends when it is dropped.
pub struct Server {
    child: Child,
    endpoint: String,
    /// Its store.
    folder: TempDir,
}

impl Server {
    /// callpark, with the tools of the benchmark.
    pub async fn callpark() -> Result<Self> {
        Self::start("callpark").await
    }

    /// The base line: a tonic service with the same messages and nothing behind it.
    pub async fn bare() -> Result<Self> {
        Self::start("bare").await
    }

    async fn start(kind: &str) -> Result<Self> {
        let folder = folder()?;
        let mut child = Command::new(std::env::current_exe()?)
            .args([SERVE, kind])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let endpoint = BufReader::new(stdout).lines().next_line().await?;
        let endpoint = endpoint.ok_or_else(|| format!("the server {kind} said nothing"))?;
        Ok(Self { child, endpoint, folder })
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone())?;
        // A stream that isn't read must not hold up the others.
        let endpoint = endpoint.initial_connection_window_size(64 << 20);
        Ok(endpoint.tcp_nodelay(true).connect().await?)
    }

    /// The store's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Memory in use, in bytes.
    pub fn resident_bytes(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
        Ok(kib.parse::<f64>()? * 1024.0)
    }

    fn pid(&self) -> Result<u32> {
        Ok(self.child.id().ok_or("the server has ended")?)
    }
}

/// A folder on the disk of the build.
pub fn folder() -> Result<TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}
