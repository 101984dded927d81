//! What a server tells while it works: the progress of its calls, in order and before their results,
//! and that there is subscriptions of a task.
//!
//! rmcp gives each notification to a task of its own, so that they overtake one another and come
//! after the result. So they are taken where they are read, between the transport and rmcp.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::{
    ClientRequest, JsonRpcMessage, ProgressNotificationParam, ProgressToken, RequestId,
    RequestMetaObject, ServerNotification,
};
use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::model::Progress;

/// Reports of one call that wait for its log. One more is left out: a newer one will follow.
const REPORTS_MAX: usize = 64;

/// The id of the question what a server speaks. rmcp's own ids are numbers.
pub(super) fn question() -> RequestId {
    RequestId::String("what do you speak".into())
}

/// The id of the ping of a server that hasn't answered that question.
pub(super) fn ping_id() -> RequestId {
    RequestId::String("are you there".into())
}

/// Who listens to which call, and who waits for which task.
#[derive(Clone, Default)]
pub(super) struct Notifications(Arc<Mutex<Subscribers>>);

#[derive(Default)]
struct Subscribers {
    calls: HashMap<ProgressToken, ProgressChannel>,
    tasks: HashMap<String, Arc<Notify>>,
}

struct ProgressChannel {
    sender: mpsc::Sender<Progress>,
    /// Until somebody listens.
    receiver: Option<mpsc::Receiver<Progress>>,
}

impl Default for ProgressChannel {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(REPORTS_MAX);
        Self { sender, receiver: Some(receiver) }
    }
}

impl Notifications {
    /// From now on hears of this call, also of what was told before.
    pub(super) fn listen(&self, token: &ProgressToken) -> ProgressReports {
        let receiver = self.lock().calls.entry(token.clone()).or_default().receiver.take();
        ProgressReports { receiver, token: token.clone(), notifications: self.clone() }
    }

    /// From now on hears that there is subscriptions of this task of the server's. Of two who wait for the
    /// same one, which no server should cause, one may hear nothing.
    pub(super) fn watch(&self, task: &str) -> TaskUpdates {
        let subscriptions = self.lock().tasks.entry(task.to_owned()).or_default().clone();
        TaskUpdates { subscriptions, task: task.to_owned(), notifications: self.clone() }
    }

    fn sent(&self, token: ProgressToken) {
        self.lock().calls.entry(token).or_default();
    }

    fn heard(&self, params: &ProgressNotificationParam) {
        let sender = {
            let heard = self.lock();
            heard.calls.get(&params.progress_token).map(|channel| channel.sender.clone())
        };
        let Some(sender) = sender else { return };
        let progress = Progress {
            done: params.progress,
            total: params.total,
            message: params.message.clone().unwrap_or_default(),
        };
        if sender.try_send(progress).is_err() {
            tracing::debug!("a report of progress was left out: the log takes no more");
        }
    }

    fn told_of(&self, task: &str) {
        if let Some(subscriptions) = self.lock().tasks.get(task) {
            subscriptions.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody listens to a call, until this is dropped.
pub(super) struct ProgressReports {
    receiver: Option<mpsc::Receiver<Progress>>,
    token: ProgressToken,
    notifications: Notifications,
}

impl ProgressReports {
    /// The next report. For ever, if there is none.
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

    /// The next report, if it is there.
    pub(super) fn try_next(&mut self) -> Option<Progress> {
        self.receiver.as_mut()?.try_recv().ok()
    }
}

impl Drop for ProgressReports {
    fn drop(&mut self) {
        self.notifications.lock().calls.remove(&self.token);
    }
}

/// Somebody waits for a task of the server's, until this is dropped.
pub(super) struct TaskUpdates {
    subscriptions: Arc<Notify>,
    task: String,
    notifications: Notifications,
}

impl TaskUpdates {
    /// Waits until there is subscriptions of it. What it is the server must be asked: it may be old already.
    pub(super) async fn subscriptions(&self) {
        self.subscriptions.notified().await;
    }
}

impl Drop for TaskUpdates {
    fn drop(&mut self) {
        self.notifications.lock().tasks.remove(&self.task);
    }
}

/// A transport that is listened to.
pub(super) struct ObservedTransport<T> {
    inner: T,
    pub(super) notifications: Notifications,
    /// The server will say nothing more.
    pub(super) gone: CancellationToken,
    /// Whether an answer to the question what it speaks, or to the ping, comes too late.
    is_met: bool,
}

impl<T> ObservedTransport<T> {
    pub(super) fn new(inner: T) -> Self {
        let (notifications, gone) = (Notifications::default(), CancellationToken::new());
        Self { inner, notifications, gone, is_met: false }
    }

    /// Nobody waits for an answer to the question or the ping any more.
    pub(super) fn pass_over_late_answers(&mut self) {
        self.is_met = true;
    }

    fn is_late(&self, message: &RxJsonRpcMessage<RoleClient>) -> bool {
        let id = match message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        self.is_met && id.is_some_and(|id| *id == question() || *id == ping_id())
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for ObservedTransport<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let Some(token) = token_of_call(&item) {
            self.notifications.sent(token);
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
        // From here on nothing is awaited: what was read isn't lost when this is dropped.
        match &message {
            None => self.gone.cancel(),
            Some(JsonRpcMessage::Notification(notification)) => match &notification.notification {
                ServerNotification::ProgressNotification(progress) => {
                    self.notifications.heard(&progress.params);
                }
                ServerNotification::TaskStatusNotification(subscriptions) => {
                    self.notifications.told_of(&subscriptions.params.task.task.task_id);
                }
                _ => {}
            },
            Some(_) => {}
        }
        message
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

/// The token that rmcp has given a call.
fn token_of_call(message: &TxJsonRpcMessage<RoleClient>) -> Option<ProgressToken> {
    let JsonRpcMessage::Request(request) = message else { return None };
    let ClientRequest::CallToolRequest(call) = &request.request else { return None };
    call.extensions.get::<RequestMetaObject>()?.get_progress_token()
}
