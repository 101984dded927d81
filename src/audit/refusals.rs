//! Refused credentials, which anybody can cause as often as they like: a bounded number of lines.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::line::AuditEntry;

/// The time in which refusals of one kind have one line, and another one with their number.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The number of kinds of refusals that have lines of their own in that time.
pub(super) const KINDS_MAX: usize = 16;

/// The refusals of a window.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The begin of the window, or `None` before the first refusal.
    begin: Option<Instant>,
    kinds: HashMap<Kind, Repeated>,
}

/// Refusals that are counted together: those with one reason, from one place and of one caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    reason: Option<String>,
    /// The source, or `None` for all kinds without lines of their own.
    source: Option<(String, Option<String>)>,
}

#[derive(Debug)]
struct Repeated {
    last: AuditEntry,
    /// The number of refusals without a line.
    count: u64,
}

impl Refusals {
    /// Returns the refusal if it has a line of its own, or counts it. `source` is the place that it comes
    /// from.
    pub(super) fn refused(
        &mut self,
        entry: AuditEntry,
        source: &str,
        now: Instant,
    ) -> Option<AuditEntry> {
        self.begin.get_or_insert(now);
        let caller = entry.credential_id.clone().or_else(|| entry.name.clone());
        let reason = entry.reason.clone();
        let kind = Kind { reason: reason.clone(), source: Some((source.to_owned(), caller)) };
        if let Some(repeated) = self.kinds.get_mut(&kind) {
            repeated.count += 1;
            repeated.last = entry;
            return None;
        }
        if self.kinds.keys().filter(|kind| kind.source.is_some()).count() < KINDS_MAX {
            self.kinds.insert(kind, Repeated { last: entry.clone(), count: 0 });
            return Some(entry);
        }
        // The reasons are those of a fixed set.
        let all = self.kinds.entry(Kind { reason, source: None });
        let last = AuditEntry {
            tenant: None,
            name: None,
            credential_id: None,
            request_id: None,
            peer: None,
            ..entry
        };
        let all = all.or_insert_with(|| Repeated { last: last.clone(), count: 0 });
        all.count += 1;
        all.last = last;
        None
    }

    /// Returns lines with the numbers of refusals that had none, if the window is over, or `now` is `None`.
    pub(super) fn end_window(&mut self, now: Option<Instant>) -> Vec<AuditEntry> {
        let is_over = match (self.begin, now) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(begin), Some(now)) => now.duration_since(begin) >= WINDOW,
        };
        if !is_over {
            return Vec::new();
        }
        let ended = std::mem::take(self);
        let repeated = ended.kinds.into_values().filter(|repeated| repeated.count > 0);
        repeated.map(|r| AuditEntry { count: Some(r.count), ..r.last }).collect()
    }
}
