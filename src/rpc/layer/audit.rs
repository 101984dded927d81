//! The line of a request in the audit log.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use callpark_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderValue};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::audit::{AuditAction, AuditEntry, AuditLog};
use crate::auth::keys::KeyId;
use crate::auth::{Caller, Credentials, Peer};
use crate::model::Timestamp;
use crate::rpc::audited;
use crate::rpc::status::reason_name;
use crate::telemetry::RpcMetrics;

/// The header of an answer with the id of the thing that a forwarded request was about. It is for the replica
/// that has the caller, and does not leave it.
pub(super) const AUDIT_HEADER: &str = "callpark-audit";

/// The value of that header for a request that changed nothing on purpose.
const NOTHING: &str = "-";

/// A request that has a line in the audit log, of which the handler knows the id of its thing.
///
/// Handlers find this in the extensions of the request. A clone is a handle to the same line, which is written once.
#[derive(Clone, Default)]
pub(crate) struct AuditedRequest(Option<Arc<Line>>);

struct Line {
    log: Option<AuditLog>,
    /// The entry, or `None` once it is written.
    entry: Mutex<Option<AuditEntry>>,
    /// The id of the thing, or [`NOTHING`].
    id: OnceLock<String>,
}

impl AuditedRequest {
    /// Returns the line of a request. Without an audit log it does nothing.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Notes the id of the thing that the request is about.
    pub(crate) fn about(&self, id: impl ToString) {
        if let Some(line) = &self.0 {
            line.id.get_or_init(|| id.to_string());
        }
    }

    /// Writes the line: the request has done what it asks for. Its answer may come much later.
    pub(crate) fn done(&self, id: impl ToString) {
        self.about(id);
        self.finish(Code::Ok, || None);
    }

    /// Notes that the request changes nothing, as a dry run. It has no line unless it fails.
    pub(crate) fn changes_nothing(&self) {
        self.about(NOTHING);
    }

    /// Writes the line, unless it is written, with the outcome of the request.
    pub(super) fn finish(&self, code: Code, reason: impl FnOnce() -> Option<String>) {
        let Some(line) = &self.0 else { return };
        let Some(log) = &line.log else { return };
        let entry = line.entry.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(entry) = entry else { return };
        let id = line.id.get().map(String::as_str);
        if id == Some(NOTHING) && code == Code::Ok {
            return;
        }
        let id = id.filter(|id| *id != NOTHING).map(str::to_owned);
        let (outcome, reason) = (RpcMetrics::code_name(code as i32), reason());
        log.record(AuditEntry { id, outcome, reason, ..entry });
    }

    /// Adds the id to the answer to a forwarded request.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let id = self.0.as_ref().and_then(|line| line.id.get());
        if let Some(id) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(AUDIT_HEADER, id);
        }
    }

    /// Takes the id out of the answer of another replica.
    pub(super) fn take_from(&self, headers: &mut HeaderMap) {
        let Some(id) = headers.remove(AUDIT_HEADER) else { return };
        let Ok(id) = id.to_str() else { return };
        self.about(id);
        let is_start = |line: &Line| {
            let entry = line.entry.lock().unwrap_or_else(PoisonError::into_inner);
            entry.as_ref().is_some_and(|entry| entry.action == AuditAction::Start)
        };
        // The head of an answer says that the work has begun, and its end may come much later.
        let has_begun = Status::from_header_map(headers).is_none();
        if has_begun && self.0.as_ref().is_some_and(|line| is_start(line)) {
            self.finish(Code::Ok, || None);
        }
    }
}

/// The properties of a request before it is handled.
pub(super) struct RequestHead<'a> {
    pub(super) method: &'a str,
    pub(super) request_id: &'a HeaderValue,
    pub(super) caller: &'a Caller,
    pub(super) peer: Option<Peer>,
    pub(super) time: Timestamp,
    /// `true` if another replica has forwarded the request, and has its line.
    pub(super) is_forwarded: bool,
}

impl RequestHead<'_> {
    /// Returns the line of the request, or `None` if it has none.
    pub(super) fn begin(&self, log: Option<&AuditLog>) -> Option<AuditedRequest> {
        let action = audited::action(self.method)?;
        let log = log.filter(|_| !self.is_forwarded).cloned();
        if log.is_none() && !self.is_forwarded {
            return None;
        }
        let entry = Mutex::new(log.is_some().then(|| self.entry(action)));
        Some(AuditedRequest(Some(Arc::new(Line { log, entry, id: OnceLock::new() }))))
    }

    /// Writes a line about a request that has no line of its own, and whose caller lacks its scope.
    pub(super) fn refused(&self, log: &AuditLog, status: &Status) {
        let entry = self.entry(AuditAction::Refused);
        let outcome = RpcMetrics::code_name(status.code() as i32);
        log.record_refusal(
            AuditEntry { outcome, reason: reason(status), ..entry },
            &source(self.peer),
        );
    }

    fn entry(&self, action: AuditAction) -> AuditEntry {
        let principal = &self.caller.principal;
        AuditEntry {
            tenant: Some(principal.tenant.to_string()),
            name: Some(principal.name.to_string()),
            credential_id: self.caller.credential_id.as_ref().map(ToString::to_string),
            method: Some(self.method.to_owned()),
            request_id: self.request_id.to_str().ok().map(str::to_owned),
            peer: self.peer.map(|peer| peer.to_string()),
            ..AuditEntry::new(action, self.time)
        }
    }
}

/// Writes a line about credentials that were refused, or counts them in one.
pub(super) fn credentials_refused(
    log: &AuditLog,
    credentials: &Credentials<'_>,
    status: &Status,
    request_id: &HeaderValue,
) {
    // The id is the public part of a key, which says nothing about its secret.
    let claimed = credentials.bearer().and_then(|text| text.parse::<KeyId>().ok());
    let entry = AuditEntry {
        credential_id: claimed.map(|id| id.to_string()),
        outcome: RpcMetrics::code_name(status.code() as i32),
        reason: reason(status),
        request_id: request_id.to_str().ok().map(str::to_owned),
        peer: credentials.peer.map(|peer| peer.to_string()),
        ..AuditEntry::new(AuditAction::Refused, credentials.time)
    };
    log.record_refusal(entry, &source(credentials.peer));
}

/// Returns the source of a request: a machine, or a user of this one.
fn source(peer: Option<Peer>) -> String {
    match peer {
        Some(Peer::Network(address)) => address.ip().to_string(),
        Some(peer @ Peer::Process { .. }) => peer.to_string(),
        None => String::new(),
    }
}

/// Returns the reason of an error.
pub(super) fn reason(status: &Status) -> Option<String> {
    if status.code() == Code::Ok {
        return None;
    }
    status.get_details_error_info().map(|info| info.reason)
}

/// Returns the reason for the end of a request whose caller has gone.
pub(super) fn gone() -> Option<String> {
    Some(reason_name(ErrorReason::Cancelled).to_owned())
}
