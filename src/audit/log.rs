//! The audit log of a server: entries on their way to the file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::AuditError;
use super::file::{AuditFile, AuditFileOptions};
use super::line::{AuditAction, AuditEntry};
use super::refusals::Refusals;
use crate::model::Timestamp;
use crate::model::limits::AUDIT_QUEUE_MAX;
use crate::redact::redacted;
use crate::telemetry::{LogRate, Metrics};

/// The longest time until what was written is on the disk, and until a window of refusals is seen to be over.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time that the last lines may take when the server stops.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The options of an audit log.
pub struct AuditOptions {
    /// The files of the log.
    pub files: AuditFileOptions,
    /// Counts what is lost.
    pub metrics: Metrics,
    /// The clock, for lines about the log itself.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The audit log of a server. A clone is a handle to the same log.
///
/// An entry waits for nothing: it goes to a thread that writes it. If the disk fails or is slower than the
/// requests for long, entries are lost. That is counted, logged, and said in a line of the log itself.
#[derive(Clone)]
pub struct AuditLog {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

enum Message {
    Entry(Box<AuditEntry>),
    Close(oneshot::Sender<()>),
}

/// The state that the handles share with the thread.
struct Shared {
    refusals: Mutex<Refusals>,
    /// The number of entries that were lost and have no line that says so.
    lost: AtomicU64,
    rate: Mutex<LogRate>,
    metrics: Metrics,
    last_time: Option<Timestamp>,
}

impl AuditLog {
    /// Opens the log, and starts the thread that writes it.
    ///
    /// # Errors
    ///
    /// The file cannot be used.
    pub fn open(options: AuditOptions) -> Result<Self, AuditError> {
        let AuditOptions { files, metrics, now } = options;
        let path = files.path.clone();
        let (file, last_time) = AuditFile::open(files)?;
        if file.is_damaged() {
            tracing::warn!(
                file = %path.display(),
                "the end of the audit log is damaged, as by a crash; its next line says so"
            );
        }
        metrics.audit_log_opened();
        let shared = Arc::new(Shared {
            refusals: Mutex::default(),
            lost: AtomicU64::new(0),
            rate: Mutex::default(),
            metrics,
            last_time,
        });
        let (sender, receiver) = sync_channel(AUDIT_QUEUE_MAX);
        let writer =
            Writer { file, shared: shared.clone(), now, synced: Instant::now(), is_dirty: false };
        let thread = std::thread::Builder::new().name("audit-writer".to_owned());
        // It ends at the message to close, or when the last handle is gone.
        let spawned = thread.spawn(move || writer.run(&receiver));
        spawned.map_err(|cause| AuditError::File { path, cause })?;
        Ok(Self { sender, shared })
    }

    /// Returns the time of the last line of an earlier server, or `None` if there is none.
    pub fn last_time(&self) -> Option<Timestamp> {
        self.shared.last_time
    }

    /// Adds an entry.
    pub fn record(&self, entry: AuditEntry) {
        let reason = match self.sender.try_send(Message::Entry(Box::new(entry))) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "full",
            Err(TrySendError::Disconnected(_)) => "closed",
        };
        self.shared.lost(reason, &"too many entries are waiting to be written");
    }

    /// Adds an entry about refused credentials from `source`, such as the address of a peer without its port.
    /// Refusals of one reason and source have two lines a minute, the second one with their number.
    pub fn record_refusal(&self, entry: AuditEntry, source: &str) {
        let entry = self.shared.refusals().refused(entry, source, Instant::now());
        if let Some(entry) = entry {
            self.record(entry);
        }
    }

    /// Writes what is waiting, and ends the thread. Entries that come later are lost.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let sender = self.sender.clone();
        let sending = tokio::task::spawn_blocking(move || sender.send(Message::Close(done)));
        let closing = async {
            let _sent = sending.await;
            closed.await
        };
        if tokio::time::timeout(CLOSE_MAX, closing).await.is_err() {
            tracing::error!("the last lines of the audit log were not written in time");
        }
    }
}

impl Shared {
    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an entry that is lost.
    fn lost(&self, reason: &'static str, error: &dyn std::fmt::Display) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.metrics.audit_lost(reason);
        self.report(error, "an entry of the audit log is lost");
    }

    /// Logs an error, at a bounded rate.
    fn report(&self, error: &dyn std::fmt::Display, message: &'static str) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = rate.next(tokio::time::Instant::now()) {
            tracing::error!(%error, left_out, "{message}");
        }
    }
}

/// Returns an entry without secrets in the texts that callers choose.
fn without_secrets(entry: &AuditEntry) -> AuditEntry {
    let shown = |text: &Option<String>| text.as_deref().map(redacted);
    AuditEntry {
        tenant: shown(&entry.tenant),
        name: shown(&entry.name),
        request_id: shown(&entry.request_id),
        reason: shown(&entry.reason),
        ..entry.clone()
    }
}

/// The state of the thread that writes.
struct Writer {
    file: AuditFile,
    shared: Arc<Shared>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    synced: Instant,
    is_dirty: bool,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        let closed = loop {
            match receiver.recv_timeout(SYNC_INTERVAL) {
                Ok(Message::Entry(entry)) => self.write(&entry),
                Ok(Message::Close(done)) => break Some(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            if self.synced.elapsed() >= SYNC_INTERVAL {
                self.write_refusals(Some(Instant::now()));
                self.sync();
            }
        };
        self.write_refusals(None);
        self.write_lost();
        self.sync();
        // Another server may have the file before the answer is there.
        drop(self);
        if let Some(done) = closed {
            let _receiver_gone = done.send(());
        }
    }

    fn write(&mut self, entry: &AuditEntry) {
        self.write_lost();
        if let Err(error) = self.append(entry) {
            self.shared.lost("disk", &error);
        }
    }

    /// Writes the number of entries that were lost, if there are any.
    fn write_lost(&mut self) {
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let entry = AuditEntry::new(AuditAction::Lost, (self.now)());
        if self.append(&AuditEntry { count: Some(lost), ..entry }).is_err() {
            self.shared.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    fn write_refusals(&mut self, now: Option<Instant>) {
        let entries = self.shared.refusals().end_window(now);
        entries.iter().for_each(|entry| self.write(entry));
    }

    fn append(&mut self, entry: &AuditEntry) -> std::io::Result<()> {
        if self.file.is_full()
            && let Err(error) = self.file.rotate()
        {
            self.shared.report(&error, "the audit log cannot begin another file: this one grows");
        }
        self.file.append(&without_secrets(entry))?;
        self.shared.metrics.audit_written();
        self.is_dirty = true;
        Ok(())
    }

    fn sync(&mut self) {
        self.synced = Instant::now();
        if !std::mem::take(&mut self.is_dirty) {
            return;
        }
        if let Err(error) = self.file.sync() {
            self.shared.report(&error, "lines of the audit log may not outlast a loss of power");
        }
    }
}
