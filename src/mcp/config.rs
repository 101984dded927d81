//! The table of an MCP server in the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exec::ChildProcessConfig;
use crate::model::span;
use crate::tool::{CallBudget, PROVIDER_SEPARATOR};

/// The longest name of a server, in bytes: the names of its tools must fit behind it.
const NAME_BYTES_MAX: usize = 30;

const START_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// One `[[mcp_servers]]` table: a process or a URL.
///
/// ```toml
/// [[mcp_servers]]
/// name = "files"
/// argv = ["npx", "-y", "@modelcontextprotocol/server-filesystem", "/srv/data"]
/// environment = ["PATH", "HOME"]
///
/// [[mcp_servers]]
/// name = "wiki"
/// url = "https://wiki.example.com/mcp"
/// token_file = "/etc/callpark/wiki-token"
/// tools = ["search", "read_page"]
/// call_budget = "20s"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The name, with which the names of its tools begin: 1 to 30 of `a-z A-Z 0-9 _ - .`, without
    /// `__`.
    pub name: String,
    /// The program of the server and its arguments: MCP over standard input and output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// The URL of the server: streamable HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The variables of callpark that the process of `argv` sees. It sees no others.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Additional variables for the process of `argv`. They win over those of callpark.
    #[serde(default)]
    pub set_environment: BTreeMap<String, String>,
    /// The folder in which the process of `argv` runs. Default: that of callpark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
    /// The file with the bearer token for `url`, which is read at each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The names of arguments of its tools that are secrets: the server gets their values, and events,
    /// records and the history of an agent have `[redacted]` in their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_arguments: Vec<String>,
    /// The tools to provide, by the server's own names. Default: all.
    #[serde(default)]
    pub tools: Vec<String>,
    /// The time for which a call holds its caller before it is parked: a span such as `90s`, or
    /// `never`. Default: 10 minutes.
    #[serde(default)]
    pub call_budget: CallBudget,
    /// The hard limit of one call, such as `2h`; by default callpark's own.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub execution_timeout: Option<Duration>,
    /// The time from the start of the server until its tools must be known. Default: 30 s.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Duration>,
}

impl ServerConfig {
    /// Checks everything that the types do not.
    ///
    /// # Errors
    /// The first key that is invalid, and a valid form.
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
        match (self.argv.first(), &self.url) {
            (Some(_), None) if self.token_file.is_some() => {
                Err("token_file goes with url: a process gets its secrets by set_environment or a \
                     file of its own"
                    .to_owned())
            }
            (Some(_), None) => self.process().check().map_err(|error| error.to_string()),
            (None, Some(url)) => self.check_url(url),
            (Some(_), Some(_)) => Err("argv and url exclude each other".to_owned()),
            (None, None) => {
                Err("needs argv, the program to run, or url, the address of the server".to_owned())
            }
        }
    }

    fn check_url(&self, url: &str) -> Result<(), String> {
        let of_process = !self.environment.is_empty()
            || !self.set_environment.is_empty()
            || self.working_directory.is_some();
        if of_process {
            return Err(
                "environment, set_environment and working_directory go with argv".to_owned()
            );
        }
        let uri = url.parse::<http::Uri>().ok();
        let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
        match scheme {
            Some("http" | "https") => Ok(()),
            _ => Err(format!("url `{url}` must begin with http:// or https://, and a host")),
        }
    }

    /// Returns the process of a server with `argv`.
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

    /// Returns the time for the server to say which protocol it supports, after which it is pinged.
    /// The rest of the start timeout is for its initialization.
    pub(super) fn discover_timeout(&self) -> Duration {
        self.start_timeout() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(toml: &str) -> String {
        let read: Result<ServerConfig, _> = toml::from_str(toml);
        match read {
            Ok(config) => config.check().err().unwrap_or_default(),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn a_process_and_a_url_are_servers() {
        assert_eq!(error("name = 'files'\nargv = ['npx', '-y', 'x']\nenvironment = ['PATH']"), "");
        assert_eq!(error("name = 'w'\nurl = 'https://a.b/mcp'\ntoken_file = '/t'"), "");
        assert_eq!(
            error("name = 'w'\nargv = ['x']\ncall_budget = 'never'\nstart_timeout = '5s'"),
            ""
        );
    }

    #[test]
    fn errors_name_the_key() {
        for (toml, message) in [
            ("name = ''\nargv = ['x']", "name must be"),
            ("name = 'a__b'\nargv = ['x']", "name must be"),
            ("name = 'a_'\nargv = ['x']", "not end with `_`"),
            ("name = 'a'", "needs argv"),
            ("name = 'a'\nargv = ['']", "begin with the program"),
            ("name = 'a'\nargv = ['x']\nurl = 'http://a'", "exclude each other"),
            ("name = 'a'\nargv = ['x']\ntoken_file = '/t'", "token_file goes with url"),
            ("name = 'a'\nurl = 'http://a'\nenvironment = ['PATH']", "go with argv"),
            ("name = 'a'\nurl = 'ftp://a'", "must begin with http"),
            ("name = 'a'\nargv = ['x']\nstart_timeout = 'soon'", "is not a duration"),
            ("name = 'a'\nargv = ['x']\ncolour = 1", "unknown field `colour`"),
        ] {
            assert!(error(toml).contains(message), "{toml}: {}", error(toml));
        }
    }
}
