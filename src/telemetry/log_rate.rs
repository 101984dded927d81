//! A bound on the rate of one kind of log entry.

use std::time::Duration;

use tokio::time::Instant;

/// The span in which at most [`LOGGED_MAX`] occurrences are logged.
const SPAN: Duration = Duration::from_secs(60);
const LOGGED_MAX: u64 = 5;

/// The rate of one kind of log entry: five a minute, and the others are counted.
#[derive(Debug, Default)]
pub struct LogRate {
    /// The begin of the span, or `None` before the first occurrence.
    since: Option<Instant>,
    logged: u64,
    /// The occurrences that were not logged since the last one that was.
    silent: u64,
}

impl LogRate {
    /// Counts an occurrence. Returns the number of silent ones before it if this one is logged.
    pub fn next(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= SPAN) {
            (self.since, self.logged) = (Some(now), 0);
        }
        if self.logged == LOGGED_MAX {
            self.silent += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.silent))
    }

    /// Returns the number of occurrences that were not logged since the last one that was.
    pub fn silent(&self) -> u64 {
        self.silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_occurrences_of_a_span_are_logged_and_the_others_are_counted() {
        let begin = Instant::now();
        let mut rate = LogRate::default();
        let logged = (0..100).filter_map(|_| rate.next(begin)).count() as u64;
        assert_eq!((logged, rate.silent()), (LOGGED_MAX, 100 - LOGGED_MAX));
        assert_eq!(rate.next(begin + SPAN), Some(100 - LOGGED_MAX));
        assert_eq!(rate.next(begin + SPAN), Some(0));
    }
}
