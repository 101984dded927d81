//! Several servers of one database, each in a process with a home of its own.

use tokio::process::Command;

use crate::cluster::{Cluster, PASSWORD, ROLE};
use crate::support::program::{Program, Site};

/// A database that several servers share.
pub(crate) struct Place<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) database: String,
}

impl<'a> Place<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, database: cluster.database() }
    }

    /// Returns the command that starts a replica with its data in this home, which others reach at this
    /// address.
    pub(crate) fn command(&self, site: &Site, address: &str) -> Command {
        self.command_by(site, address, self.cluster.port)
    }

    /// Returns such a command for a replica that reaches the database at this port.
    pub(crate) fn command_by(&self, site: &Site, address: &str, port: u16) -> Command {
        let data = site.data().display().to_string();
        let words = [
            "serve",
            "--listen",
            address,
            "--advertise",
            address,
            "--data-dir",
            &data,
            "--follow-up-delay",
            "50ms",
        ];
        let mut command = site.command(&words);
        let url = format!("postgres://{ROLE}@127.0.0.1:{port}/{}", self.database);
        command.env("CALLPARK_STORE", url).env("PGPASSWORD", PASSWORD);
        command
    }

    /// Starts a replica in a new home, at a free port.
    pub(crate) async fn replica(&self) -> (Site, Program) {
        let site = Site::new();
        let server = site.serve_with(self.command(&site, "127.0.0.1:0")).await;
        (site, server)
    }

    /// Starts a replica again, at the address that it had.
    pub(crate) async fn restart(&self, site: &Site, endpoint: &str) -> Program {
        let address = endpoint.trim_start_matches("http://");
        site.serve_with(self.command(site, address)).await
    }
}
