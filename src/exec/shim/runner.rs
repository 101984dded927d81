//! The runner of a server whose processes are owned by shims.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Pid;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::deadline::KeepFor;
use super::error::ShimError;
use super::folder::ShimFolder;
use super::followed::FollowedRun;
use super::link::{LinkSocket, ShimLink, ShimStatus};
use crate::exec::{Executor as _, ProcessRun, RunSpec, Runner, StartError, Survivor, UnixExecutor};
use crate::model::{CallId, RunOwner};

/// The attempts to start a shim.
const LAUNCH_ATTEMPTS: u32 = 3;

/// The start of a shim: a program with its first arguments.
#[derive(Debug, Clone)]
pub struct ShimProgram {
    /// The path of the program `callpark`.
    pub program: PathBuf,
    /// The arguments that say how its processes are run. A shim with others is left to its runs.
    pub settings: Vec<String>,
    /// The folder that holds the folders of all shims of a store.
    pub folder: PathBuf,
}

/// Starts runs in shims, and adopts those that are there.
pub struct ShimRunner {
    shared: Arc<RunnerState>,
}

struct RunnerState {
    program: ShimProgram,
    /// Starts the shims, and kills what those that are gone have left behind.
    executor: UnixExecutor,
    /// The shims that are connected.
    links: Mutex<Vec<Arc<ShimLink>>>,
    /// The newest order about the time of the runs. Locked after the links.
    keep_for: Mutex<KeepFor>,
    /// The folders of shims that were gone before this server started.
    dead: Mutex<Vec<ShimFolder>>,
    /// The shims that had ended in good order before this server started.
    ended: Mutex<Vec<ShimFolder>>,
    /// The shim for new runs. Locked while one is started.
    current: tokio::sync::Mutex<Option<Arc<ShimLink>>>,
    /// The number of that shim, or 0 if there was none yet.
    owner: AtomicU64,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl ShimRunner {
    /// Connects to the shims of a store, and starts one if none suits. Lets the runs go on for this time
    /// at first, or without a limit, in place of what an earlier server has ordered
    /// ([`Runner::keep_for`]).
    ///
    /// # Errors
    ///
    /// A shim cannot be used, or none can be started.
    pub async fn open(
        program: ShimProgram,
        executor: UnixExecutor,
        keep_for: Option<Duration>,
    ) -> Result<Self, ShimError> {
        let folder = program.folder.clone();
        let failed = |cause: io::Error| ShimError::Folder {
            folder: folder.clone(),
            cause: cause.to_string(),
        };
        let shared = Arc::new(RunnerState {
            program,
            executor,
            links: Mutex::default(),
            keep_for: Mutex::new(KeepFor::new(keep_for)),
            dead: Mutex::default(),
            ended: Mutex::default(),
            current: tokio::sync::Mutex::default(),
            owner: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        for folder in ShimFolder::list(&folder).map_err(failed)? {
            match ShimLink::connect(&folder).await? {
                Some((link, socket)) => shared.add(&link, socket),
                None => shared.bury(folder),
            }
        }
        // After the connections: one that was refused may have left its note only then.
        *shared.ended() = ShimFolder::list_ended(&folder);
        shared.current().await.map_err(failed)?;
        Ok(Self { shared })
    }
}

impl RunnerState {
    /// Returns the shim for new runs, and starts one if there is none.
    async fn current(self: &Arc<Self>) -> io::Result<Arc<ShimLink>> {
        let mut current = self.current.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.is_gone()) {
            return Ok(link.clone());
        }
        let suits = |link: &&Arc<ShimLink>| {
            let is_same = link.version() == env!("CARGO_PKG_VERSION");
            is_same && link.settings() == self.settings() && !link.is_gone()
        };
        let found = self.links().iter().find(suits).cloned();
        let link = match found {
            Some(link) => link,
            None => self.launch_one().await?,
        };
        self.owner.store(link.owner().map_or(0, |owner| owner.0), Ordering::Relaxed);
        *current = Some(link.clone());
        Ok(link)
    }

    fn settings(&self) -> String {
        self.program.settings.join(" ")
    }

    /// Starts a shim and connects to it. One that ends at once, as it is killed, is followed by another.
    async fn launch_one(self: &Arc<Self>) -> io::Result<Arc<ShimLink>> {
        let mut launched = self.launch().await;
        for _ in 1..LAUNCH_ATTEMPTS {
            if launched.is_ok() {
                break;
            }
            launched = self.launch().await;
        }
        launched
    }

    /// Starts a shim and connects to it.
    async fn launch(self: &Arc<Self>) -> io::Result<Arc<ShimLink>> {
        let folder = ShimFolder::create(&self.program.folder)?;
        let mut argv = vec![self.program.program.to_string_lossy().into_owned(), "shim".to_owned()];
        argv.extend(self.program.settings.iter().cloned());
        argv.push(format!("--folder={}", folder.path().display()));
        // The socket is there before the shim is: a connection waits until the shim accepts it.
        let socket = folder.listen()?;
        self.executor.launch_apart(&argv, socket, folder.create_log()?)?;
        match ShimLink::connect(&folder).await {
            Ok(Some((link, socket))) => {
                self.add(&link, socket);
                Ok(link)
            }
            Ok(None) => {
                Err(io::Error::other(format!("the shim ended at once: {}", folder.first_message())))
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Follows a connection. Once it ends, the shim is gone, and its runs with it.
    fn add(self: &Arc<Self>, link: &Arc<ShimLink>, socket: LinkSocket) {
        {
            // Together, so that it misses no order. The order comes before every run of this server.
            let mut links = self.links();
            link.keep_for(*self.keep_for());
            links.push(link.clone());
        }
        let (shared, link) = (self.clone(), link.clone());
        self.tasks.spawn(async move {
            let talked = shared.closing.run_until_cancelled(link.talk(socket)).await;
            let Some((error, calls)) = talked else { return };
            shared.links().retain(|other| !Arc::ptr_eq(other, &link));
            let status = link.status();
            if !calls.is_empty() {
                let (pid, runs) = (status.pid, calls.len());
                tracing::error!(pid, runs, %error, "a shim ended: its running calls are lost");
            }
            let end = shared.clone();
            let folder = link.folder.clone();
            let ended = move || end.end_shim(status.pid, &folder, &calls);
            // It fails only while the runtime is shutting down.
            let _result = tokio::task::spawn_blocking(ended).await;
            link.end_runs();
        });
    }

    /// Kills what is left of a shim and its runs.
    fn end_shim(&self, pid: u32, folder: &ShimFolder, calls: &[CallId]) {
        if !calls.is_empty() {
            // A shim whose connection failed may be alive. What it owns is killed only once it is dead.
            if let Some(pid) = pid_of(pid) {
                self.executor.kill_and_wait(pid, &folder.name());
            }
            self.executor.read_record(folder.path());
            for Survivor { pid, command } in self.executor.kill_leftovers(calls) {
                tracing::warn!(pid, command, "a process of a lost call could not be killed");
            }
        }
        remove(folder);
    }

    /// Notes the folder of a shim that is gone, for the search for what it has left behind.
    fn bury(&self, folder: ShimFolder) {
        self.executor.read_record(folder.path());
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
    }

    fn ended(&self) -> MutexGuard<'_, Vec<ShimFolder>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_for(&self) -> MutexGuard<'_, KeepFor> {
        self.keep_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> MutexGuard<'_, Vec<Arc<ShimLink>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Runner for ShimRunner {
    async fn start(&self, spec: RunSpec) -> Result<Box<dyn ProcessRun>, StartError> {
        let link = self.shared.current().await.map_err(|error| StartError::System {
            program: spec.process.argv.first().cloned().unwrap_or_default(),
            cause: format!("no shim can be started to run it: {error}"),
        })?;
        Ok(Box::new(FollowedRun::start(link, spec).await?))
    }

    fn outlives_server(&self) -> bool {
        true
    }

    fn keep_for(&self, time: Option<Duration>) {
        let order = KeepFor::new(time);
        let links = self.shared.links();
        *self.shared.keep_for() = order;
        links.iter().for_each(|link| link.keep_for(order));
    }

    fn owner(&self) -> Option<RunOwner> {
        let number = self.shared.owner.load(Ordering::Relaxed);
        (number != 0).then_some(RunOwner(number))
    }

    fn has_owner(&self, owner: RunOwner) -> bool {
        let is_linked = |link: &Arc<ShimLink>| link.owner() == Some(owner) && !link.is_gone();
        self.shared.links().iter().any(is_linked)
            || self.shared.ended().iter().any(|ended| ended.number() == Some(owner.0))
    }

    fn recovered(&self) {
        for ended in self.shared.ended().drain(..) {
            if let Err(error) = ended.remove_note() {
                tracing::warn!(%error, "the note of a shim that has ended could not be removed");
            }
        }
    }

    fn shims(&self) -> Vec<ShimStatus> {
        self.shared.links().iter().map(|link| link.status()).collect()
    }

    fn shim_of(&self, call_id: CallId) -> Option<u32> {
        let links = self.shared.links();
        links.iter().find(|link| link.has_run(call_id)).map(|link| link.pid())
    }

    fn adoptable(&self) -> Vec<CallId> {
        self.shared.links().iter().flat_map(|link| link.adoptable()).collect()
    }

    fn is_adoptable(&self, call_id: CallId) -> bool {
        self.shared.links().iter().any(|link| link.is_adoptable(call_id))
    }

    fn adopt(&self, call_id: CallId, stored_bytes: u64) -> Option<Box<dyn ProcessRun>> {
        let adopt = |link| FollowedRun::adopt(link, call_id, stored_bytes);
        self.shared.links().iter().find_map(adopt).map(|run| Box::new(run) as _)
    }

    fn acknowledge(&self, call_id: CallId, stored_bytes: u64) {
        self.shared.links().iter().any(|link| link.acknowledge(call_id, stored_bytes));
    }

    fn release(&self, call_id: CallId) {
        self.shared.links().iter().any(|link| link.release(call_id));
    }

    fn kill_leftovers(&self, calls: &[CallId]) -> Vec<Survivor> {
        let survivors = self.shared.executor.kill_leftovers(calls);
        let mut dead = self.shared.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.drain(..).for_each(|folder| remove(&folder));
        survivors
    }

    fn leftover_calls(&self) -> Vec<CallId> {
        self.shared.executor.leftover_calls()
    }

    async fn close(&self) {
        let links = self.shared.links().clone();
        for link in &links {
            link.leave().await;
        }
        self.shared.closing.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        // Those without runs end, with all that their runs have left.
        let idle = links.iter().map(|link| link.status()).filter(|status| status.runs == 0);
        let pids: Vec<u32> = idle.map(|status| status.pid).collect();
        let executor = self.shared.executor.clone();
        let ended =
            move || pids.into_iter().filter_map(pid_of).for_each(|pid| executor.wait_for_end(pid));
        // It fails only while the runtime is shutting down.
        let _result = tokio::task::spawn_blocking(ended).await;
        self.shared.executor.reaped().await;
    }
}

fn pid_of(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

fn remove(folder: &ShimFolder) {
    match folder.remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let path = folder.path().display();
            tracing::warn!(%path, %error, "the folder of a shim could not be removed");
        }
        _ => {}
    }
}
