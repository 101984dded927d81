//! The audit log of a server.

use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::error::Error;
use crate::audit::{AuditAction, AuditEntry, AuditFileOptions, AuditLog, AuditOptions};
use crate::auth::keys::{KeyChange, KeyObserver, KeyRecord};
use crate::engine::Clock;
use crate::model::Timestamp;
use crate::telemetry::Metrics;

/// The time before the last line of an earlier server from which on changes of keys have lines: it may not
/// have seen them before it ended.
const UNSEEN_BEFORE_END: Duration = Duration::from_secs(10);

/// Opens the audit log, or returns `None` if the configuration names none.
pub(super) fn open_audit_log(
    config: &Config,
    metrics: &Metrics,
    clock: &Arc<dyn Clock>,
) -> Result<Option<AuditLog>, Error> {
    let Some(path) = config.audit_file.clone() else { return Ok(None) };
    let (bytes_max, files_max) = (config.audit_bytes_max.as_usize() as u64, config.audit_files);
    let clock = clock.clone();
    let options = AuditOptions {
        files: AuditFileOptions { path, bytes_max, files_max },
        metrics: metrics.clone(),
        now: Arc::new(move || clock.now()),
    };
    Ok(Some(AuditLog::open(options)?))
}

/// Returns a function that writes a line about each change of a key, and the time from which on there are
/// none, or `None` if the log begins.
pub(super) fn key_observer(
    log: &AuditLog,
    clock: &Arc<dyn Clock>,
) -> (KeyObserver, Option<Timestamp>) {
    let micros = i64::try_from(UNSEEN_BEFORE_END.as_micros()).unwrap_or(i64::MAX);
    let since =
        log.last_time().map(|time| Timestamp::from_micros(time.as_micros().saturating_sub(micros)));
    let (log, clock) = (log.clone(), clock.clone());
    let observer = move |change, record: &KeyRecord| {
        let action = match change {
            KeyChange::Added => AuditAction::KeyAdded,
            KeyChange::Revoked => AuditAction::KeyRevoked,
            KeyChange::Changed => AuditAction::KeyChanged,
            KeyChange::Removed => AuditAction::KeyRemoved,
        };
        log.record(AuditEntry {
            tenant: Some(record.tenant.to_string()),
            name: Some(record.name.clone()),
            id: Some(record.id.to_string()),
            ..AuditEntry::new(action, clock.now())
        });
    };
    (Arc::new(observer), since)
}
