//! A key, as the file has it in a line.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::api_key::{KeyHash, KeyId};
use crate::auth::names::check_name;
use crate::model::{Scope, Scopes, Tenant, Timestamp};

/// A key, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The id of the key.
    pub id: KeyId,
    /// The hash of the text of the key.
    pub(super) hash: KeyHash,
    /// The tenant of the key's callers.
    pub tenant: Tenant,
    /// The name of the key's callers, for records such as "cancelled by".
    pub name: String,
    /// The scopes of the key's callers.
    pub scopes: Scopes,
    /// The time at which the key was created.
    pub create_time: Timestamp,
    /// The time from which the key is refused, or `None` if it does not expire.
    pub expire_time: Option<Timestamp>,
    /// The time at which the key was revoked, or `None` if it was not.
    pub revoke_time: Option<Timestamp>,
}

/// A key that was just created, with the text that is shown once and not kept.
pub struct NewKey {
    /// The key, as it is kept.
    pub record: KeyRecord,
    /// The text that callers send: the id, and a secret of 256 random bits.
    pub text: SecretString,
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// The key is accepted.
    Active,
    /// The time of the key is over.
    Expired,
    /// The key was revoked.
    Revoked,
}

impl KeyState {
    /// Returns the state as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl KeyRecord {
    /// Returns the state of the key at a time.
    pub fn state(&self, now: Timestamp) -> KeyState {
        match (self.revoke_time, self.expire_time) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(expire_time)) if expire_time <= now => KeyState::Expired,
            (None, _) => KeyState::Active,
        }
    }

    /// Takes over the end of another record of the same key, if it is an earlier one.
    pub(super) fn restrict(&mut self, other: Self) {
        let earlier = |one: Option<Timestamp>, other| one.into_iter().chain(other).min();
        self.revoke_time = earlier(self.revoke_time, other.revoke_time);
        self.expire_time = earlier(self.expire_time, other.expire_time);
    }

    /// Returns `None` if a line has another key, `Some(None)` if its key was revoked before, and otherwise
    /// the line with its key revoked. Fields of a later version stay.
    pub(super) fn revoke_line(line: &[u8], id: &KeyId, now: Timestamp) -> Option<Option<String>> {
        let mut document: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(line).ok()?;
        if document.get("id")?.as_str()? != id.as_str() {
            return None;
        }
        if document.get("revoke_time").is_some_and(|time| !time.is_null()) {
            return Some(None);
        }
        let time = jiff::Timestamp::from_microsecond(now.as_micros()).unwrap_or_default();
        document.insert("revoke_time".into(), time.to_string().into());
        Some(serde_json::to_string(&document).ok())
    }

    /// Returns the line of the file.
    ///
    /// # Errors
    ///
    /// A time is beyond the year 9999.
    pub(super) fn to_line(&self) -> Result<String, String> {
        let time = |time: Timestamp| {
            let time = jiff::Timestamp::from_microsecond(time.as_micros());
            time.map_err(|error| error.to_string())
        };
        let line = Line {
            id: self.id.to_string(),
            sha256: self.hash.to_string(),
            tenant: self.tenant.as_str().to_owned(),
            name: self.name.clone(),
            scopes: self.scopes.iter().map(|scope| scope.to_string()).collect(),
            create_time: time(self.create_time)?,
            expire_time: self.expire_time.map(time).transpose()?,
            revoke_time: self.revoke_time.map(time).transpose()?,
        };
        serde_json::to_string(&line).map_err(|error| error.to_string())
    }

    /// Returns the key of a line of the file.
    ///
    /// # Errors
    ///
    /// The line is not that of a key. The error says why.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let time = |time: jiff::Timestamp| Timestamp::from_micros(time.as_microsecond());
        let scopes = line.scopes.iter().map(|scope| scope.parse::<Scope>());
        check_name("tenant", &line.tenant)?;
        check_name("name", &line.name)?;
        Ok(Self {
            id: line.id.parse().map_err(|error: super::KeyIdError| error.to_string())?,
            hash: KeyHash::parse(&line.sha256).ok_or("`sha256` is not 32 bytes in base64")?,
            tenant: Tenant::new(&line.tenant),
            name: line.name,
            scopes: scopes.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
            create_time: time(line.create_time),
            expire_time: line.expire_time.map(time),
            revoke_time: line.revoke_time.map(time),
        })
    }
}

/// A key in JSON. A field that is unknown may be a restriction of a later version, so the key is not accepted.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    sha256: String,
    tenant: String,
    name: String,
    scopes: Vec<String>,
    create_time: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expire_time: Option<jiff::Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoke_time: Option<jiff::Timestamp>,
}
