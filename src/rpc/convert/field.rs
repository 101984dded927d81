//! Checks of fields: each fault is noted, and the request fails once, with all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_types::Timestamp as WireTimestamp;

use crate::engine::RequestKey;
use crate::model::limits::{
    LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX,
    SPAN_SECONDS_MAX,
};
use crate::model::{CallId, IdError, Labels, SessionId, Timestamp, TurnId};

/// Faults of a request: the path of a field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Invalid(pub(crate) Vec<(String, String)>);

/// Notes the faults of a request while its fields are read.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    faults: Vec<(String, String)>,
}

impl Fields {
    /// Notes a fault.
    pub(crate) fn fault(&mut self, field: &str, description: impl Into<String>) {
        self.faults.push((field.to_owned(), description.into()));
    }

    /// The value, if there was no fault.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Invalid> {
        if self.faults.is_empty() { Ok(value) } else { Err(Invalid(self.faults)) }
    }

    /// A session's id, which may be missing.
    pub(crate) fn session_id(&mut self, field: &str, text: &str) -> Option<SessionId> {
        if text.is_empty() {
            return None;
        }
        self.parsed(field, text.parse())
    }

    /// A session's id that must be there. Any id stands for it when it isn't: the fault is noted.
    pub(crate) fn required_session_id(&mut self, field: &str, text: &str) -> SessionId {
        let parsed = self.parsed(field, text.parse());
        parsed.unwrap_or_else(|| SessionId::from_bytes([0; 16]))
    }

    /// A background task's id that must be there.
    pub(crate) fn background_id(&mut self, field: &str, text: &str) -> CallId {
        let parsed = self.parsed(field, CallId::parse_background(text));
        parsed.unwrap_or_else(|| CallId::from_bytes([0; 16]))
    }

    /// The name of a follow-up that must be there: the id of its task's call.
    pub(crate) fn follow_up_id(&mut self, field: &str, text: &str) -> CallId {
        let parsed = self.parsed(field, CallId::parse_follow_up(text));
        parsed.unwrap_or_else(|| CallId::from_bytes([0; 16]))
    }

    /// A call's id that must be there, as a call or as a background task.
    pub(crate) fn call_id(&mut self, field: &str, text: &str) -> CallId {
        match text.parse() {
            Ok(id) => id,
            Err(_) => self.background_id(field, text),
        }
    }

    /// A turn's id, if one is given.
    pub(crate) fn turn_id(&mut self, field: &str, text: &str) -> Option<TurnId> {
        if text.is_empty() {
            return None;
        }
        self.parsed(field, text.parse())
    }

    fn parsed<T>(&mut self, field: &str, parsed: Result<T, IdError>) -> Option<T> {
        parsed.map_err(|error| self.fault(field, error.to_string())).ok()
    }

    /// A text that must not be empty.
    pub(crate) fn required(&mut self, field: &str, text: String) -> String {
        if text.is_empty() {
            self.fault(field, "must not be empty");
        }
        text
    }

    /// A text of at most so many bytes.
    pub(crate) fn text(&mut self, field: &str, text: String, bytes_max: usize) -> String {
        if text.len() > bytes_max {
            let size = text.len();
            self.fault(field, format!("must be at most {bytes_max} bytes, has {size}"));
        }
        text
    }

    /// Labels: their number and sizes.
    pub(crate) fn labels(&mut self, field: &str, labels: BTreeMap<String, String>) -> Labels {
        if labels.len() > LABELS_MAX {
            let count = labels.len();
            self.fault(field, format!("must have at most {LABELS_MAX} labels, has {count}"));
        }
        for (key, value) in labels.iter().take(LABELS_MAX) {
            if key.is_empty() || key.len() > LABEL_KEY_BYTES_MAX {
                let shown: String = key.chars().take(20).collect();
                let path = format!("{field}[{shown}]");
                self.fault(&path, format!("a key must have 1 to {LABEL_KEY_BYTES_MAX} bytes"));
            }
            if value.len() > LABEL_VALUE_BYTES_MAX {
                let shown: String = key.chars().take(20).collect();
                let path = format!("{field}[{shown}]");
                self.fault(&path, format!("must be at most {LABEL_VALUE_BYTES_MAX} bytes"));
            }
        }
        labels
    }

    /// A span of zero or more.
    pub(crate) fn span(
        &mut self,
        field: &str,
        span: Option<prost_types::Duration>,
    ) -> Option<Duration> {
        let Some(span) = exact_span(span?) else {
            self.fault(field, "must be a span of zero or more, with nanos below 1,000,000,000");
            return None;
        };
        if span.as_secs() > SPAN_SECONDS_MAX {
            self.fault(field, format!("must be at most {SPAN_SECONDS_MAX} s"));
            return None;
        }
        Some(span)
    }

    /// A span of more than zero.
    pub(crate) fn positive_span(
        &mut self,
        field: &str,
        span: Option<prost_types::Duration>,
    ) -> Option<Duration> {
        let span = self.span(field, span)?;
        if span.is_zero() {
            self.fault(field, "must be more than zero");
        }
        Some(span)
    }

    /// How long to wait: the default where nothing is said, clamped rather than refused.
    pub(crate) fn wait(
        wait: Option<prost_types::Duration>,
        default_seconds: u64,
        seconds_max: u64,
    ) -> Duration {
        let max = Duration::from_secs(seconds_max);
        match wait {
            None => Duration::from_secs(default_seconds),
            // What is below zero is clamped as well.
            Some(wait) if wait.seconds < 0 || wait.nanos < 0 => Duration::ZERO,
            Some(wait) => exact_span(wait).unwrap_or(max).min(max),
        }
    }

    /// A moment.
    pub(crate) fn time(&mut self, field: &str, time: Option<WireTimestamp>) -> Option<Timestamp> {
        let time = time?;
        if !(0..1_000_000_000).contains(&time.nanos) {
            self.fault(field, "nanos must be from 0 to 999,999,999");
            return None;
        }
        let micros = time.seconds.checked_mul(1_000_000);
        let micros = micros.and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1_000));
        if micros.is_none() {
            self.fault(field, "is too far from now");
        }
        micros.map(Timestamp::from_micros)
    }

    /// A number of zero or more.
    pub(crate) fn unsigned(&mut self, field: &str, number: i64) -> u64 {
        u64::try_from(number).unwrap_or_else(|_| {
            self.fault(field, "must be zero or more");
            0
        })
    }

    /// The size of a page: a default for 0, and a maximum that more is clamped to.
    pub(crate) fn page_size(&mut self, field: &str, size: i32) -> u32 {
        match self.unsigned(field, size.into()) {
            0 => PAGE_SIZE_DEFAULT,
            size => u32::try_from(size).unwrap_or(u32::MAX).min(PAGE_SIZE_MAX),
        }
    }

    /// A request's id: a UUID, or nothing.
    pub(crate) fn request_id(
        &mut self,
        id: String,
        fingerprint: Fingerprint,
    ) -> Option<RequestKey> {
        if id.is_empty() {
            return None;
        }
        if uuid::Uuid::try_parse(&id).is_err() {
            self.fault("request_id", "must be a UUID, or empty");
        }
        Some(RequestKey { id, fingerprint: fingerprint.0 })
    }

    /// An enum's value that must be one that is known and set, as a filter's must.
    pub(crate) fn known<E, T>(
        &mut self,
        field: &str,
        number: i32,
        pick: fn(E) -> Option<T>,
    ) -> Option<T>
    where
        E: TryFrom<i32>,
    {
        let value = E::try_from(number).ok().and_then(pick);
        if value.is_none() {
            self.fault(field, format!("{number} is not a value that can be asked for"));
        }
        value
    }

    /// An enum's value; an unknown number is a fault, and counts as not set.
    pub(crate) fn choice<E: TryFrom<i32> + Default>(&mut self, field: &str, number: i32) -> E {
        E::try_from(number).unwrap_or_else(|_| {
            self.fault(field, format!("{number} is not one of the values of this enum"));
            E::default()
        })
    }
}

/// The span that a message stands for, if it stands for one of zero or more.
fn exact_span(span: prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(span.seconds).ok()?;
    let nanos = u32::try_from(span.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// A digest of a method and a request's content, its id aside.
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The digest of this request, whose id must have been taken out. Maps are encoded in the order
    /// of their keys, so equal requests have equal digests.
    pub(crate) fn of(method: &str, request: &impl prost::Message) -> Self {
        use sha2::Digest as _;
        let mut digest = sha2::Sha256::new();
        digest.update(method.as_bytes());
        digest.update([0]);
        digest.update(request.encode_to_vec());
        Self(digest.finalize().into())
    }

    /// No digest: the request has no id that it could be compared under.
    pub(crate) fn none() -> Self {
        Self([0; 32])
    }
}

/// Takes the id out of a request and digests the rest.
macro_rules! fingerprint {
    ($method:literal, $request:ident) => {{
        let id = std::mem::take(&mut $request.request_id);
        let digest = if id.is_empty() {
            $crate::rpc::convert::Fingerprint::none()
        } else {
            $crate::rpc::convert::Fingerprint::of($method, &$request)
        };
        (id, digest)
    }};
}
pub(crate) use fingerprint;
