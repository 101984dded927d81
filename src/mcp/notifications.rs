//! The notifications of a server while it works: the progress of its calls, in order and before
//! their results, and changes of its tasks.
//!
//! rmcp handles each notification in a task of its own, so that notifications overtake each other
//! and arrive after the result. For that reason they are taken where they are read, between the
//! transport and rmcp.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::{
    ClientRequest, JsonRpcMessage, ProgressNotificationParam, ProgressToken, RequestId,
    RequestMetaObject, ServerNotification,
};
use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::answer_error::own_error;
use super::declined::declined;
use crate::model::Progress;

/// The most reports of one call that wait for its log. Beyond it a report is left out: a newer one
/// will follow.
const REPORTS_MAX: usize = 64;

/// Returns the id of the discovery request. It is a text, since rmcp's own ids are numbers.
pub(super) fn discover_id() -> RequestId {
    RequestId::String("what do you speak".into())
}

/// Returns the id of the ping that follows when the discovery is not answered.
pub(super) fn ping_id() -> RequestId {
    RequestId::String("are you there".into())
}

/// The receivers of the notifications of one connection.
#[derive(Clone, Default)]
pub(super) struct Notifications(Arc<Mutex<Receivers>>);

#[derive(Default)]
struct Receivers {
    calls: HashMap<ProgressToken, ProgressChannel>,
    tasks: HashMap<String, Arc<Notify>>,
}

struct ProgressChannel {
    sender: mpsc::Sender<Progress>,
    /// The last numbers that the server has reported.
    done: f64,
    total: Option<f64>,
    /// The receiver, or `None` once it has been taken.
    receiver: Option<mpsc::Receiver<Progress>>,
}

impl Default for ProgressChannel {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(REPORTS_MAX);
        Self { sender, done: 0.0, total: None, receiver: Some(receiver) }
    }
}

impl Notifications {
    /// Returns the reports of progress of a call, those from before this moment included.
    pub(super) fn progress_of(&self, token: &ProgressToken) -> ProgressReports {
        let receiver = self.lock().calls.entry(token.clone()).or_default().receiver.take();
        ProgressReports { receiver, token: token.clone(), notifications: self.clone() }
    }

    /// Returns the notifications about a task of the server. If two callers follow the same task,
    /// which no server should cause, one of them may get none.
    pub(super) fn updates_of(&self, task: &str) -> TaskUpdates {
        let changed = self.lock().tasks.entry(task.to_owned()).or_default().clone();
        TaskUpdates { changed, task: task.to_owned(), notifications: self.clone() }
    }

    fn call_sent(&self, token: ProgressToken) {
        self.lock().calls.entry(token).or_default();
    }

    fn progress_made(&self, params: &ProgressNotificationParam) {
        let sender = {
            let mut receivers = self.lock();
            receivers.calls.get_mut(&params.progress_token).map(|channel| {
                (channel.done, channel.total) = (params.progress, params.total);
                channel.sender.clone()
            })
        };
        let Some(sender) = sender else { return };
        let progress = Progress {
            done: params.progress,
            total: params.total,
            message: params.message.clone().unwrap_or_default(),
        };
        if sender.try_send(progress).is_err() {
            tracing::debug!("a report of progress is left out: too many wait for the log");
        }
    }

    /// Reports a request of the server that is declined. It names no call, so every call that is
    /// running reports it.
    fn request_declined(&self, message: &str) {
        for channel in self.lock().calls.values() {
            let ProgressChannel { done, total, .. } = *channel;
            let progress = Progress { done, total, message: message.to_owned() };
            if channel.sender.try_send(progress).is_err() {
                tracing::debug!(
                    "a declined request is left out: too many reports wait for the log"
                );
            }
        }
    }

