//! The shim's side: the socket, the server that is connected, and the runs.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::net::UnixListener;
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PROTOCOL;
use super::deadline::{KeepFor, RunDeadline};
use super::folder::ShimFolder;
use super::frame::{Inbox, Outbox, is_end};
use super::hosted::HostedRun;
use super::inspect::{SPOOL_EXTENSION, describe};
use super::memory::OutputMemory;
use super::message::{
    Offset, Order, OrderKind, Refused, Report, ReportKind, Run, ShimHello, Start, call_id, id_bytes,
};
use crate::exec::{
    ExecutorOptions, LocalRunner, ProcessRun, RunSpec, Runner, StartError, UnixExecutor, reached,
    restore_ignored_signals,
};
use crate::model::CallId;

/// The longest time until a server connects, and says so.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// The interval at which a shim looks whether servers can still find it.
const FOLDER_CHECK: Duration = Duration::from_secs(5);

/// The options of a shim.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The folder.
    pub folder: ShimFolder,
    /// The options of the processes.
    pub executor: ExecutorOptions,
    /// The text of the options, by which a server knows whether they are its own.
    pub settings: String,
}

/// Owns processes for the servers that connect to the socket on standard input, until there is neither a
/// server nor a run. Must run on a runtime of one thread, the main one.
///
/// # Errors
///
/// The socket cannot be used.
pub async fn host(options: HostOptions) -> io::Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let socket = std::os::unix::net::UnixListener::from(socket);
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from_std(socket)?;
    if let Err(error) = describe(&options.folder) {
        tracing::warn!(%error, "the shim cannot be described to `callpark doctor`");
    }
    let mut terminate = signal(SignalKind::terminate())?;
    restore_ignored_signals();
    let executor = UnixExecutor::new(options.executor);
    executor.record_in(options.folder.path());
    let host = Arc::new(Host {
        runner: LocalRunner::new(Arc::new(executor)),
        options,
        state: Mutex::default(),
        memory: Arc::default(),
        changed: Notify::new(),
        deadline_set: Notify::new(),
        closing: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    tokio::select! {
        () = host.serve(&listener) => {}
        () = host.enforce_deadline() => {}
        _ = terminate.recv() => tracing::warn!("runs end with the shim, which was asked to stop"),
    }
    if host.ends_unknown()
        && let Err(error) = host.options.folder.note_end()
    {
        tracing::warn!(%error, "a call that was not started yet will be lost");
    }
    host.close().await;
    match host.options.folder.remove() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A shim.
struct Host {
    runner: LocalRunner,
    options: HostOptions,
    state: Mutex<HostState>,
    /// The memory of all runs for output.
    memory: Arc<OutputMemory>,
    /// Notified when a connection or a run has gone.
    changed: Notify,
    /// Notified when a server has set the deadline.
    deadline_set: Notify,
    /// Cancelled when the shim ends.
    closing: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct HostState {
    runs: HashMap<CallId, Arc<HostedRun>>,
    /// The server that is connected. Cancelled when another one takes its place.
    server: Option<CancellationToken>,
    /// The last server has gone without leave. It may have meant to start runs.
    is_deserted: bool,
    /// The number of connections on which no server has introduced itself.
    greetings: usize,
    /// The time until which all runs go on.
    deadline: RunDeadline,
}

impl Host {
    /// Accepts servers until there is neither a server nor a run.
    async fn serve(self: &Arc<Self>, listener: &UnixListener) {
        let first = timeout(CONNECT_MAX, self.accept(listener)).await;
        if first.is_err() {
            tracing::warn!("no server has connected: the shim ends");
            return;
        }
        loop {
            let changed = self.changed.notified();
            if self.is_idle() {
                return;
            }
            tokio::select! {
                () = self.accept(listener) => {}
                () = changed => {}
                () = tokio::time::sleep(FOLDER_CHECK) => {
                    if self.options.folder.is_gone() {
                        tracing::warn!("runs end with the shim: its folder was removed, so that no \
                            server can find it");
                        return;
                    }
                }
            }
        }
    }

    /// Ends all runs whenever their deadline passes, whether a server is connected or not. Never returns.
    async fn enforce_deadline(&self) {
        loop {
            let set = self.deadline_set.notified();
            let deadline = self.lock().deadline.time();
            tokio::select! {
                () = reached(deadline) => self.check_deadline(),
                () = set => {}
            }
        }
    }

    /// Kills the processes of all runs if their deadline has passed, and keeps the ends for a server.
    fn check_deadline(&self) {
        let mut state = self.lock();
        if state.deadline.pass() {
            let runs = state.runs.len();
            tracing::warn!(runs, "the server has given no sign in time: its runs are ended");
            state.runs.values().for_each(|run| run.abandon());
        }
    }

    fn set_deadline(&self, order: KeepFor) {
        // An order that has waited does not let runs go on whose time was over before.
        self.check_deadline();
        self.lock().deadline = order.deadline();
        self.deadline_set.notify_one();
    }

    fn is_idle(&self) -> bool {
        let state = self.lock();
        state.server.is_none() && state.greetings == 0 && state.runs.is_empty()
    }

    /// Returns whether the shim ends because nothing is left to do, and the last server cannot know.
    fn ends_unknown(&self) -> bool {
        self.is_idle() && self.lock().is_deserted
    }

    /// Accepts a connection. A server that introduces itself takes the place of the one before.
    async fn accept(self: &Arc<Self>, listener: &UnixListener) {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "a server could not connect");
                return;
            }
        };
        let user = socket.peer_cred().map(|peer| peer.uid()).ok();
        if user != Some(geteuid().as_raw()) {
            tracing::warn!(?user, "a process of another user was refused");
            return;
        }
        self.lock().greetings += 1;
        let host = self.clone();
        self.tasks.spawn(async move {
            let (reader, writer) = socket.into_split();
            let mut inbox = Inbox::new(reader);
            let hello = timeout(CONNECT_MAX, inbox.next::<Order>());
            let hello = host.closing.run_until_cancelled(hello).await;
            host.lock().greetings -= 1;
            match hello {
                Some(Ok(Ok(Order { kind: Some(OrderKind::Hello(_)) }))) => {
                    host.serve_server(inbox, writer).await;
                }
                _ => tracing::warn!("a process that is no server was refused"),
            }
            host.changed.notify_one();
        });
    }

    /// Serves a server until its connection ends, or another one takes its place.
    async fn serve_server(self: &Arc<Self>, inbox: Inbox, writer: OwnedWriteHalf) {
        let replaced = CancellationToken::new();
        {
            let mut state = self.lock();
            state.is_deserted = true;
            if let Some(before) = state.server.replace(replaced.clone()) {
                before.cancel();
            }
        }
        self.leave_runs();
        let outbox = Arc::new(Outbox::default());
        let talk = self.talk(inbox, writer, &outbox, &replaced);
        let ended = replaced.run_until_cancelled(talk).await;
        if let Some(error) = ended.filter(|_| !replaced.is_cancelled()) {
            self.disconnected(&error);
        }
    }

    /// Leaves all runs to the next server, because the present one has gone.
    fn disconnected(&self, error: &io::Error) {
        if !is_end(error) {
            tracing::warn!(%error, "the connection of a server failed");
        }
        self.lock().server = None;
        self.leave_runs();
    }

    fn leave_runs(&self) {
        self.lock().runs.values().for_each(|run| run.leave());
    }

    /// Talks to a server until the connection ends.
    async fn talk(
        self: &Arc<Self>,
        mut inbox: Inbox,
        writer: OwnedWriteHalf,
        outbox: &Arc<Outbox>,
        replaced: &CancellationToken,
    ) -> io::Error {
        outbox.push(&self.hello());
        let read = async {
            loop {
                match inbox.next::<Order>().await {
                    // The next server has the list of all runs: one that began now would not be in it.
                    Ok(_) if replaced.is_cancelled() => return io::ErrorKind::BrokenPipe.into(),
                    Ok(order) => self.follow(order, outbox).await,
                    Err(error) => return error,
                }
            }
        };
        tokio::select! {
            error = read => error,
            error = outbox.write_to(writer) => error,
        }
    }

    fn hello(&self) -> Report {
        let runs = self.lock().runs.values().map(|run| run.status()).collect();
        Report::from(ReportKind::Hello(ShimHello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            settings: self.options.settings.clone(),
            runs,
        }))
    }

    /// Follows an order. One of a kind that is not known, or about a run that is not there, has no
    /// effect.
    async fn follow(self: &Arc<Self>, order: Order, outbox: &Arc<Outbox>) {
        match order.kind {
            Some(OrderKind::Start(start)) => self.start(start, outbox).await,
            Some(OrderKind::Adopt(Offset { call_id, bytes })) => {
                self.with_run(&call_id, |run| run.follow_from(bytes, outbox.clone()));
            }
            Some(OrderKind::Acknowledge(Offset { call_id, bytes })) => {
                self.with_run(&call_id, |run| run.acknowledge(bytes));
            }
            Some(OrderKind::Stop(order)) => {
                self.with_run(&order.call_id, |run| run.stop(order.stop()));
            }
            Some(OrderKind::Release(Run { call_id })) => {
                self.with_run(&call_id, HostedRun::release);
            }
            Some(OrderKind::KeepFor(order)) => self.set_deadline(order),
            Some(OrderKind::Leave(_)) => self.lock().is_deserted = false,
            Some(OrderKind::Hello(_)) | None => {}
        }
    }

    fn with_run(&self, id: &[u8], order: impl FnOnce(&HostedRun)) {
        let run = call_id(id).and_then(|id| self.lock().runs.get(&id).cloned());
        if let Some(run) = run {
            order(&run);
        }
    }

    async fn start(self: &Arc<Self>, start: Start, outbox: &Arc<Outbox>) {
        let Some(spec) = start.into_spec() else { return };
        let (id, limits, before) = (spec.call_id, spec.limits, spec.output_before);
        let process = match self.start_process(spec).await {
            Ok(process) => process,
            Err(error) => {
                outbox.push(&Report::from(ReportKind::Refused(Refused::new(id, error))));
                return;
            }
        };
        let spool = self.options.folder.path().join(format!("{id}.{SPOOL_EXTENSION}"));
        let run = Arc::new(HostedRun::new(id, spool, before, self.memory.clone(), outbox.clone()));
        {
            let mut state = self.lock();
            if state.deadline == RunDeadline::Passed {
                run.abandon();
            }
            state.runs.insert(id, run.clone());
        }
        outbox.push(&Report::from(ReportKind::Started(Run { call_id: id_bytes(id) })));
        let host = self.clone();
        self.tasks.spawn(async move {
            run.drive(process, limits).await;
            host.lock().runs.remove(&id);
            host.changed.notify_one();
        });
    }

    async fn start_process(&self, spec: RunSpec) -> Result<Box<dyn ProcessRun>, StartError> {
        self.check_deadline();
        if self.lock().deadline == RunDeadline::Passed {
            return Err(StartError::System {
                program: spec.process.argv.into_iter().next().unwrap_or_default(),
                cause: "the server has given the shim no sign in time, and must do so before it starts \
                        processes again"
                    .to_owned(),
            });
        }
        self.runner.start(spec).await
    }

    /// Kills all runs that are left.
    async fn close(&self) {
        let runs: Vec<_> = self.lock().runs.values().cloned().collect();
        runs.iter().for_each(|run| run.release());
        self.closing.cancel();
        if let Some(server) = self.lock().server.take() {
            server.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.runner.close().await;
    }

    fn lock(&self) -> MutexGuard<'_, HostState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<PathBuf> for ShimFolder {
    fn from(path: PathBuf) -> Self {
        Self::at(path)
    }
}
