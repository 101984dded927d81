//! The configuration of the limits.

use serde::{Deserialize, Serialize};

use crate::model::Pattern;

/// The longest name of a tenant, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The longest time that a rate may take for a burst, in seconds.
const BURST_SECONDS_MAX: f64 = 1e9;

/// The least and the greatest rate, in requests per second.
const RATES: [f64; 2] = [0.001, 1e6];

/// One `[[tenant_limits]]` table: the limits of a tenant, or of each tenant whose name matches. A limit that
/// is left out does not apply.
///
/// ```toml
/// [[tenant_limits]]
/// name = "acme"                  # or a pattern such as "trial-*"; "*" matches every name
/// starts_per_second = 5.0
/// starts_burst = 20
/// requests_per_second = 100.0
/// max_live_calls = 50
/// max_running_calls = 20
/// max_open_sessions = 200
/// max_streams = 20
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantLimits {
    /// The name of the tenant, or a pattern in which `*` stands for any text. The first table that matches
    /// a tenant is its own.
    pub name: Pattern,
    /// The requests per second that start something: those that require the scope `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_per_second: Option<f64>,
    /// The number of such requests that may come at once. Default: those of one second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_burst: Option<u32>,
    /// All other requests per second: reads, waits, cancels and follow-ups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// The number of such requests that may come at once. Default: those of one second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_burst: Option<u32>,
    /// The calls and turns that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_live_calls: Option<u32>,
    /// The calls of tools that run, or wait for a place on the server. Turns and agents are not among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running_calls: Option<u32>,
    /// The open sessions that CreateSession has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_open_sessions: Option<u32>,
    /// The streams that are open. A quarter of them is kept for those that start nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_streams: Option<u32>,
}

impl TenantLimits {
    /// Returns limits without any limit.
    pub fn unlimited(name: &str) -> Self {
        Self {
            name: Pattern::new(name),
            starts_per_second: None,
            starts_burst: None,
            requests_per_second: None,
            requests_burst: None,
            max_live_calls: None,
            max_running_calls: None,
            max_open_sessions: None,
            max_streams: None,
        }
    }

    /// Validates the values that the types don't constrain.
    ///
    /// # Errors
    ///
    /// Fails with a description of the first invalid value.
    pub fn check(&self) -> Result<(), String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@*".contains(&byte);
        let name = self.name.as_str();
        let has_size = (1..=NAME_BYTES_MAX).contains(&name.len());
        if !has_size || !name.bytes().all(is_plain) {
            return Err(format!(
                "name must be that of a tenant, or a pattern with `*`: 1 to {NAME_BYTES_MAX} letters of \
                 ASCII, digits, or . _ - @ *"
            ));
        }
        rate("starts", self.starts_per_second, self.starts_burst)?;
        rate("requests", self.requests_per_second, self.requests_burst)?;
        let counts = [
            ("max_live_calls", self.max_live_calls),
            ("max_running_calls", self.max_running_calls),
            ("max_open_sessions", self.max_open_sessions),
            ("max_streams", self.max_streams),
        ];
        match counts.iter().find(|(_, count)| *count == Some(0)) {
            Some((key, _)) => Err(format!("{key} must be at least 1: leave it out for no limit")),
            None => Ok(()),
        }
    }

    /// Returns whether the table is for a tenant of this name, or for others.
    pub(super) fn matches(&self, tenant: &str) -> bool {
        self.name.matches(tenant)
    }
}

fn rate(what: &str, per_second: Option<f64>, burst: Option<u32>) -> Result<(), String> {
    let [least, greatest] = RATES;
    match (per_second, burst) {
        (Some(rate), _) if !(least..=greatest).contains(&rate) => {
            Err(format!("{what}_per_second must be from {least} to {greatest}"))
        }
        (Some(rate), Some(burst)) if f64::from(burst) / rate > BURST_SECONDS_MAX => Err(format!(
            "{what}_burst must be smaller, or {what}_per_second larger: at that rate it takes more than 30 \
             years until the burst is there again"
        )),
        (Some(_), Some(0)) => Err(format!("{what}_burst must be at least 1")),
        (None, Some(_)) => Err(format!("{what}_burst needs {what}_per_second")),
        (Some(_) | None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_named() {
        let with = |change: fn(&mut TenantLimits)| {
            let mut limits = TenantLimits::unlimited("acme");
            change(&mut limits);
            limits.check().err().unwrap_or_default()
        };
        assert_eq!(with(|limits| limits.starts_per_second = Some(0.5)), "");
        assert!(with(|limits| limits.name = Pattern::new("a b")).starts_with("name must"));
        assert!(with(|limits| limits.starts_per_second = Some(f64::NAN)).contains("from 0.001"));
        assert!(with(|limits| limits.requests_per_second = Some(0.0)).contains("requests_per"));
        assert!(with(|limits| limits.starts_burst = Some(3)).contains("needs starts_per_second"));
        assert!(with(|limits| limits.max_streams = Some(0)).contains("max_streams must"));
    }
}
