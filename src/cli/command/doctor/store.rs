//! The store: its user, its schema, its integrity and its times.

use std::path::Path;

use super::Finding;
use crate::cli::command::backup::summary;
use crate::engine::{Clock as _, SystemClock};
use crate::store::{BackupError, OpenError, StoreReport, VerifyDepth, inspect_store};

/// The time by which records may be in the future: clocks are set by less.
const FUTURE_TOLERANCE_SECS: u64 = 300;

/// Checks the store in a folder.
pub(super) fn check(folder: &Path) -> Vec<Finding> {
    const CHECK: &str = "store";
    let report = match inspect_store(folder, VerifyDepth::Quick) {
        Ok(report) => report,
        Err(BackupError::Missing { .. }) => {
            return vec![Finding::ok(CHECK, "there is none yet: the server creates it")];
        }
        Err(error @ BackupError::Older { .. }) => {
            return vec![Finding::warning(CHECK, error.to_string(), "")];
        }
        Err(error @ BackupError::Open(OpenError::Newer { .. } | OpenError::Foreign { .. })) => {
            return vec![Finding::problem(CHECK, error.to_string(), "")];
        }
        Err(error) => {
            let remedy = "put a backup back with `callpark restore`";
            return vec![Finding::problem(CHECK, error.to_string(), remedy)];
        }
    };
    let mut findings = vec![use_of(&report), integrity(&report), times(&report)];
    findings.extend(report.discontinuity.map(|cause| {
        Finding::warning(
            "continuity",
            format!("{cause}: its streams get new epochs when the server starts"),
            "nothing, if it was copied or put back; clients start again from the first event",
        )
    }));
    findings
}

fn use_of(report: &StoreReport) -> Finding {
    let path = report.database.display();
    let user = match report.server {
        Some(process) => format!("in use by process {process}"),
        None => "not in use".to_owned(),
    };
    Finding::ok("store", format!("{path}: schema {}, {user}", report.schema))
}

fn integrity(report: &StoreReport) -> Finding {
    const CHECK: &str = "integrity";
    let verification = &report.verification;
    let summary = summary(verification);
    match verification.problems.first() {
        None => Finding::ok(CHECK, summary),
        Some(first) => Finding::problem(
            CHECK,
            format!("{summary}; {first}"),
            "keep a copy (`callpark backup`), and put an older backup back with `callpark restore`; \
             what is not damaged can be read meanwhile",
        ),
    }
}

fn times(report: &StoreReport) -> Finding {
    const CHECK: &str = "times of records";
    let Some(newest) = report.newest_time else { return Finding::ok(CHECK, "there are none") };
    let ahead = newest.since(SystemClock.now()).as_secs();
    match ahead {
        0..=FUTURE_TOLERANCE_SECS => Finding::ok(CHECK, "none is in the future"),
        _ => Finding::problem(
            CHECK,
            format!("the newest record is {ahead} s in the future"),
            "set the clock of the machine: it was ahead when the record was written, or is behind \
             now",
        ),
    }
}
