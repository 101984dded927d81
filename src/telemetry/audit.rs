//! Metrics of the audit log. There are none without one.

use super::{Metrics, name};

/// The reasons for which entries are lost.
const REASONS: [&str; 3] = ["disk", "full", "closed"];

impl Metrics {
    /// Shows that there is an audit log, of which nothing is lost.
    pub fn audit_log_opened(&self) {
        self.registry().counter(name::AUDIT_LINES, &[]).increment(0);
        for reason in REASONS {
            self.registry().counter(name::AUDIT_LOST, &[("reason", reason)]).increment(0);
        }
    }

    /// Counts a line of the audit log.
    pub fn audit_written(&self) {
        self.registry().counter(name::AUDIT_LINES, &[]).increment(1);
    }

    /// Counts an entry of the audit log that is lost: the `disk` refused it, too many were waiting
    /// (`full`), or the log was `closed`.
    pub fn audit_lost(&self, reason: &'static str) {
        self.registry().counter(name::AUDIT_LOST, &[("reason", reason)]).increment(1);
    }
}
