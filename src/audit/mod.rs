//! The audit log: a line of JSON for everything that callers start, stop, remove and close, for changes of
//! keys, and for refused credentials.
//!
//! [`AuditLog`] takes entries and never blocks; a thread of its own appends them to a file. Each line has
//! the hash of the one before, through all files that rotation makes, so that [`verify`] finds a line that was
//! changed, removed or put in.

mod error;
mod file;
mod line;
mod log;
mod refusals;
mod tail;
mod verify;

pub use error::AuditError;
pub use file::{AuditFileOptions, audit_files};
pub use line::{AuditAction, AuditEntry};
pub use log::{AuditLog, AuditOptions};
pub use verify::{AuditReport, BrokenChain, verify};

#[cfg(test)]
mod tests;
