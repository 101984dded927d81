//! Servers as processes of their own.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

use crate::Result;

/// The first argument of this program when it is to be a server.
pub(crate) const SERVE: &str = "--serve";

/// A server that ends when it is dropped.
pub(crate) struct Server {
    child: Child,
    endpoint: String,
    /// The address of the operators' page.
    admin: String,
    /// The folder of the store, removed with the server.
    folder: TempDir,
}

impl Server {
    /// callpark, with the tools of the benchmark, and the model at this endpoint, if one is named.
    pub(crate) async fn callpark(model: &str) -> Result<Self> {
        Self::start("callpark", model).await
    }

    /// The base line: a tonic service with the same messages and nothing behind it.
    pub(crate) async fn bare() -> Result<Self> {
        Self::start("bare", "").await
    }

    /// A model endpoint.
    pub(crate) async fn model() -> Result<Self> {
        Self::start("model", "").await
    }

    /// The base line for turns: passes on what the model at this endpoint says.
    pub(crate) async fn proxy(model: &str) -> Result<Self> {
        Self::start("bare", model).await
    }

    /// callpark, whose processes are in a shim.
    pub(crate) async fn with_shim() -> Result<Self> {
        Self::start("shim", "").await
    }

    /// Kills it and starts the next server with a shim on its store. Returns how long the start took.
    pub(crate) async fn killed_and_restarted(mut self) -> Result<(Self, Duration)> {
        self.child.kill().await?;
        let began = Instant::now();
        let next = Self::start_in(self.folder, "shim", "").await?;
        Ok((next, began.elapsed()))
    }

    async fn start(kind: &str, model: &str) -> Result<Self> {
        Self::start_in(folder()?, kind, model).await
    }

    async fn start_in(folder: TempDir, kind: &str, model: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([SERVE, kind])
            .arg(folder.path())
            .arg(model)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let line = line.ok_or_else(|| format!("the server {kind} said nothing"))?;
        let (endpoint, admin) = line.split_once(' ').unwrap_or((&line, ""));
        let (endpoint, admin) = (endpoint.to_owned(), admin.to_owned());
        Ok(Self { child, endpoint, admin, folder })
    }

    /// The address that it listens on.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A `callpark-client` as its options stand by default.
    pub(crate) fn client(&self) -> Result<callpark_client::Client> {
        let options = callpark_client::ClientOptions::new(self.endpoint.clone());
        Ok(callpark_client::Client::new(options)?)
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone())?;
        // A stream that isn't read must not hold up the others.
        let endpoint = endpoint.initial_connection_window_size(64 << 20);
        Ok(endpoint.tcp_nodelay(true).connect().await?)
    }

    /// Memory in use, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<f64> {
        resident_bytes(self.pid()?)
    }

    /// Memory in use of its shim, in bytes.
    pub(crate) fn shim_resident_bytes(&self) -> Result<f64> {
        resident_bytes(*self.shims().first().ok_or("no shim")?)
    }

    /// Pages of logs that were read from the store until now.
    pub(crate) async fn log_reads(&self) -> Result<f64> {
        let mut admin = TcpStream::connect(&self.admin).await?;
        admin.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut page = String::new();
        admin.read_to_string(&mut page).await?;
        let name = "callpark_log_reads_total{source=\"store\"} ";
        let count = page.lines().find_map(|line| line.strip_prefix(name));
        Ok(count.ok_or("the reads aren't counted")?.parse()?)
    }

    /// Ends the server and all that it runs.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.pid()?.to_string()).status().await?;
        self.child.wait().await?;
        Ok(())
    }

    /// Ends the server, and the shims with all runs, which are in no other store.
    pub(crate) async fn stop_with_runs(self) -> Result<()> {
        for pid in self.shims() {
            Command::new("kill").arg(pid.to_string()).status().await?;
        }
        while !self.shims().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.stop().await
    }

    /// Returns the process ids of its shims.
    fn shims(&self) -> Vec<u32> {
        let folder = format!("--folder={}", self.folder.path().display());
        let is_shim = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word.starts_with(folder.as_bytes()))
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_shim).collect()
    }

    fn pid(&self) -> Result<u32> {
        Ok(self.child.id().ok_or("the server has ended")?)
    }
}

fn resident_bytes(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(kib.parse::<f64>()? * 1024.0)
}

/// A folder on the disk of the build.
pub(crate) fn folder() -> Result<TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}
