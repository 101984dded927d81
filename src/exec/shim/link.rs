//! The connection of a server with a shim.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::PROTOCOL;
use super::deadline::KeepFor;
use super::error::ShimError;
use super::folder::ShimFolder;
use super::frame::{Inbox, Outbox, is_end};
use super::message::{
    Leave, Offset, Order, OrderKind, Report, ReportKind, Run, RunStatus, ServerHello, ShimHello,
    StopRun, call_id, id_bytes,
};
use super::run_inbox::RunInbox;
use crate::exec::{RunEvent, RunReport, RunSpec, StartError};
use crate::model::{CallId, Exit, RunOwner};

/// The longest time until a shim answers a server that connects.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The attempts to connect to a shim that is alive and refuses it.
const CONNECT_ATTEMPTS: u32 = 100;

/// The time between two of them.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// The longest time for the last orders of a server that stops.
const LAST_ORDERS_MAX: Duration = Duration::from_secs(1);

/// The status of a shim, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimStatus {
    /// The process id.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// The number of its runs.
    pub runs: usize,
    /// The size of the output that no server has read, in bytes, when this server connected.
    pub spooled_bytes: u64,
}

/// A shim that this server is connected to.
pub(super) struct ShimLink {
    pub(super) folder: ShimFolder,
    hello: ShimHello,
    outbox: Outbox,
    runs: Mutex<HashMap<CallId, Arc<RunInbox>>>,
    /// Cancelled when the shim has gone.
    gone: CancellationToken,
    /// Cancelled when its processes have gone, too.
    ended: CancellationToken,
}

/// The socket of a link, until a task reads it.
pub(super) struct LinkSocket {
    inbox: Inbox,
    writer: tokio::net::unix::OwnedWriteHalf,
}

