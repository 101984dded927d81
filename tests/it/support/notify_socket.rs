//! The socket of a service manager, as systemd gives it to a service.

use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;
use tokio::process::Command;

use super::program::Site;
use super::soon;

/// A socket that receives what a service tells its manager.
pub struct NotifySocket {
    path: PathBuf,
    socket: UnixDatagram,
}

impl NotifySocket {
    /// A socket in the folder of this site.
    pub fn new(site: &Site) -> Self {
        let path = site.folder().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self { path, socket }
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A server of this site, which has this socket. `watchdog` is the interval in microseconds.
    pub fn server(&self, site: &Site, watchdog: Option<u64>, flags: &[&str]) -> Command {
        let data = site.data().display().to_string();
        let first = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
        let mut command = site.command(&[&first, flags].concat());
        command.env("NOTIFY_SOCKET", &self.path);
        command.envs(watchdog.map(|interval| ("WATCHDOG_USEC", interval.to_string())));
        command
    }

    /// Receives the next message: its states.
    pub async fn message(&self) -> Vec<String> {
        let mut buffer = vec![0; 4096];
        let read = soon("a notification", self.socket.recv(&mut buffer)).await.expect("a message");
        let text = std::str::from_utf8(&buffer[..read]).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    /// Receives messages until one has a state for which this is true, and returns that state.
    pub async fn until(&self, mut wanted: impl FnMut(&str) -> bool) -> String {
        loop {
            if let Some(state) = self.message().await.into_iter().find(|state| wanted(state)) {
                return state;
            }
        }
    }

    /// Returns the messages that wait to be received.
    pub fn waiting(&self) -> Vec<Vec<String>> {
        let mut messages = Vec::new();
        let mut buffer = vec![0; 4096];
        while let Ok(read) = self.socket.try_recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..read]);
            messages.push(text.lines().map(str::to_owned).collect());
        }
        messages
    }
}
