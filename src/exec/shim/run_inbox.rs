//! The events of a run in a shim, until the server takes them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::exec::{RunEvent, StartError};

/// The events of a run that were not taken yet. The shim bounds them: it sends no more output than its
/// window until some of it is acknowledged.
#[derive(Default)]
pub(super) struct RunInbox {
    state: Mutex<RunInboxState>,
    arrived: Notify,
}

#[derive(Default)]
struct RunInboxState {
    events: VecDeque<RunEvent>,
    /// The answer to the start, until it comes.
    starting: Option<oneshot::Sender<Result<(), StartError>>>,
    is_followed: bool,
}

impl RunInbox {
    /// Creates the inbox of a run that is about to start, and the receiver of the answer.
    pub(super) fn of_start() -> (Self, oneshot::Receiver<Result<(), StartError>>) {
        let (starting, answer) = oneshot::channel();
        let state =
            RunInboxState { starting: Some(starting), is_followed: true, ..Default::default() };
        (Self { state: Mutex::new(state), arrived: Notify::new() }, answer)
    }

    /// Notes the answer to the start.
    pub(super) fn answer(&self, answer: Result<(), StartError>) {
        if let Some(starting) = self.lock().starting.take() {
            // The receiver may be gone.
            let _result = starting.send(answer);
        }
    }

    /// Adds an event.
    pub(super) fn push(&self, event: RunEvent) {
        self.lock().events.push_back(event);
        self.arrived.notify_one();
    }

    /// Returns whether the run waits to be adopted.
    pub(super) fn is_adoptable(&self) -> bool {
        !self.lock().is_followed
    }

    /// Marks the run as adopted. Returns `false` if it is followed already.
    pub(super) fn adopt(&self) -> bool {
        !std::mem::replace(&mut self.lock().is_followed, true)
    }

    /// Returns the next event.
    pub(super) async fn next(&self) -> RunEvent {
        loop {
            let arrived = self.arrived.notified();
            if let Some(event) = self.lock().events.pop_front() {
                return event;
            }
            arrived.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, RunInboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