impl ShimLink {
    /// Connects to the shim of a folder. Returns `None` if there is none.
    ///
    /// # Errors
    ///
    /// The shim does not answer, or its version is newer than this program.
    pub(super) async fn connect(
        folder: &ShimFolder,
    ) -> Result<Option<(Arc<Self>, LinkSocket)>, ShimError> {
        let failed = |cause: io::Error| ShimError::Unreachable {
            folder: folder.path().to_owned(),
            cause: cause.to_string(),
        };
        let Some(socket) = Self::reach(folder, failed).await? else { return Ok(None) };
        let hello = timeout(ANSWER_MAX, Self::greet(socket)).await;
        let hello = hello.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let (hello, socket) = match hello {
            Ok(hello) => hello,
            // The shim has just ended.
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if hello.protocol > PROTOCOL {
            return Err(ShimError::Newer { pid: hello.pid, version: hello.version });
        }
        let runs = hello.runs.iter().filter_map(inbox_of).collect();
        let link = Self {
            folder: folder.clone(),
            hello,
            outbox: Outbox::default(),
            runs: Mutex::new(runs),
            gone: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        Ok(Some((Arc::new(link), socket)))
    }

    /// Connects to the socket. A shim that refuses it is about to end, which takes a moment.
    async fn reach(
        folder: &ShimFolder,
        failed: impl FnOnce(io::Error) -> ShimError,
    ) -> Result<Option<std::os::unix::net::UnixStream>, ShimError> {
        for _ in 0..CONNECT_ATTEMPTS {
            match folder.connect() {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
                reached => return reached.map_err(failed),
            }
        }
        Err(ShimError::OtherNetwork { folder: folder.path().to_owned() })
    }

    async fn greet(socket: std::os::unix::net::UnixStream) -> io::Result<(ShimHello, LinkSocket)> {
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        let peer = socket.peer_cred()?.uid();
        if peer != geteuid().as_raw() {
            return Err(io::Error::other(format!("the socket belongs to the user {peer}")));
        }
        let (reader, mut writer) = socket.into_split();
        let greeting = Outbox::default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = ServerHello { protocol: PROTOCOL, version };
        greeting.push(&Order::from(OrderKind::Hello(hello)));
        greeting.write_once(&mut writer).await?;
        let mut inbox = Inbox::new(reader);
        match inbox.next::<Report>().await?.kind {
            Some(ReportKind::Hello(hello)) => Ok((hello, LinkSocket { inbox, writer })),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Returns the shim as the owner of runs.
    pub(super) fn owner(&self) -> Option<RunOwner> {
        self.folder.number().map(RunOwner)
    }

    /// Returns the settings that the shim was started with.
    pub(super) fn settings(&self) -> &str {
        &self.hello.settings
    }

    pub(super) fn version(&self) -> &str {
        &self.hello.version
    }

    pub(super) fn pid(&self) -> u32 {
        self.hello.pid
    }

    /// Returns whether the call has a run in this shim.
    pub(super) fn has_run(&self, call_id: CallId) -> bool {
        self.lock().contains_key(&call_id)
    }

    /// Returns the status.
    pub(super) fn status(&self) -> ShimStatus {
        ShimStatus {
            pid: self.hello.pid,
            version: self.hello.version.clone(),
            runs: self.lock().len(),
            spooled_bytes: self.hello.runs.iter().map(|run| run.spooled_bytes).sum(),
        }
    }

    /// Talks to the shim until the connection ends, and returns the calls of its runs then.
    pub(super) async fn talk(&self, socket: LinkSocket) -> (io::Error, Vec<CallId>) {
        let LinkSocket { mut inbox, writer } = socket;
        let read = async {
            loop {
                match inbox.next::<Report>().await {
                    Ok(report) => self.take(report),
                    Err(error) => return error,
                }
            }
        };
        let error = tokio::select! {
            error = read => error,
            error = self.outbox.write_to(writer) => error,
        };
        self.gone.cancel();
        let calls = self.lock().keys().copied().collect();
        (error, calls)
    }

    /// Ends all runs that are left, because the shim has gone and their processes are dead.
    pub(super) fn end_runs(&self) {
        for run in self.lock().values() {
            run.push(RunEvent::OwnerLost);
        }
        self.ended.cancel();
    }

    /// Returns whether the shim has gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Tells the shim that this server leaves, and waits until the last orders are sent, with a bound.
    pub(super) async fn leave(&self) {
        self.outbox.push(&Order::from(OrderKind::Leave(Leave {})));
        let written = timeout(LAST_ORDERS_MAX, self.outbox.written());
        self.gone.run_until_cancelled(written).await;
    }

    /// Starts a run. If the shim ends before its answer, the process may have been started: the run is
    /// lost then.
    pub(super) async fn start(&self, spec: RunSpec) -> Result<Arc<RunInbox>, StartError> {
        let call_id = spec.call_id;
        let (inbox, answer) = RunInbox::of_start();
        let inbox = Arc::new(inbox);
        self.lock().insert(call_id, inbox.clone());
        self.outbox.push(&Order::from(OrderKind::Start(spec.into())));
        let answer = self.gone.run_until_cancelled(answer).await;
        match answer {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => {
                self.lock().remove(&call_id);
                return Err(error);
            }
            Some(Err(_)) | None => {
                self.ended.cancelled().await;
                inbox.push(RunEvent::OwnerLost);
            }
        }
        Ok(inbox)
    }

    /// Returns the calls of the runs that are not followed.
    pub(super) fn adoptable(&self) -> Vec<CallId> {
        let runs = self.lock();
        runs.iter().filter(|(_, run)| run.is_adoptable()).map(|(id, _)| *id).collect()
    }

    /// Returns whether the call has a run that is not followed.
    pub(super) fn is_adoptable(&self, call_id: CallId) -> bool {
        self.lock().get(&call_id).is_some_and(|run| run.is_adoptable())
    }

    /// Adopts a run, or returns `None` if there is none that is not followed.
    pub(super) fn adopt(&self, call_id: CallId, stored_bytes: u64) -> Option<Arc<RunInbox>> {
        let inbox = self.lock().get(&call_id).filter(|run| run.adopt()).cloned()?;
        let offset = Offset { call_id: id_bytes(call_id), bytes: stored_bytes };
        self.outbox.push(&Order::from(OrderKind::Adopt(offset)));
        Some(inbox)
    }

    /// Notes that output is durable. Returns `false` if the run is of another shim.
    pub(super) fn acknowledge(&self, call_id: CallId, stored_bytes: u64) -> bool {
        if !self.lock().contains_key(&call_id) {
            return false;
        }
        let offset = Offset { call_id: id_bytes(call_id), bytes: stored_bytes };
        self.outbox.push(&Order::from(OrderKind::Acknowledge(offset)));
        true
    }

    /// Forgets a run. Returns `false` if it is of another shim.
    pub(super) fn release(&self, call_id: CallId) -> bool {
        if self.lock().remove(&call_id).is_none() {
            return false;
        }
        let run = Run { call_id: id_bytes(call_id) };
        self.outbox.push(&Order::from(OrderKind::Release(run)));
        true
    }

    /// Sets the time for which the runs go on. Of several orders that wait, only the newest is sent, and
    /// before every other order that waits.
    pub(super) fn keep_for(&self, order: KeepFor) {
        self.outbox.set_first(&Order::from(OrderKind::KeepFor(order)));
    }

    /// Stops a run.
    pub(super) fn stop(&self, stop: StopRun) {
        self.outbox.push(&Order::from(OrderKind::Stop(stop)));
    }

    fn take(&self, report: Report) {
        let id = match &report.kind {
            Some(ReportKind::Started(run) | ReportKind::Alive(run)) => &run.call_id,
            Some(ReportKind::Refused(refused)) => &refused.call_id,
            Some(ReportKind::Output(output)) => &output.call_id,
            Some(ReportKind::Exited(exited)) => &exited.call_id,
            Some(ReportKind::Hello(_)) | None => return,
        };
        // A run that was released may still have sent something.
        let run = call_id(id).and_then(|id| self.lock().get(&id).cloned());
        let Some(run) = run else { return };
        match report.kind {
            Some(ReportKind::Started(_)) => run.answer(Ok(())),
            Some(ReportKind::Refused(refused)) => run.answer(Err(refused.into_error())),
            Some(ReportKind::Alive(_)) => run.push(RunEvent::Alive),
            Some(ReportKind::Output(output)) => run.push(RunEvent::Output(output.into_output())),
            Some(ReportKind::Exited(exited)) => {
                run.push(RunEvent::Exited(Box::new(read_report(&exited.report))));
            }
            Some(ReportKind::Hello(_)) | None => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CallId, Arc<RunInbox>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the inbox of a run that the shim has, with the reason why its process is blocked, if it is.
fn inbox_of(run: &RunStatus) -> Option<(CallId, Arc<RunInbox>)> {
    let call_id = call_id(&run.call_id)?;
    let inbox = RunInbox::default();
    if !run.spool_error.is_empty() {
        tracing::warn!(%call_id, error = run.spool_error,
            "the process was blocked while no server was there: its output could not be written");
        inbox.push(RunEvent::Blocked(run.spool_error.clone()));
    }
    Some((call_id, Arc::new(inbox)))
}

/// Reads a report. One that cannot be read, of a shim whose reports have become others, is that of a
/// process of which only the end is known.
fn read_report(json: &[u8]) -> RunReport {
    serde_json::from_slice(json).unwrap_or_else(|error| {
        tracing::error!(%error, "the report of a shim cannot be read: the exit code is not known");
        RunReport::ended(Exit::Code(255))
    })
}
