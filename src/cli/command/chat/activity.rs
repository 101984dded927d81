//! The activity of a turn, for times in which it prints nothing.

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::cli::print::{output::eprint_note, spinner::Spinner, time::format_span};

/// The silence after which a line says what the turn is doing, where there is no terminal for a
/// spinner.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a turn is doing: a spinner on a terminal, and one line in each long silence elsewhere.
pub(super) struct Activity {
    is_terminal: bool,
    /// `None` while other text is being printed, or if nothing is shown at all.
    shown: Option<Shown>,
}

struct Shown {
    text: String,
    spinner: Option<Spinner>,
    since: Instant,
    /// `true` once the line of this silence was printed.
    noted: bool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), shown: None }
    }

    /// Shows an activity, such as `main is thinking`, until the next one or until it is hidden.
    pub(super) fn show(&mut self, text: String) {
        if self.shown.as_ref().is_some_and(|shown| shown.text == text) {
            return;
        }
        self.hide();
        let spinner = self.is_terminal.then(|| Spinner::start(text.clone()));
        self.shown = Some(Shown { text, spinner, since: Instant::now(), noted: false });
    }

    /// Hides the activity: other text follows.
    pub(super) fn hide(&mut self) {
        self.shown = None;
    }

    /// Waits until a line is due. Never returns if none is.
    pub(super) async fn silence(&self) {
        match &self.shown {
            Some(Shown { spinner: None, noted: false, since, .. }) => {
                sleep_until(*since + SILENCE_MAX).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Prints the line that is due.
    pub(super) fn note_silence(&mut self) {
        if let Some(shown) = &mut self.shown {
            shown.noted = true;
            eprint_note(&format!("{} ({})", shown.text, format_span(shown.since.elapsed())));
        }
    }
}
