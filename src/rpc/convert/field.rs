//! Reading and checking the fields of requests.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prost_types::Timestamp as WireTimestamp;

use crate::engine::RequestKey;
use crate::model::limits::{
    ERROR_VIOLATIONS_MAX, LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX, PAGE_SIZE_MAX,
    SPAN_SECONDS_MAX,
};
use crate::model::{CallId, IdError, IdRange, Labels, SessionId, Timestamp, TurnId};

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The path of the field, such as `arguments.env`; empty for the request as a whole.
    pub(crate) field: String,
    pub(crate) reason: ViolationReason,
    pub(crate) description: String,
}

/// The kind of a violation. The names are part of the contract, as `FieldViolation.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViolationReason {
    Required,
    InvalidFormat,
    OutOfRange,
    TooLarge,
    UnknownValue,
    Conflict,
    SchemaMismatch,
}

impl ViolationReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Required => "REQUIRED",
            Self::InvalidFormat => "INVALID_FORMAT",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::TooLarge => "TOO_LARGE",
            Self::UnknownValue => "UNKNOWN_VALUE",
            Self::Conflict => "CONFLICT",
            Self::SchemaMismatch => "SCHEMA_MISMATCH",
        }
    }
}

/// A request with at least one invalid field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct InvalidRequest {
    /// The first violations, as many as an error names.
    pub(crate) violations: Vec<Violation>,
    /// The number of the others.
    pub(crate) more: usize,
}

impl InvalidRequest {
    /// Creates an error about the request as a whole.
    pub(crate) fn whole(reason: ViolationReason, description: String) -> Self {
        Violation { field: "request".into(), reason, description }.into()
    }
}

impl From<Violation> for InvalidRequest {
    fn from(violation: Violation) -> Self {
        Self { violations: vec![violation], more: 0 }
    }
}

/// Reads the fields of a request and collects their violations, so that one error names all of them.
#[derive(Debug, Default)]
pub(crate) struct FieldReader {
    found: InvalidRequest,
}

impl FieldReader {
    /// Adds a violation, or counts it if there are as many as an error names: a request can have a
    /// million.
    pub(crate) fn violation(
        &mut self,
        field: impl fmt::Display,
        reason: ViolationReason,
        description: impl Into<String>,
    ) {
        if self.found.violations.len() >= ERROR_VIOLATIONS_MAX {
            self.found.more += 1;
            return;
        }
        let (field, description) = (field.to_string(), description.into());
        self.found.violations.push(Violation { field, reason, description });
    }

