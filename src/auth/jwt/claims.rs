//! The caller that the claims of a verified token describe.

use std::time::Duration;

use serde_json::{Map, Value};

use super::config::JwtIssuerConfig;
use crate::auth::names::check_name;
use crate::auth::{AuthError, Caller};
use crate::model::{Principal, Scope, Scopes, Tenant, Timestamp};

/// The tenant of the callers with the token of the server.
const LOCAL: &str = "local";

/// The latest time that a claim can have: a while before the year 10000, so that leeway can be added.
const SECONDS_MAX: f64 = 253_402_300_000.0;

/// The reason why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A token that is valid, except that its time is over.
    Expired,
    /// A token that is not valid. The reason is for the operator's log, never for the caller.
    Invalid(&'static str),
}

impl From<Refusal> for AuthError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Expired => Self::Expired,
            Refusal::Invalid(_) => Self::Invalid,
        }
    }
}

/// The longest name of a caller, in bytes: that of `sub` in OpenID Connect.
const SUBJECT_BYTES_MAX: usize = 255;

/// Returns whether a text can be the name of a caller. Providers have names such as `auth0|5f7c` and
/// `system:serviceaccount:default:shop`.
fn is_subject(name: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The claims of a token whose signature is right.
pub(super) struct Claims<'a> {
    pub(super) claims: &'a Map<String, Value>,
    pub(super) config: &'a JwtIssuerConfig,
}

impl Claims<'_> {
    /// Returns the caller, unless the time of the token has not come or is over.
    pub(super) fn caller(&self, now: Timestamp) -> Result<Caller, Refusal> {
        let leeway = self.config.leeway();
        let Some(expire_time) = self.time("exp", "exp is not a time")? else {
            return Err(Refusal::Invalid("it has no exp"));
        };
        self.check_begin(now, leeway)?;
        if self.claims.contains_key("cnf") || self.claims.contains_key("events") {
            return Err(Refusal::Invalid("it is bound to a key, or describes an event"));
        }
        let tenant = self.tenant()?;
        let name = self.text(&self.config.name_claim).ok_or(Refusal::Invalid("it has no name"))?;
        if !is_subject(name) {
            return Err(Refusal::Invalid("its name is too long, or has other characters"));
        }
        let principal =
            Principal { tenant: Tenant::new(tenant), name: name.into(), scopes: self.scopes() };
        let expire_time = expire_time.saturating_add(leeway);
        // Last, as only a token that is valid otherwise has expired.
        if expire_time <= now {
            return Err(Refusal::Expired);
        }
        Ok(Caller {
            principal,
            credential_id: None,
            expire_time: Some(expire_time),
            // Nothing revokes a token before it expires.
            ended: None,
        })
    }

    /// Refuses a token that is for later, or comes from a clock that is ahead.
    fn check_begin(&self, now: Timestamp, leeway: Duration) -> Result<(), Refusal> {
        let latest = now.saturating_add(leeway);
        if self.time("nbf", "nbf is not a time")?.is_some_and(|time| time > latest) {
            return Err(Refusal::Invalid("nbf has not come"));
        }
        if self.time("iat", "iat is not a time")?.is_some_and(|time| time > latest) {
            return Err(Refusal::Invalid("iat has not come"));
        }
        Ok(())
    }

    fn tenant(&self) -> Result<&str, Refusal> {
        if let Some(tenant) = &self.config.tenant {
            return Ok(tenant);
        }
        let claim = self.config.tenant_claim.as_deref().and_then(|claim| self.only_text(claim));
        let tenant = claim.ok_or(Refusal::Invalid("it has no tenant"))?;
        if tenant == LOCAL {
            // Whoever registers under this name elsewhere must not get what the operator has.
            return Err(Refusal::Invalid("the tenant local is that of the server's own token"));
        }
        check_name("tenant", tenant)
            .map_err(|_| Refusal::Invalid("its tenant has other characters"))?;
        Ok(tenant)
    }

    /// Returns the scopes of the caller. Those of other services are ignored.
    fn scopes(&self) -> Scopes {
        if let Some(scopes) = &self.config.scopes {
            return scopes.iter().copied().collect();
        }
        let own = |name: &str| {
            let name = name.strip_prefix(self.config.scope_prefix.as_str())?;
            Scope::from_label(name)
        };
        match self.claims.get(self.config.scopes_claim.as_deref().unwrap_or("scope")) {
            Some(Value::String(names)) => names.split(' ').filter_map(own).collect(),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).filter_map(own).collect()
            }
            _ => Scopes::default(),
        }
    }

    /// Returns the text of a claim, which may be the only one of a list, or the only key of an object, as
    /// Keycloak has organizations.
    fn only_text(&self, claim: &str) -> Option<&str> {
        match self.claims.get(claim)? {
            Value::String(text) => Some(text),
            Value::Array(all) => match all.as_slice() {
                [Value::String(text)] => Some(text),
                _ => None,
            },
            Value::Object(all) if all.len() == 1 => all.keys().next().map(String::as_str),
            _ => None,
        }
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// Returns the time in a claim, in seconds since 1970 that may have a fraction.
    fn time(&self, claim: &str, wrong: &'static str) -> Result<Option<Timestamp>, Refusal> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        match value.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "it is within its bounds")]
            Some(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
                Ok(Some(Timestamp::from_micros((seconds * 1e6) as i64)))
            }
            _ => Err(Refusal::Invalid(wrong)),
        }
    }
}
