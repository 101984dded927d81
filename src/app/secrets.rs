//! The secrets of a configuration, which no log and no error shows.

use super::config::{Config, Environment};
use crate::redact::{is_secret, remember};

/// The length from which a value of letters and digits is taken for a secret, whatever its name, in bytes.
const RANDOM_BYTES_MIN: usize = 20;

/// Hides the values of a configuration that are secrets: variables of child processes, keys of models and
/// headers. Those in files are hidden when they are read.
pub(super) fn remember_secrets(config: &Config, environment: &Environment) {
    for tool in &config.tools {
        remember_variables(&tool.set_environment);
        remember_variables(&environment.pick(&tool.environment));
    }
    #[cfg(feature = "mcp")]
    for server in &config.mcp_servers {
        remember_variables(&server.set_environment);
        remember_variables(&environment.pick(&server.environment));
    }
    #[cfg(feature = "acp")]
    for agent in &config.agents {
        remember_variables(&agent.set_environment);
        remember_variables(&environment.pick(&agent.environment));
    }
    #[cfg(feature = "openai")]
    for model in &config.models {
        // A variable that a table names for a key or a header has nothing else.
        environment.pick(model.environment_names()).values().for_each(|value| remember(value));
        for (name, source) in &model.headers {
            if let crate::agent::HeaderSource::Value(value) = source {
                remember_value(name, value);
            }
        }
        for (name, value) in &model.extra_body {
            if let Some(value) = value.as_str() {
                remember_value(name, value);
            }
        }
    }
}

fn remember_variables<'a>(variables: impl IntoIterator<Item = (&'a String, &'a String)>) {
    variables.into_iter().for_each(|(name, value)| remember_value(name, value));
}

/// Hides a value with the name of a secret, and one that looks like a secret.
fn remember_value(name: &str, value: &str) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.~+=".contains(&byte);
    let has = |kind: fn(&u8) -> bool| value.bytes().any(|byte| kind(&byte));
    let is_random = value.len() >= RANDOM_BYTES_MIN
        && value.bytes().all(is_token)
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic);
    if is_secret(name) || is_random {
        remember(value);
    }
}
