//! The configuration of agents.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exec::ChildProcessConfig;
use crate::model::span;
use crate::tool::PROVIDER_SEPARATOR;

/// The length of an agent's name, in bytes. The names of its tools add their kinds to it.
const NAME_BYTES_MAX: usize = 30;

/// The default time limit for the start of a process.
const START_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// The default time for which an idle process is kept.
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// The default number of processes of one agent.
const PROCESSES_DEFAULT: usize = 32;
/// The largest permitted number of processes of one agent.
const PROCESSES_MAX: usize = 10_000;

/// One `[[agents]]` table: a program that speaks the Agent Client Protocol over standard input and
/// output. Each session that names it has a process of its own.
///
/// ```toml
/// [[agents]]
/// name = "copilot"
/// argv = ["copilot", "--acp"]
/// environment = ["PATH", "HOME"]
/// set_environment = { COPILOT_AUTO_UPDATE = "false" }
/// permissions = "allow"
/// idle_timeout = "30m"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The name by which sessions choose the agent, and with which the names of its tools begin: 1 to
    /// 30 characters of `a-z A-Z 0-9 _ - .`, without `__`.
    pub name: String,
    /// The program of the agent, and its arguments.
    pub argv: Vec<String>,
    /// The environment variables of callpark that are passed to the process. No others are.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Additional environment variables. They take precedence over those of callpark.
    #[serde(default)]
    pub set_environment: BTreeMap<String, String>,
    /// The working directory of the process, and of its sessions unless they have one of their own.
    /// Default: that of callpark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
    /// The answer when it asks for permission to use one of its own tools. Default: `allow`.
    #[serde(default)]
    pub permissions: Permissions,
    /// The time limit for the start of a process, including the handshake. Default: 1 min.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Duration>,
    /// The time for which a process is kept without a turn. Default: 15 min.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// The maximum number of its processes, 1 to 10000. One more ends the process that has been idle
    /// for the longest time. Default: 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_processes: Option<usize>,
}

/// The answer to an agent that asks for permission to use one of its own tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permissions {
    /// The agent may use the tools that its session allows.
    #[default]
    Allow,
    /// The agent may use no tool of its own that needs permission.
    Reject,
}

impl AgentConfig {
    /// Validates the values that the types don't constrain.
    ///
    /// # Errors
    ///
    /// Fails with a description of the first invalid value.
    pub fn check(&self) -> Result<(), String> {
        let is_permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let name = &self.name;
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_permitted);
        if !fits || name.contains(PROVIDER_SEPARATOR) || name.ends_with('_') {
            return Err(format!(
                "name must be 1 to {NAME_BYTES_MAX} characters of a-z A-Z 0-9 _ - . without \
                 `{PROVIDER_SEPARATOR}`, and not end with `_`"
            ));
        }
        self.process().check().map_err(|error| error.to_string())?;
        if !(1..=PROCESSES_MAX).contains(&self.max_processes()) {
            return Err(format!("max_processes must be from 1 to {PROCESSES_MAX}"));
        }
        Ok(())
    }

    /// Returns the configuration of the agent's process.
    pub(super) fn process(&self) -> ChildProcessConfig {
        ChildProcessConfig {
            argv: self.argv.clone(),
            environment: self.environment.clone(),
            set_environment: self.set_environment.clone(),
            working_directory: self.working_directory.clone(),
        }
    }

    pub(super) fn start_timeout(&self) -> Duration {
        self.start_timeout.unwrap_or(START_TIMEOUT_DEFAULT)
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.idle_timeout.unwrap_or(IDLE_TIMEOUT_DEFAULT)
    }

    pub(super) fn max_processes(&self) -> usize {
        self.max_processes.unwrap_or(PROCESSES_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(toml: &str) -> String {
        let read: Result<AgentConfig, _> = toml::from_str(toml);
        match read {
            Ok(config) => config.check().err().unwrap_or_default(),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn an_agent_is_a_program() {
        assert_eq!(error("name = 'copilot'\nargv = ['copilot', '--acp']"), "");
        assert_eq!(
            error(
                "name = 'a'\nargv = ['x']\npermissions = 'reject'\nstart_timeout = '5s'\n\
                 idle_timeout = '1h'\nmax_processes = 1"
            ),
            ""
        );
    }

    #[test]
    fn an_invalid_value_is_named() {
        for (toml, text) in [
            ("name = ''\nargv = ['x']", "name must be"),
            ("name = 'a__b'\nargv = ['x']", "name must be"),
            ("name = 'a_'\nargv = ['x']", "not end with `_`"),
            ("name = 'a'", "missing field `argv`"),
            ("name = 'a'\nargv = []", "begin with the program"),
            ("name = 'a'\nargv = ['']", "begin with the program"),
            ("name = 'a'\nargv = [\"a\\u0000\"]", "NUL"),
            ("name = 'a'\nargv = ['x']\npermissions = 'ask'", "unknown variant `ask`"),
            ("name = 'a'\nargv = ['x']\nidle_timeout = 'soon'", "is not a duration"),
            ("name = 'a'\nargv = ['x']\nmax_processes = 0", "from 1 to 10000"),
            ("name = 'a'\nargv = ['x']\ncolour = 1", "unknown field `colour`"),
        ] {
            assert!(error(toml).contains(text), "{toml}: {}", error(toml));
        }
    }
}
