//! The configuration of a command tool.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::exec::ChildProcessConfig;
use crate::model::{limits, span};

/// One `[[tools]]` table.
///
/// ```toml
/// [[tools]]
/// name = "grep"
/// description = "Searches files for a regular expression."
/// argv = ["grep", "--recursive", "--max-count={limit}", "--", "{pattern}", "{paths...}"]
/// environment = ["PATH", "LANG"]
/// call_budget = "90s"
/// read_only = true
///
/// [tools.input_schema]
/// type = "object"
/// required = ["pattern", "paths"]
/// additionalProperties = false
///
/// [tools.input_schema.properties]
/// pattern = { type = "string" }
/// paths = { type = "array", items = { type = "string" } }
/// limit = { type = "integer", minimum = 1 }
/// ```
///
/// Templates, in `argv` and `stdin`: `{name}` is the value of an argument, a string as it is and
/// anything else as compact JSON; `{{` and `}}` are braces. An element that names an absent
/// argument is omitted. `{name...}`, alone in an element of `argv`, is one element
/// for each item of an array. There is no shell; put `--` before free text, so that a value can't
/// become an option of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandToolConfig {
    /// The name that calls use: 1 to 64 of `a-z A-Z 0-9 _ - .`.
    pub name: String,
    /// The description, for a model to read.
    #[serde(default)]
    pub description: String,
    /// The program and its arguments, as templates. The program itself has no placeholder.
    pub argv: Vec<String>,
    /// The JSON Schema of its arguments; by default it takes none.
    #[serde(default = "no_arguments")]
    pub input_schema: Value,
    /// The time after which a call is parked: a duration such as `90s` or `10m`, or `never`. Default:
    /// 10 minutes.
    #[serde(default)]
    pub call_budget: CallBudget,
    /// The hard limit of one run, such as `2h`; by default the server's.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub execution_timeout: Option<Duration>,
    /// The variables of the server that it sees. No others.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Variables with values of their own; they win over those of the server.
    #[serde(default)]
    pub set_environment: BTreeMap<String, String>,
    /// The folder in which it runs, relative to the working directory of the session; by default that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
    /// The standard input, as a template; by default empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The names of arguments that are secrets. The program gets their values; events, records, descriptions
    /// and the history of an agent have `[redacted]` in their place. A call of which the value is no longer
    /// there is not run again after a crash of the server. Let `stdin` take them rather than `argv`, which other
    /// programs can see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_arguments: Vec<String>,
    /// `true` if it changes nothing.
    #[serde(default)]
    pub read_only: bool,
    /// `true` if it may destroy data. Default: unless it is `read_only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destructive: Option<bool>,
    /// `true` if running it twice with the same arguments has the effect of one run, so that it may be
    /// run again after a crash of the server.
    #[serde(default)]
    pub idempotent: bool,
    /// `true` if several calls of one session may run at the same time. Default: true.
    #[serde(default = "yes")]
    pub concurrent_safe: bool,
}

impl CommandToolConfig {
    /// Returns the process that a call starts. The elements of its `argv` are templates.
    pub(super) fn process(&self) -> ChildProcessConfig {
        ChildProcessConfig {
            argv: self.argv.clone(),
            environment: self.environment.clone(),
            set_environment: self.set_environment.clone(),
            working_directory: self.working_directory.clone(),
        }
    }
}

/// The time after which a call of a tool is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallBudget {
    /// The budget never ends. The call is parked only for another reason.
    Never,
    /// The call is parked after this time.
    After(Duration),
}

const NEVER: &str = "never";

impl Default for CallBudget {
    fn default() -> Self {
        Self::After(Duration::from_secs(limits::CALL_BUDGET_SECONDS_DEFAULT))
    }
}

impl fmt::Display for CallBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str(NEVER),
            Self::After(span) => humantime::format_duration(*span).fmt(f),
        }
    }
}

impl Serialize for CallBudget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallBudget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == NEVER {
            return Ok(Self::Never);
        }
        span::parse(&text).map(Self::After).map_err(|error| {
            D::Error::custom(format!("{error}; or `{NEVER}`, for a tool that is not parked"))
        })
    }
}

fn no_arguments() -> Value {
    json!({ "type": "object", "additionalProperties": false })
}

fn yes() -> bool {
    true
}
