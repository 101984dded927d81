//! What is kept of a key: a line of the file.

use serde::{Deserialize, Serialize};

use super::api_key::{KeyHash, KeyId};
use crate::auth::names::check_name;
use crate::model::{Scope, Scopes, Tenant, Timestamp};

/// A key, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The id of the key.
    pub id: KeyId,
    /// What is kept of the text of the key.
    pub(super) hash: KeyHash,
    /// The tenant of its callers.
    pub tenant: Tenant,
    /// The name of its callers, for records such as "cancelled by".
    pub name: String,
    /// What its callers may do.
    pub scopes: Scopes,
    /// The time at which it was created.
    pub create_time: Timestamp,
    /// The time from which it is refused, or `None` if it does not expire.
    pub expire_time: Option<Timestamp>,
    /// The time at which it was revoked, or `None` if it was not.
    pub revoke_time: Option<Timestamp>,
}

/// Whether a key is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is accepted.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
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
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let time = |time: jiff::Timestamp| Timestamp::from_micros(time.as_microsecond());
        let scopes = line.scopes.iter().map(|scope| scope.parse::<Scope>());
        check_name("tenant", &line.tenant)?;
        check_name("name", &line.name)?;
        Ok(Self {
            id: line.id.parse().map_err(|error: super::KeyIdError| error.to_string())?,
            hash: KeyHash::parse(&line.sha256).ok_or("`sha256` is not one in base64")?,
            tenant: Tenant::new(&line.tenant),
            name: line.name,
            scopes: scopes.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
            create_time: time(line.create_time),
            expire_time: line.expire_time.map(time),
            revoke_time: line.revoke_time.map(time),
        })
    }
}

/// A key in JSON.
#[derive(Serialize, Deserialize)]
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
