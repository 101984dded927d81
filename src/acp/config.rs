//! How an agent is written down in the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exec::ChildProcessConfig;
use crate::model::span;
use crate::tool::PROVIDER_SEPARATOR;

/// An agent's name, in bytes: there must be room for the kinds of its tools.
const NAME_BYTES_MAX: usize = 30;

/// How long an agent may take to be there when nobody says.
const START_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// How long an agent's process is kept without a turn when nobody says.
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// Processes of one agent at the same time when nobody says.
const PROCESSES_DEFAULT: usize = 32;
/// The most that may be said.
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
    /// The name that sessions call it by, with which those of its tools begin: 1 to 30 of
    /// `a-z A-Z 0-9 _ - .`, without `__`.
    pub name: String,
    /// The program that is the agent, and its arguments.
    pub argv: Vec<String>,
    /// The variables of callpark's that the process sees. No others.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Variables with values of their own; they win over those of callpark.
    #[serde(default)]
    pub set_environment: BTreeMap<String, String>,
    /// Where the process runs, and where it works when its session doesn't say. Default: where
    /// callpark does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
    /// What it is answered when it asks whether it may use a tool of its own. Default: `allow`.
    #[serde(default)]
    pub permissions: Permissions,
    /// How long it may take from its start until it can be asked. Default: 1 min.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Duration>,
    /// How long its process is kept between two turns of a session. Default: 15 min.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// How many of its processes there may be at the same time, 1 to 10000: one more ends the one
    /// that has been idle the longest. Default: 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_processes: Option<usize>,
}

/// What an agent is answered when it asks whether it may use a tool of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permissions {
    /// It may, where its session allows the tool.
    #[default]
    Allow,
    /// It may not.
    Reject,
}

impl AgentConfig {
    /// Checks what the types don't.
    ///
    /// # Errors
    /// The first thing that can't be right, and what would be.
    pub fn check(&self) -> Result<(), String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let name = &self.name;
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain);
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

    /// Returns the process that the agent is.
    pub(super) fn process(&self) -> ChildProcessConfig {
        ChildProcessConfig {
            argv: self.argv.clone(),
            environment: self.environment.clone(),
            set_environment: self.set_environment.clone(),
            working_directory: self.working_directory.clone(),
        }
    }

    /// How long it may take to be there.
    pub(super) fn start_timeout(&self) -> Duration {
        self.start_timeout.unwrap_or(START_TIMEOUT_DEFAULT)
    }

    /// How long its process is kept without a turn.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.idle_timeout.unwrap_or(IDLE_TIMEOUT_DEFAULT)
    }

    /// How many of its processes there may be.
    pub(super) fn max_processes(&self) -> usize {
        self.max_processes.unwrap_or(PROCESSES_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(toml: &str) -> String {
        let read: Result<AgentConfig, _> = toml::from_str(toml);
        match read {
            Ok(config) => config.check().err().unwrap_or_default(),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn an_agent_is_a_program() {
        assert_eq!(fault("name = 'copilot'\nargv = ['copilot', '--acp']"), "");
        assert_eq!(
            fault(
                "name = 'a'\nargv = ['x']\npermissions = 'reject'\nstart_timeout = '5s'\n\
                 idle_timeout = '1h'\nmax_processes = 1"
            ),
            ""
        );
    }

    #[test]
    fn what_cannot_be_right_is_told() {
        for (toml, words) in [
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
            assert!(fault(toml).contains(words), "{toml}: {}", fault(toml));
        }
    }
}