    /// Returns the value if there was no violation.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, InvalidRequest> {
        if self.found.violations.is_empty() { Ok(value) } else { Err(self.found) }
    }

    /// Reads an optional session id.
    pub(crate) fn session_id(&mut self, field: &str, text: &str) -> Option<SessionId> {
        if text.is_empty() {
            return None;
        }
        self.parsed(field, text, str::parse)
    }

    /// Reads a required session id. After a violation the returned id is meaningless.
    pub(crate) fn required_session_id(&mut self, field: &str, text: &str) -> SessionId {
        let parsed = self.parsed(field, text, str::parse);
        parsed.unwrap_or_else(|| SessionId::from_bytes([0; 16]))
    }

    /// Reads the beginning of an id, or every id if it is empty. After a violation the returned range
    /// is meaningless.
    pub(crate) fn ids(
        &mut self,
        field: &str,
        text: &str,
        parse: fn(&str) -> Result<IdRange, IdError>,
    ) -> IdRange {
        if text.is_empty() {
            return IdRange::ALL;
        }
        self.parsed(field, text, parse).unwrap_or(IdRange::ALL)
    }

    /// Reads the required id of a background task.
    pub(crate) fn background_id(&mut self, field: &str, text: &str) -> CallId {
        let parsed = self.parsed(field, text, CallId::parse_background);
        parsed.unwrap_or_else(|| CallId::from_bytes([0; 16]))
    }

    /// Reads the required id of a follow-up, which has the digits of its task's call.
    pub(crate) fn follow_up_id(&mut self, field: &str, text: &str) -> CallId {
        let parsed = self.parsed(field, text, CallId::parse_follow_up);
        parsed.unwrap_or_else(|| CallId::from_bytes([0; 16]))
    }

    /// Reads the required id of a call, in its form as a call or as a background task.
    pub(crate) fn call_id(&mut self, field: &str, text: &str) -> CallId {
        match text.parse() {
            Ok(id) => id,
            Err(_) => self.background_id(field, text),
        }
    }

    /// Reads an optional turn id.
    pub(crate) fn turn_id(&mut self, field: &str, text: &str) -> Option<TurnId> {
        if text.is_empty() {
            return None;
        }
        self.parsed(field, text, str::parse)
    }

    fn parsed<T>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, IdError>,
    ) -> Option<T> {
        if text.is_empty() {
            self.violation(field, ViolationReason::Required, "is required");
            return None;
        }
        let invalid = |error: IdError| {
            self.violation(field, ViolationReason::InvalidFormat, error.to_string());
        };
        parse(text).map_err(invalid).ok()
    }

    /// Reads a required text.
    pub(crate) fn required(&mut self, field: &str, text: String) -> String {
        if text.is_empty() {
            self.violation(field, ViolationReason::Required, "is required");
        }
        text
    }

    /// Reads a text of at most `bytes_max` bytes.
    pub(crate) fn text(&mut self, field: &str, text: String, bytes_max: usize) -> String {
        if text.len() > bytes_max {
            let size = text.len();
            let description = format!("must be at most {bytes_max} bytes, but has {size}");
            self.violation(field, ViolationReason::TooLarge, description);
        }
        text
    }

    /// Reads labels, with checks of their number and sizes.
    pub(crate) fn labels(&mut self, field: &str, labels: BTreeMap<String, String>) -> Labels {
        if labels.len() > LABELS_MAX {
            let count = labels.len();
            let description = format!("must have at most {LABELS_MAX} labels, but has {count}");
            self.violation(field, ViolationReason::TooLarge, description);
        }
        for (key, value) in labels.iter().take(LABELS_MAX) {
            if key.is_empty() || key.len() > LABEL_KEY_BYTES_MAX {
                let shown: String = key.chars().take(20).collect();
                let path = format!("{field}[{shown}]");
                let description = format!("a key must have 1 to {LABEL_KEY_BYTES_MAX} bytes");
                self.violation(&path, ViolationReason::OutOfRange, description);
            }
            if value.len() > LABEL_VALUE_BYTES_MAX {
                let shown: String = key.chars().take(20).collect();
                let path = format!("{field}[{shown}]");
                let description = format!("must be at most {LABEL_VALUE_BYTES_MAX} bytes");
                self.violation(&path, ViolationReason::TooLarge, description);
            }
        }
        labels
    }

    /// Reads a duration of zero or more.
    pub(crate) fn span(
        &mut self,
        field: &str,
        span: Option<prost_types::Duration>,
    ) -> Option<Duration> {
        let Some(span) = exact_span(span?) else {
            self.violation(
                field,
                ViolationReason::OutOfRange,
                "must be a duration of zero or more, with nanos below 1,000,000,000",
            );
            return None;
        };
        if span.as_secs() > SPAN_SECONDS_MAX {
            let description = format!("must be at most {SPAN_SECONDS_MAX} s");
            self.violation(field, ViolationReason::OutOfRange, description);
            return None;
        }
        Some(span)
    }

    /// Reads a duration of more than zero.
    pub(crate) fn positive_span(
        &mut self,
        field: &str,
        span: Option<prost_types::Duration>,
    ) -> Option<Duration> {
        let span = self.span(field, span)?;
        if span.is_zero() {
            self.violation(field, ViolationReason::OutOfRange, "must be more than zero");
        }
        Some(span)
    }

    /// Reads the time to wait, or the default if it is unset. A value out of bounds is clamped.
    pub(crate) fn wait(
        wait: Option<prost_types::Duration>,
        default_seconds: u64,
        seconds_max: u64,
    ) -> Duration {
        let max = Duration::from_secs(seconds_max);
        match wait {
            None => Duration::from_secs(default_seconds),
            Some(wait) if wait.seconds < 0 || wait.nanos < 0 => Duration::ZERO,
            Some(wait) => exact_span(wait).unwrap_or(max).min(max),
        }
    }

    /// Reads a point in time.
    pub(crate) fn time(&mut self, field: &str, time: Option<WireTimestamp>) -> Option<Timestamp> {
        let time = time?;
        if !(0..1_000_000_000).contains(&time.nanos) {
            let description = "nanos must be from 0 to 999,999,999";
            self.violation(field, ViolationReason::OutOfRange, description);
            return None;
        }
        let micros = time.seconds.checked_mul(1_000_000);
        let micros = micros.and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1_000));
        if micros.is_none() {
            self.violation(field, ViolationReason::OutOfRange, "is too far from now");
        }
        micros.map(Timestamp::from_micros)
    }

    /// Reads a number of zero or more.
    pub(crate) fn unsigned(&mut self, field: &str, number: i64) -> u64 {
        u64::try_from(number).unwrap_or_else(|_| {
            self.violation(field, ViolationReason::OutOfRange, "must be zero or more");
            0
        })
    }

    /// Reads the size of a page: `default` for 0, clamped to the maximum.
    pub(crate) fn page_size(&mut self, field: &str, size: i32, default: u32) -> u32 {
        match self.unsigned(field, size.into()) {
            0 => default,
            size => u32::try_from(size).unwrap_or(u32::MAX).min(PAGE_SIZE_MAX),
        }
    }

    /// Reads the optional id of a request, a UUID.
    pub(crate) fn request_id(
        &mut self,
        field: &str,
        id: String,
        fingerprint: Fingerprint,
    ) -> Option<RequestKey> {
        if id.is_empty() {
            return None;
        }
        if uuid::Uuid::try_parse(&id).is_err() {
            let description = "must be a UUID, or empty";
            self.violation(field, ViolationReason::InvalidFormat, description);
        }
        Some(RequestKey { id, fingerprint: fingerprint.0 })
    }

    /// Reads the values of a filter, each of which must be set and known, and removes duplicates.
    pub(crate) fn all_known<E, T>(
        &mut self,
        field: &str,
        mut numbers: Vec<i32>,
        pick: fn(E) -> Option<T>,
    ) -> Vec<T>
    where
        E: TryFrom<i32>,
    {
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|number| self.known(field, number, pick)).collect()
    }

    /// Reads a value of an enum that must be set and known, as in a filter.
    fn known<E, T>(&mut self, field: &str, number: i32, pick: fn(E) -> Option<T>) -> Option<T>
    where
        E: TryFrom<i32>,
    {
        let value = E::try_from(number).ok().and_then(pick);
        if value.is_none() {
            let description = format!("{number} is not a value that can be used here");
            self.violation(field, ViolationReason::UnknownValue, description);
        }
        value
    }

    /// Reads a value of an enum. An unknown number is a violation.
    pub(crate) fn choice<E: TryFrom<i32> + Default>(&mut self, field: &str, number: i32) -> E {
        E::try_from(number).unwrap_or_else(|_| {
            let description = format!("{number} is not one of the values of this enum");
            self.violation(field, ViolationReason::UnknownValue, description);
            E::default()
        })
    }
}

/// Returns the duration, or `None` if it is negative or malformed.
fn exact_span(span: prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(span.seconds).ok()?;
    let nanos = u32::try_from(span.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// A digest of a method and the content of a request without its id.
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Returns the digest of a request from which its id has been removed, or [`Self::none`] if the id
    /// is empty. Maps are encoded in the order of their keys, so equal requests have equal digests.
    pub(crate) fn of(method: &str, request: &impl prost::Message, request_id: &str) -> Self {
        if request_id.is_empty() {
            return Self::none();
        }
        use sha2::Digest as _;
        let mut digest = sha2::Sha256::new();
        digest.update(method.as_bytes());
        digest.update([0]);
        digest.update(request.encode_to_vec());
        Self(digest.finalize().into())
    }

    /// Returns the digest for requests without an id, which are never compared.
    pub(crate) fn none() -> Self {
        Self([0; 32])
    }
}

/// Removes the id from a request and returns it with the digest of the rest.
macro_rules! fingerprint {
    ($method:literal, $request:ident) => {{
        let id = std::mem::take(&mut $request.request_id);
        let digest = $crate::rpc::convert::Fingerprint::of($method, &$request, &id);
        (id, digest)
    }};
}
pub(crate) use fingerprint;
