//! The program as its users start it: servers and commands as processes of their own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use callpark_proto::v1::background_tasks_client::BackgroundTasksClient;
use callpark_proto::v1::tool_runner_client::ToolRunnerClient;
use rustix::process::Signal;
use tokio::process::Command;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::soon;
pub use live::{Ended, Live, run, send};

pub mod certificates;
mod live;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_callpark");

/// The search path of every process here, which beside its home is its whole environment.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A machine of its own, as the program sees it: a home folder that nothing else uses.
/// All processes that callpark has started with this home are killed
/// with it.
pub struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// An empty home.
    pub fn new() -> Self {
        let folder = super::folder();
        std::fs::create_dir(folder.path().join("home")).expect("a home");
        Self { folder }
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The folder in which a server keeps its data by default, and in which commands look for
    /// the token.
    pub fn data(&self) -> PathBuf {
        self.home().join(".local/state/callpark")
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the test's own.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// The program with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        command(&self.home(), PROGRAM, arguments)
    }

    /// Any program with these arguments.
    pub fn other(&self, program: &str, arguments: &[&str]) -> Command {
        command(&self.home(), program, arguments)
    }

    /// Runs the program to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        run(self.command(arguments)).await
    }

    /// Starts a server on a free port with the store of this home.
    pub async fn serve(&self, flags: &[&str]) -> Program {
        let data = self.data().display().to_string();
        let first = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
        self.serve_with(self.command(&[&first, flags].concat())).await
    }

    /// Starts a server with any command that has its store in this home.
    pub async fn serve_with(&self, command: Command) -> Program {
        Program::started(Live::start(command), self.home(), &self.data()).await
    }

    /// The live processes of calls of this home's servers.
    pub fn processes(&self) -> Vec<u32> {
        marked(&self.home())
    }

    /// The live shims of this home's servers.
    pub fn shims(&self) -> Vec<u32> {
        shims_in(self.folder.path())
    }

    /// Kills the server with `kill -9`, and then its shims: the calls are lost.
    pub async fn kill_with_shims(&self, server: Program) {
        server.kill().await;
        for pid in self.shims() {
            send(pid, Signal::KILL);
        }
        let gone = async {
            while !self.shims().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the end of the shims", gone).await;
    }

    /// Waits until no shim is left, and no folder of one.
    pub async fn without_shims(&self) {
        let gone = async {
            while self.data().join("callpark.db.shims").exists() || !self.shims().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the end of the shims", gone).await;
    }

    /// Returns the files in which the shims of this home's servers record their processes.
    pub fn records(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.data().join("callpark.db.shims"));
        let folders = folders.into_iter().flatten().flatten();
        folders.map(|folder| folder.path().join("processes")).filter(|path| path.exists()).collect()
    }

    /// Waits until no process of a call is left.
    pub async fn quiet(&self) {
        let quiet = async {
            while !self.processes().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon("the end of all processes", quiet).await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for pid in self.shims().into_iter().chain(self.processes()) {
            send(pid, Signal::KILL);
        }
    }
}

/// Tools see the home of their server, and the mark of their call.
fn marked(home: &Path) -> Vec<u32> {
    let home = format!("HOME={}", home.display());
    let is_marked = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |wanted: &dyn Fn(&[u8]) -> bool| environment.split(|byte| *byte == 0).any(wanted);
        has(&|variable| variable == home.as_bytes())
            && has(&|variable| variable.starts_with(b"CALLPARK_CALL_ID="))
    };
    all_processes().filter(is_marked).collect()
}

/// The live shims whose folder is inside this one.
fn shims_in(folder: &Path) -> Vec<u32> {
    let folder = folder.display().to_string();
    let is_here = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('\0');
        words.any(|word| word == "shim") && words.any(|word| word.contains(&folder))
    };
    let found: Vec<u32> = all_processes().filter(is_here).collect();
    // A process that a shim has just forked has its arguments until it executes its own program.
    let is_forked = |pid: &u32| parent_of(*pid).is_some_and(|parent| found.contains(&parent));
    found.iter().copied().filter(|pid| !is_forked(pid)).collect()
}

/// Returns the parent of a process, unless it is gone.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok()
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command(home: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("HOME", home).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Puts the token on every request.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Clients on one connection.
#[derive(Clone)]
pub struct Clients {
    /// Tools and sessions.
    pub tools: ToolRunnerClient<InterceptedService<Channel, Bearer>>,
    /// Background tasks.
    pub tasks: BackgroundTasksClient<InterceptedService<Channel, Bearer>>,
    /// The connection of both clients.
    pub service: InterceptedService<Channel, Bearer>,
}

impl Clients {
    /// Clients that show this token, on a connection of their own.
    pub fn new(endpoint: &str, token: &str) -> Self {
        let bearer = Bearer(format!("Bearer {token}").parse().expect("a header"));
        let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("an endpoint");
        let service = InterceptedService::new(endpoint.connect_lazy(), bearer);
        let tools = ToolRunnerClient::new(service.clone()).max_decoding_message_size(16 << 20);
        let tasks = BackgroundTasksClient::new(service.clone()).max_decoding_message_size(16 << 20);
        Self { tools, tasks, service }
    }
}

/// A server in a process of its own. Killed when it is dropped.
pub struct Program {
    /// The process.
    pub live: Live,
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// The token that callers show.
    pub token: String,
    home: PathBuf,
}

impl Program {
    /// A server that says where it listens, with its data in this folder.
    pub async fn started(mut live: Live, home: PathBuf, data: &Path) -> Self {
        // The line after it, so that this one is whole.
        live.stderr.until("callpark listens").await;
        let text = live.stderr.until("data").await;
        let endpoint = address(&text, "callpark listens");
        let token = std::fs::read_to_string(data.join("token")).expect("a token");
        Self { live, endpoint, token: token.trim().to_owned(), home }
    }

    /// The address behind these words in what it has said.
    pub fn address(&self, words: &str) -> String {
        address(&self.live.stderr.now(), words)
    }

    /// A connection without a token.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(self.endpoint.clone()).expect("an endpoint").connect_lazy()
    }

    /// The shims of the server.
    pub fn shims(&self) -> Vec<u32> {
        shims_in(&self.home)
    }

    /// Clients on a connection of their own.
    pub fn connect(&self) -> Clients {
        Clients::new(&self.endpoint, &self.token)
    }

    /// A command that talks to it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.home, PROGRAM, arguments);
        command.env("CALLPARK_ENDPOINT", &self.endpoint);
        command
    }

    /// Runs a command that talks to it.
    pub async fn cli(&self, arguments: &[&str]) -> Ended {
        run(self.command(arguments)).await
    }

    /// `kill -9`, and its end.
    pub async fn kill(self) {
        self.live.signal(Signal::KILL);
        self.live.ended().await;
    }

    /// Sends TERM, and waits for the end: how it ended, and how long it took.
    pub async fn terminate(self) -> (Ended, Duration) {
        let began = Instant::now();
        self.live.signal(Signal::TERM);
        (self.live.ended().await, began.elapsed())
    }
}

#[track_caller]
fn address(text: &str, words: &str) -> String {
    let rest = text.split_once(words).map(|(_, rest)| rest).unwrap_or_default();
    let Some(at) = rest.find("http://") else { panic!("no address behind `{words}`: {text}") };
    let is_part = |c: &char| c.is_ascii_alphanumeric() || ".:/".contains(*c);
    rest[at..].chars().take_while(is_part).collect()
}
