//! Polls of tasks, as far as they do not depend on the protocol of the task: their pace, how many may
//! fail, and the reports of progress that come of status messages.

use std::time::Duration;

use rmcp::model::ErrorData;

use super::excerpt::excerpt;
use crate::model::Progress;
use crate::model::limits::TEXT_BYTES_MAX;
use crate::tool::ToolContext;

/// The interval between two polls of a server that names none.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// The shortest interval, whatever the server names and however often it notifies.
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest interval: otherwise one number could put a call to sleep for good.
const INTERVAL_MAX: Duration = Duration::from_secs(300);
/// The timeout of a poll.
pub(super) const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of failed polls in a row with which the task is given up.
const POLL_ERRORS_MAX: u32 = 5;

/// Returns the interval between two polls of a server that names this one, in milliseconds.
pub(super) fn interval(millis: Option<u64>) -> Duration {
    let interval = millis.map_or(INTERVAL_DEFAULT, Duration::from_millis);
    interval.clamp(INTERVAL_MIN, INTERVAL_MAX)
}

/// Returns the end of a sentence about a poll that was not answered in time.
pub(super) fn not_answered() -> String {
    format!("it did not answer in {POLL_TIMEOUT:?}")
}

/// Returns the end of a sentence about a task that the server has forgotten.
pub(super) fn forgotten(error: &ErrorData) -> String {
    format!("it no longer knows its task: {}", excerpt(&error.message))
}

/// The failed polls since the last one that succeeded.
#[derive(Default)]
pub(super) struct PollErrors(u32);

impl PollErrors {
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }

    /// Counts a failed poll. Fails with the end of a sentence if the task is to be given up.
    pub(super) fn count(&mut self, reason: &str) -> Result<(), String> {
        self.0 += 1;
        match self.0 {
            ..POLL_ERRORS_MAX => Ok(()),
            times => Err(format!("asked about its task {times} times, {reason}")),
        }
    }
}

/// The reports of progress of one task.
#[derive(Default)]
pub(super) struct StatusReports {
    last_message: String,
    count: u32,
}

impl StatusReports {
    /// Reports a status message, unless it is empty or the one from before.
    pub(super) async fn report(&mut self, message: &str, context: &ToolContext) {
        let message = truncate(message);
        if message.is_empty() || message == self.last_message {
            return;
        }
        message.clone_into(&mut self.last_message);
        // A task has no numbers for its progress, so the reports are counted.
        self.count = self.count.saturating_add(1);
        let message = message.to_owned();
        context.progress(Progress { done: f64::from(self.count), total: None, message }).await;
    }
}

/// Truncates a text to the length of a report or a reason.
pub(super) fn truncate(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