    fn task_changed(&self, task: &str) {
        if let Some(changed) = self.lock().tasks.get(task) {
            changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Receivers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reports of progress of a call. They are ignored once this is dropped.
pub(super) struct ProgressReports {
    receiver: Option<mpsc::Receiver<Progress>>,
    token: ProgressToken,
    notifications: Notifications,
}

impl ProgressReports {
    /// Waits for the next report.
    pub(super) async fn next(&mut self) -> Progress {
        let report = match &mut self.receiver {
            Some(receiver) => receiver.recv().await,
            None => None,
        };
        match report {
            Some(report) => report,
            None => std::future::pending().await,
        }
    }

    /// Returns the next report, or `None` if there is none yet.
    pub(super) fn try_next(&mut self) -> Option<Progress> {
        self.receiver.as_mut()?.try_recv().ok()
    }
}

impl Drop for ProgressReports {
    fn drop(&mut self) {
        self.notifications.lock().calls.remove(&self.token);
    }
}

/// The notifications about a task of the server. They are ignored once this is dropped.
pub(super) struct TaskUpdates {
    changed: Arc<Notify>,
    task: String,
    notifications: Notifications,
}

impl TaskUpdates {
    /// Waits until the server says that the task has changed. Its state must be requested: the one
    /// in the notification may be old already.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for TaskUpdates {
    fn drop(&mut self) {
        self.notifications.lock().tasks.remove(&self.task);
    }
}

/// A transport whose notifications are taken as they are read.
pub(super) struct ObservedTransport<T> {
    inner: T,
    pub(super) notifications: Notifications,
    /// Cancelled when the server will send nothing more.
    pub(super) silent: CancellationToken,
    /// `true` if answers to the discovery and to the ping are ignored.
    ignores_late_answers: bool,
}

impl<T> ObservedTransport<T> {
    pub(super) fn new(inner: T) -> Self {
        let (notifications, silent) = (Notifications::default(), CancellationToken::new());
        Self { inner, notifications, silent, ignores_late_answers: false }
    }

    /// Ignores later answers to the discovery and to the ping.
    pub(super) fn ignore_late_answers(&mut self) {
        self.ignores_late_answers = true;
    }

    fn is_late(&self, message: &RxJsonRpcMessage<RoleClient>) -> bool {
        let id = match message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        self.ignores_late_answers && id.is_some_and(|id| *id == discover_id() || *id == ping_id())
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for ObservedTransport<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let Some(token) = token_of_call(&item) {
            self.notifications.call_sent(token);
        }
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = loop {
            match self.inner.receive().await {
                Some(message) if self.is_late(&message) => {}
                message => break message,
            }
        };
        let message = message.map(without_closed_connection);
        // There is no await from here on: a message that was read is not lost when this is dropped.
        match &message {
            None => self.silent.cancel(),
            Some(JsonRpcMessage::Notification(notification)) => match &notification.notification {
                ServerNotification::ProgressNotification(progress) => {
                    self.notifications.progress_made(&progress.params);
                }
                ServerNotification::TaskStatusNotification(status) => {
                    self.notifications.task_changed(&status.params.task.task.task_id);
                }
                _ => {}
            },
            Some(JsonRpcMessage::Request(request)) => {
                if let Some(declined) = declined(&request.request) {
                    tracing::info!(declined, "a request of an MCP server is declined");
                    self.notifications.request_declined(&declined);
                }
            }
            Some(_) => {}
        }
        message
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

/// Turns rmcp's error of a request whose response has ended early, which would count as the end of the
/// whole connection, into an error of that request.
fn without_closed_connection(
    message: RxJsonRpcMessage<RoleClient>,
) -> RxJsonRpcMessage<RoleClient> {
    match message {
        JsonRpcMessage::Error(error) if is_closed_mark(error.error.data.as_ref()) => {
            let reason = "it closed the connection before its answer was complete".to_owned();
            match error.id {
                Some(id) => own_error(id, reason),
                None => JsonRpcMessage::Error(error),
            }
        }
        other => other,
    }
}

fn is_closed_mark(data: Option<&Value>) -> bool {
    data.is_some_and(|data| data.get("io.modelcontextprotocol/transportClosed").is_some())
}

/// Returns the token that rmcp has given to a call, or `None` if the message is not a call.
fn token_of_call(message: &TxJsonRpcMessage<RoleClient>) -> Option<ProgressToken> {
    let JsonRpcMessage::Request(request) = message else { return None };
    let ClientRequest::CallToolRequest(call) = &request.request else { return None };
    call.extensions.get::<RequestMetaObject>()?.get_progress_token()
}
