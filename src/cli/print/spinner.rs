//! A spinner on standard error while a command waits.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::text::sanitize;

const TICK: Duration = Duration::from_millis(100);

/// Shows a message and the elapsed time until it is dropped. Shows nothing if standard error is not
/// a terminal.
#[derive(Debug)]
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    pub(crate) fn start(message: String) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(sanitize(&message));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
