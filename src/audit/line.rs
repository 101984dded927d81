//! One line of the audit log, and its place in the chain.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::Timestamp;

/// The hash before the first line of a log.
pub(super) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The text between the rest of a line and its hash.
const HASH_KEY: &[u8] = br#","hash":""#;

/// The end of every line.
const END: &[u8] = br#""}"#;

/// The beginning of every line.
pub(super) const BEGIN: &[u8] = br#"{"sequence":"#;

/// The thing that was done, or tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditAction {
    /// A call, a task, a turn or a session was started.
    Start,
    /// A task or a turn was cancelled.
    Cancel,
    /// A task was deleted.
    Delete,
    /// A session was closed.
    Close,
    /// A session was changed.
    Update,
    /// Credentials were refused.
    Refused,
    /// An API key was added.
    KeyAdded,
    /// An API key was revoked.
    KeyRevoked,
    /// An API key was changed in another way, such as its scopes.
    KeyChanged,
    /// An API key was taken out of its file.
    KeyRemoved,
    /// Lines could not be written. Their number is the count.
    Lost,
    /// The end of the log was damaged, as by a crash. The number of damaged bytes is the count.
    Repaired,
}

/// An entry of the audit log, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The time.
    pub time: Timestamp,
    /// The tenant of the caller, or of the key that was changed.
    pub tenant: Option<String>,
    /// The name of the caller, or of the key that was changed.
    pub name: Option<String>,
    /// The public id of the credentials. Of refused ones, the id that they claim to have.
    pub credential_id: Option<String>,
    /// The thing that was done, or tried.
    pub action: AuditAction,
    /// The RPC, as `package.Service/Method`.
    pub method: Option<String>,
    /// The id of the call, the task, the turn, the session or the key.
    pub id: Option<String>,
    /// `OK`, or the name of the status code.
    pub outcome: &'static str,
    /// The reason of the error.
    pub reason: Option<String>,
    /// The id of the request.
    pub request_id: Option<String>,
    /// The peer of the connection.
    pub peer: Option<String>,
    /// The number of occurrences that the line stands for, if it is not one.
    pub count: Option<u64>,
}

impl AuditEntry {
    /// Creates the entry of an action that succeeded, about which nothing else is known.
    pub fn new(action: AuditAction, time: Timestamp) -> Self {
        Self {
            time,
            tenant: None,
            name: None,
            credential_id: None,
            action,
            method: None,
            id: None,
            outcome: "OK",
            reason: None,
            request_id: None,
            peer: None,
            count: None,
        }
    }
}

/// A line as it is written, without its hash.
#[derive(Serialize)]
struct Line<'a> {
    sequence: u64,
    time: String,
    tenant: Option<&'a str>,
    name: Option<&'a str>,
    credential_id: Option<&'a str>,
    action: AuditAction,
    method: Option<&'a str>,
    id: Option<&'a str>,
    outcome: &'a str,
    reason: Option<&'a str>,
    request_id: Option<&'a str>,
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    previous_hash: &'a str,
}

/// A line that was read, as far as the chain needs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ReadLine {
    pub(super) sequence: u64,
    pub(super) time: jiff::Timestamp,
    pub(super) action: AuditAction,
    pub(super) count: Option<u64>,
    pub(super) previous_hash: String,
    pub(super) hash: String,
}

/// The reason why bytes are not a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineError {
    /// They are not one line of an audit log.
    NotALine,
    /// They are, and another hash follows from them.
    WrongHash,
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChainEnd {
    pub(super) sequence: u64,
    pub(super) hash: String,
}

impl Default for ChainEnd {
    fn default() -> Self {
        Self { sequence: 0, hash: NO_HASH.to_owned() }
    }
}

impl ChainEnd {
    /// Returns the next line, without a newline, and the end of the chain with it.
    pub(super) fn next(&self, entry: &AuditEntry) -> serde_json::Result<(Vec<u8>, Self)> {
        let sequence = self.sequence.saturating_add(1);
        let time = jiff::Timestamp::from_microsecond(entry.time.as_micros()).unwrap_or_default();
        let mut line = serde_json::to_vec(&Line {
            sequence,
            time: time.to_string(),
            tenant: entry.tenant.as_deref(),
            name: entry.name.as_deref(),
            credential_id: entry.credential_id.as_deref(),
            action: entry.action,
            method: entry.method.as_deref(),
            id: entry.id.as_deref(),
            outcome: entry.outcome,
            reason: entry.reason.as_deref(),
            request_id: entry.request_id.as_deref(),
            peer: entry.peer.as_deref(),
            count: entry.count,
            previous_hash: &self.hash,
        })?;
        // The brace stands behind the hash.
        line.pop();
        let hash = hash(&line);
        line.extend_from_slice(HASH_KEY);
        line.extend_from_slice(hash.as_bytes());
        line.extend_from_slice(END);
        Ok((line, Self { sequence, hash }))
    }
}

/// Reads a line, without its newline, and checks its own hash.
pub(super) fn parse(bytes: &[u8]) -> Result<ReadLine, LineError> {
    let line: ReadLine = serde_json::from_slice(bytes).map_err(|_| LineError::NotALine)?;
    let rest = bytes
        .strip_suffix(END)
        .and_then(|rest| rest.strip_suffix(line.hash.as_bytes()))
        .and_then(|rest| rest.strip_suffix(HASH_KEY))
        .ok_or(LineError::NotALine)?;
    if !bytes.starts_with(BEGIN) {
        return Err(LineError::NotALine);
    }
    if hash(rest) == line.hash { Ok(line) } else { Err(LineError::WrongHash) }
}

fn hash(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(NO_HASH.len());
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}
