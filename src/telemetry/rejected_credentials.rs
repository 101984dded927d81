//! The lines of the log of operations about rejected credentials, at a bounded rate.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::LogRate;
use super::operations::TARGET;

/// The lines about rejected credentials. The first ones of an interval have a line each; the others are
/// counted, and the next interval begins with their number.
#[derive(Debug, Default)]
pub(super) struct RejectionLog(Mutex<LogRate>);

impl RejectionLog {
    /// Writes a line about credentials that were rejected, or counts them.
    pub(super) fn rejected(&self, reason: &'static str, peer: Option<&dyn fmt::Display>) {
        let counted = self.rate().next(Instant::now());
        let Some(left_out) = counted else { return };
        write_left_out(left_out);
        let peer = peer.map(tracing::field::display);
        tracing::info!(target: TARGET, reason, peer, "credentials were rejected");
    }

    /// Begins an interval: writes the number of rejections that had no line in the one before.
    pub(super) fn begin_interval(&self) {
        let ended = std::mem::take(&mut *self.rate());
        write_left_out(ended.silent());
    }

    fn rate(&self) -> MutexGuard<'_, LogRate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the number of rejections that had no line, if there are any.
fn write_left_out(left_out: u64) {
    if left_out > 0 {
        tracing::info!(target: TARGET, left_out, "more credentials were rejected");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::telemetry::operations::tests::written;

    #[test]
    fn rejections_are_bounded_and_counted() {
        let log = RejectionLog::default();
        let reject = || (0..12).for_each(|_| log.rejected("invalid", Some(&"127.0.0.1:9")));
        let lines = written(|| {
            reject();
            log.begin_interval();
            log.begin_interval();
            log.rejected("missing", None);
        });
        let each = json!({
            "message": "credentials were rejected", "reason": "invalid", "peer": "127.0.0.1:9",
        });
        let more = json!({ "message": "more credentials were rejected", "left_out": 7 });
        let missing = json!({ "message": "credentials were rejected", "reason": "missing" });
        let mut expected = vec![each; 5];
        expected.extend([more, missing]);
        assert_eq!(lines, expected);
    }
}
