//! How an MCP server is written down in the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::span;
use crate::tool::{CallBudget, PROVIDER_SEPARATOR};

/// A server's name, in bytes: there must be room for those of its tools.
const NAME_BYTES_MAX: usize = 30;

/// How long a server may take to be there when nobody says.
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
    /// Its name, with which those of its tools begin: 1 to 30 of `a-z A-Z 0-9 _ - .`, without `__`.
    pub name: String,
    /// The program that is the server, and its arguments: MCP over standard input and output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Where the server is: streamable HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// With `argv`: the variables of callpark's that the process sees. No others.
    #[serde(default)]
    pub environment: Vec<String>,
    /// With `argv`: variables with values of their own; they win over those of callpark.
    #[serde(default)]
    pub set_environment: BTreeMap<String, String>,
    /// With `argv`: where the process runs. Default: where callpark does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
    /// With `url`: the file with the bearer token. It is read at each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The tools that are offered, by the server's own names. Default: all.
    #[serde(default)]
    pub tools: Vec<String>,
    /// How long a call holds its caller before it is parked: a span such as `90s`, or `never`.
    /// Default: 10 minutes.
    #[serde(default)]
    pub call_budget: CallBudget,
    /// The hard limit of one call, such as `2h`; by default callpark's own.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub execution_timeout: Option<Duration>,
    /// How long it may take from its start until its tools are known. Default: 30 s.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Duration>,
}

impl ServerConfig {
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
        match (self.argv.first(), &self.url) {
            (Some(program), None) if program.is_empty() => {
                Err("argv must begin with the program to run".to_owned())
            }
            (Some(_), None) if self.token_file.is_some() => {
                Err("token_file goes with url: a process gets its secrets by set_environment or a \
                     file of its own"
                    .to_owned())
            }
            (Some(_), None) => self.check_no_nul(),
            (None, Some(url)) => self.check_url(url),
            (Some(_), Some(_)) => Err("argv and url exclude each other".to_owned()),
            (None, None) => {
                Err("needs argv, the program to run, or url, where the server is".to_owned())
            }
        }
    }

    fn check_no_nul(&self) -> Result<(), String> {
        let pairs = self.set_environment.iter().flat_map(|(name, value)| [name, value]);
        let has_nul = self.argv.iter().chain(pairs).any(|text| text.contains('\0'));
        if has_nul {
            return Err("argv and set_environment must not contain a NUL character".to_owned());
        }
        Ok(())
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

    /// How long it may take to be there.
    pub(super) fn start_timeout(&self) -> Duration {
        self.start_timeout.unwrap_or(START_TIMEOUT_DEFAULT)
    }

    /// How long it may take to say what it speaks before it is pinged. One that leaves that open
    /// needs some of its time for the older beginning.
    pub(super) fn question_patience(&self) -> Duration {
        self.start_timeout() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(toml: &str) -> String {
        let read: Result<ServerConfig, _> = toml::from_str(toml);
        match read {
            Ok(config) => config.check().err().unwrap_or_default(),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn a_process_and_a_url_are_servers() {
        assert_eq!(fault("name = 'files'\nargv = ['npx', '-y', 'x']\nenvironment = ['PATH']"), "");
        assert_eq!(fault("name = 'w'\nurl = 'https://a.b/mcp'\ntoken_file = '/t'"), "");
        assert_eq!(
            fault("name = 'w'\nargv = ['x']\ncall_budget = 'never'\nstart_timeout = '5s'"),
            ""
        );
    }

    #[test]
    fn what_cannot_be_right_is_told() {
        for (toml, words) in [
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
            assert!(fault(toml).contains(words), "{toml}: {}", fault(toml));
        }
    }
}
