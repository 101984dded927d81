//! The activity of a turn, for times in which it prints nothing.

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::cli::print::{output::eprint_note, spinner::Spinner, time::format_span};

/// The silence after which a line says what the turn is doing, where there is no terminal for a
/// spinner.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The activity of a turn: a spinner on a terminal, and one line in each long silence elsewhere.
pub(super) struct Activity {
    is_terminal: bool,
    /// `None` while other text is being printed, or if nothing is shown at all.
    shown: Option<Shown>,
}

struct Shown {
    text: String,
    /// On a terminal only.
    spinner: Option<Spinner>,
    since: Instant,
    /// The time at which another activity begins by itself, and its text.
    next: Option<(Instant, String)>,
    /// `true` once the line of this silence was printed.
    noted: bool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), shown: None }
    }

    /// Shows an activity, such as `main is thinking`, until the next one or until it is hidden.
    pub(super) fn show(&mut self, text: String) {
        if self.shown.as_ref().is_none_or(|shown| shown.text != text) {
            self.begin(text, None);
        }
    }

    /// Shows an activity that another one follows after this time.
    pub(super) fn show_for(&mut self, time: Duration, text: String, next: String) {
        self.begin(text, Some((Instant::now() + time, next)));
    }

    fn begin(&mut self, text: String, next: Option<(Instant, String)>) {
        // One spinner is cleared before another one is drawn.
        self.hide();
        let spinner = self.is_terminal.then(|| Spinner::start(text.clone()));
        self.shown = Some(Shown { text, spinner, since: Instant::now(), next, noted: false });
    }

    /// Hides the activity: other text follows.
    pub(super) fn hide(&mut self) {
        self.shown = None;
    }

    /// Waits until [`tick`](Self::tick) has something to do. Never returns if that will not be.
    pub(super) async fn due(&self) {
        match self.shown.as_ref().and_then(Shown::due) {
            Some(time) => sleep_until(time).await,
            None => std::future::pending().await,
        }
    }

    /// Shows the next activity if it has begun, or prints the line of a silence.
    pub(super) fn tick(&mut self) {
        let Some(shown) = &mut self.shown else { return };
        match shown.next.take_if(|(time, _)| *time <= Instant::now()) {
            Some((_, text)) => self.show(text),
            None => {
                shown.noted = true;
                eprint_note(&format!("{} ({})", shown.text, format_span(shown.since.elapsed())));
            }
        }
    }
}

impl Shown {
    fn due(&self) -> Option<Instant> {
        let has_note = self.spinner.is_none() && !self.noted;
        let note = has_note.then(|| self.since + SILENCE_MAX);
        let next = self.next.as_ref().map(|(time, _)| *time);
        note.into_iter().chain(next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity() -> Activity {
        Activity { is_terminal: false, shown: None }
    }

    #[tokio::test(start_paused = true)]
    async fn one_line_is_printed_in_a_silence() {
        let mut activity = activity();
        activity.show("thinking".to_owned());
        let began = Instant::now();
        activity.due().await;
        assert_eq!(began.elapsed(), SILENCE_MAX);
        activity.tick();
        // The same activity again is the same silence.
        activity.show("thinking".to_owned());
        let shown = activity.shown.as_ref().unwrap();
        assert_eq!((shown.noted, shown.due()), (true, None));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_the_model_is_asked() {
        let mut activity = activity();
        let pause = Duration::from_secs(2);
        activity.show_for(pause, "waiting".to_owned(), "thinking".to_owned());
        let began = Instant::now();
        activity.due().await;
        assert_eq!(began.elapsed(), pause);
        activity.tick();
        let shown = activity.shown.as_ref().unwrap();
        assert_eq!((shown.text.as_str(), shown.noted), ("thinking", false));
        activity.hide();
        assert!(activity.shown.is_none());
    }
}
