//! Clusters of PostgreSQL in temporary folders.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use callpark::store::{PostgresOptions, PostgresStore};

/// The role that owns the databases of the tests, and its password, which connections by TCP need.
pub(crate) const ROLE: &str = "callpark";
pub(crate) const PASSWORD: &str = "open-sesame";

/// A running cluster. It is stopped, and its folder removed, when the test program ends for whatever
/// reason: a shell waits for the end of a pipe from it.
pub(crate) struct Cluster {
    folder: PathBuf,
    pub(crate) port: u16,
    databases: AtomicU32,
    _guard: Child,
}

/// A transaction that is open. It is rolled back when this is dropped.
pub(crate) struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        // psql ends at the end of its input.
        drop(self.0.stdin.take());
        let _status = self.0.wait();
    }
}

/// Returns the cluster of the whole test program. A test that stops a cluster starts its own.
pub(crate) fn shared() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

impl Cluster {
    /// Creates and starts a cluster, on a Unix socket and a free port.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("callpark-pg-").tempdir().expect("a folder");
        let folder = folder.keep();
        if let Some((user, group)) = unprivileged() {
            chown(&folder, Some(user), Some(group)).expect("an owner");
        }
        let data = folder.join("data");
        run(program("initdb").arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let guard = unprivileged_command("sh")
            .args([
                "-c",
                "cat; \"$1\" -D \"$2/data\" -s -m immediate stop 2>/dev/null; rm -rf \"$2\"",
                "sh",
            ])
            .arg(binary("pg_ctl"))
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let cluster = Self { folder, port, databases: AtomicU32::new(0), _guard: guard };
        cluster.resume();
        cluster.sql("postgres", &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"));
        cluster
    }

    /// Returns the folder with the data, which belongs to the user of the cluster.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Takes the permissions of others from a file.
    pub(crate) fn make_private(path: &Path) {
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("a mode");
    }

    /// Makes the user of the cluster the only one who may read a file.
    pub(crate) fn give(path: &Path) {
        Self::make_private(path);
        if let Some((user, group)) = unprivileged() {
            chown(path, Some(user), Some(group)).expect("an owner");
        }
    }

    /// Starts the cluster again.
    pub(crate) fn resume(&self) {
        // A crash of the machine is not what these tests are about.
        let settings = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=off",
            self.port,
            self.folder.display()
        );
        let log = self.folder.join("log");
        let data = self.folder.join("data");
        run(program("pg_ctl")
            .arg("-D")
            .arg(data)
            .arg("-l")
            .arg(log)
            .args(["-s", "-w", "-o", &settings, "start"]));
    }

    /// Stops the cluster as a crash does: without a word to its clients, and without a checkpoint.
    pub(crate) fn crash(&self) {
        let data = self.folder.join("data");
        run(program("pg_ctl").arg("-D").arg(data).args(["-s", "-w", "-m", "immediate", "stop"]));
    }

    /// Runs SQL as the superuser, and returns the rows.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let output = unprivileged_command("psql")
            .arg("-h")
            .arg(&self.folder)
            .args(["-p", &port, "-U", "postgres", "-d", database])
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()
            .expect("psql");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {error}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Runs SQL as the superuser in a transaction that stays open, with its locks, until it is dropped.
    pub(crate) fn hold(&self, database: &str, sql: &str) -> Held {
        let port = self.port.to_string();
        let mut psql = unprivileged_command("psql")
            .arg("-h")
            .arg(&self.folder)
            .args(["-p", &port, "-U", "postgres", "-d", database])
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql");
        let (input, output) = (psql.stdin.as_mut(), psql.stdout.as_mut());
        let script = format!("BEGIN;\n{sql};\n\\echo held\n");
        input.expect("a pipe").write_all(script.as_bytes()).expect("written");
        let lines = BufReader::new(output.expect("a pipe")).lines();
        let mut lines = lines.map(|line| line.expect("text"));
        assert!(lines.any(|line| line == "held"), "{sql}");
        Held(psql)
    }

    /// Creates an empty database, and returns its name.
    pub(crate) fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {ROLE}"));
        name
    }

    /// Returns the URL of a database on the Unix socket, which needs no password.
    pub(crate) fn local_url(&self, database: &str) -> String {
        let folder = self.folder.display();
        format!("host={folder} port={} user={ROLE} dbname={database}", self.port)
    }

    /// Returns the URL of a database at this port, with the password.
    pub(crate) fn url(&self, port: u16, database: &str) -> String {
        format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{port}/{database}")
    }

    /// Opens the store in a database.
    pub(crate) async fn open(&self, database: &str) -> PostgresStore {
        open(&self.local_url(database)).await
    }
}

/// Opens the store at a URL.
pub(crate) async fn open(url: &str) -> PostgresStore {
    let options = PostgresOptions { wait: Duration::from_secs(20), ..PostgresOptions::new(url) };
    PostgresStore::open(&options, callpark::internals::telemetry::Metrics::default())
        .await
        .expect("a store")
}

fn program(name: &str) -> Command {
    unprivileged_command(binary(name))
}

/// Returns the newest version of a program of the server, which is not on the path.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort_by_key(|path| version(path));
    found.pop().unwrap_or_else(|| {
        panic!("PostgreSQL is not installed: run .ci/postgresql, or apt-get install postgresql")
    })
}

fn version(path: &Path) -> Option<u32> {
    path.iter().nth(4)?.to_str()?.parse().ok()
}

/// Returns a command that runs as an ordinary user: PostgreSQL refuses to run as root.
fn unprivileged_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = match unprivileged() {
        None => return Command::new(program),
        Some((user, group)) => {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={user}"), format!("--regid={group}")]);
            command.arg("--clear-groups");
            command
        }
    };
    command.arg(program).current_dir("/");
    command
}

/// Returns the user and the group `postgres` if the tests run as root.
fn unprivileged() -> Option<(u32, u32)> {
    let id = |args: &[&str]| {
        let output = Command::new("id").args(args).output().expect("id");
        let text = String::from_utf8(output.stdout).expect("a number");
        text.trim().parse().expect("the package postgresql is installed: it creates a user")
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().expect("a program");
    assert!(status.success(), "{command:?} ended with {status}");
}
