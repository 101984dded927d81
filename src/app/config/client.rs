//! The configuration of the command line as a client: its server, and its token.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::Uri;
use secrecy::SecretString;

use super::{Config, ConfigError, ENDPOINT_VARIABLE, Environment, LoadOptions, TOKEN_VARIABLE};

/// The server if none is named.
const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:50051";

/// The sources of the configuration of a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientOptions {
    /// The endpoints of the server, separated by commas, or `None` for `CALLPARK_ENDPOINT`, else
    /// `http://127.0.0.1:50051`.
    pub endpoint: Option<String>,
    /// The file with the token, or `None` for `CALLPARK_TOKEN`, else the file that a server with this
    /// configuration writes.
    pub token_file: Option<PathBuf>,
    /// The server's configuration file, as in [`LoadOptions::config_file`].
    pub config_file: Option<PathBuf>,
    /// The variables of the process.
    pub environment: Environment,
}

/// A server, and the token that is shown to it.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    /// The endpoints of the server: `http://` or `https://`, a host, and a port; or `unix:` and the
    /// path of a socket.
    pub endpoints: Vec<String>,
    /// The token, or `None` if none is named and no server has written one here.
    pub token: Option<SecretString>,
    /// The file of the token, whether it exists or not; or `None` if the token is from no file.
    pub token_file: Option<PathBuf>,
}

/// The reason why a client has no server or no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientConfigError {
    /// The endpoint is not the URL of a server.
    #[error(
        "`{endpoint}` is not an endpoint: a URL such as {ENDPOINT_DEFAULT} or \
         unix:/run/callpark.sock is expected from --endpoint or {ENDPOINT_VARIABLE}"
    )]
    Endpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// The file of the token cannot be read.
    #[error("cannot read the token in {}: {reason}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// The error.
        reason: String,
    },
    /// The variable for the token holds the path of a file instead.
    #[error(
        "{TOKEN_VARIABLE} must hold the token itself, but it holds the path of a file, {}\n\
         pass that with --token-file, or set the variable with {TOKEN_VARIABLE}=$(cat {})",
        path.display(), path.display()
    )]
    TokenIsPath {
        /// The file.
        path: PathBuf,
    },
    /// The configuration of the server, which names the file of the token, is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ClientConfig {
    /// Finds the server and the token in force.
    ///
    /// The token of the server on this machine is read from its file only if all endpoints are on this
    /// machine: another server must not learn it.
    ///
    /// # Errors
    /// The endpoint is not a URL, a file cannot be read, or the configuration of the server is wrong.
    pub(crate) fn load(options: ClientOptions) -> Result<Self, ClientConfigError> {
        let environment = &options.environment;
        let endpoint = options
            .endpoint
            .or_else(|| environment.get(ENDPOINT_VARIABLE).map(str::to_owned))
            .unwrap_or_else(|| ENDPOINT_DEFAULT.to_owned());
        let endpoints: Vec<_> = endpoint.split(',').map(|one| one.trim().to_owned()).collect();
        let mut is_local = true;
        for endpoint in &endpoints {
            is_local &= is_on_this_machine(endpoint)?;
        }
        if let Some(path) = options.token_file {
            let token = read_token(&path)?.ok_or_else(|| ClientConfigError::Token {
                path: path.clone(),
                reason: "there is no such file".to_owned(),
            })?;
            return Ok(Self { endpoints, token: Some(token), token_file: Some(path) });
        }
        if let Some(token) = environment.get(TOKEN_VARIABLE) {
            let path = Path::new(token);
            if path.is_file() {
                return Err(ClientConfigError::TokenIsPath { path: path.to_owned() });
            }
            return Ok(Self { endpoints, token: Some(token.into()), token_file: None });
        }
        if !is_local {
            return Ok(Self { endpoints, token: None, token_file: None });
        }
        let path = server_token_file(options.config_file, options.environment)?;
        Ok(Self { endpoints, token: read_token(&path)?, token_file: Some(path) })
    }
}

fn server_token_file(
    config_file: Option<PathBuf>,
    environment: Environment,
) -> Result<PathBuf, ConfigError> {
    let options = LoadOptions { config_file, overrides: Vec::new(), environment };
    Ok(Config::load(options)?.config.token_file.unwrap_or_default())
}

/// Returns the token in a file, or `None` if the file does not exist.
fn read_token(path: &Path) -> Result<Option<SecretString>, ClientConfigError> {
    let error = |reason| ClientConfigError::Token { path: path.to_owned(), reason };
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Err(error("it is empty".to_owned())),
        Ok(text) => Ok(Some(text.trim().into())),
        Err(failure) if failure.kind() == ErrorKind::NotFound => Ok(None),
        Err(failure) => Err(error(failure.to_string())),
    }
}

fn is_on_this_machine(endpoint: &str) -> Result<bool, ClientConfigError> {
    let refused = || ClientConfigError::Endpoint { endpoint: endpoint.to_owned() };
    if let Some(path) = endpoint.strip_prefix("unix:") {
        return if path.starts_with('/') { Ok(true) } else { Err(refused()) };
    }
    let uri: Uri = endpoint.parse().map_err(|_| refused())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(refused());
    }
    let host = uri.host().ok_or_else(refused)?.trim_matches(['[', ']']);
    Ok(host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn environment(home: &Path, more: &[(&str, &str)]) -> Environment {
        let home = ("HOME", home.to_str().expect("UTF-8"));
        [home].into_iter().chain(more.iter().copied()).collect()
    }

    fn load(environment: Environment) -> ClientConfig {
        ClientConfig::load(ClientOptions { environment, ..ClientOptions::default() })
            .expect("a configuration")
    }

    fn shown(config: &ClientConfig) -> Option<&str> {
        config.token.as_ref().map(ExposeSecret::expose_secret)
    }

    /// A home folder in which a server has written its token.
    fn home_with_token() -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join(".local/state/callpark");
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("token"), "from-file\n").expect("written");
        home
    }

    #[test]
    fn the_token_of_the_local_server_is_found_without_a_flag() {
        let home = home_with_token();
        let config = load(environment(home.path(), &[]));
        assert_eq!(config.endpoints, ["http://127.0.0.1:50051"]);
        assert_eq!(shown(&config), Some("from-file"));
    }

    #[test]
    fn a_variable_wins_over_the_file() {
        let home = home_with_token();
        let config = load(environment(home.path(), &[("CALLPARK_TOKEN", "from-variable")]));
        assert_eq!(shown(&config), Some("from-variable"));
        assert!(!format!("{config:?}").contains("from-variable"));
    }

    #[test]
    fn a_path_in_the_variable_is_noticed() {
        let home = home_with_token();
        let path = home.path().join(".local/state/callpark/token").display().to_string();
        let options = ClientOptions {
            environment: environment(home.path(), &[("CALLPARK_TOKEN", &path)]),
            ..ClientOptions::default()
        };
        let error = ClientConfig::load(options).expect_err("a path").to_string();
        assert!(error.contains("the token itself") && error.contains("--token-file"), "{error}");
        // Base64 has slashes.
        let config = load(environment(home.path(), &[("CALLPARK_TOKEN", "/ab/cd==")]));
        assert_eq!(shown(&config), Some("/ab/cd=="));
    }

    #[test]
    fn another_machine_never_gets_the_local_token() {
        let home = home_with_token();
        for endpoint in [
            "https://example.com:443",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "http://localhost:1,http://10.0.0.1",
        ] {
            let config = load(environment(home.path(), &[("CALLPARK_ENDPOINT", endpoint)]));
            assert_eq!(shown(&config), None, "{endpoint}");
        }
        for endpoint in [
            "http://localhost:1",
            "http://[::1]:50051",
            "http://127.9.9.9:1",
            "unix:/run/callpark.sock",
            "http://localhost:1, unix:/run/callpark.sock",
        ] {
            let config = load(environment(home.path(), &[("CALLPARK_ENDPOINT", endpoint)]));
            assert_eq!(shown(&config), Some("from-file"), "{endpoint}");
        }
    }

    #[test]
    fn without_a_server_the_file_of_its_token_is_named() {
        let home = tempfile::tempdir().expect("a folder");
        let config = load(environment(home.path(), &[]));
        assert_eq!(shown(&config), None);
        let expected = home.path().join(".local/state/callpark/token");
        assert_eq!(config.token_file, Some(expected));
    }

    #[test]
    fn several_endpoints_are_separated_by_commas() {
        let home = home_with_token();
        let list = "http://127.0.0.1:1, unix:/a.sock,https://example.com";
        let config = load(environment(home.path(), &[("CALLPARK_ENDPOINT", list)]));
        assert_eq!(config.endpoints, ["http://127.0.0.1:1", "unix:/a.sock", "https://example.com"]);
        for list in ["http://127.0.0.1:1,", "http://127.0.0.1:1,127.0.0.1:2"] {
            let options =
                ClientOptions { endpoint: Some(list.to_owned()), ..ClientOptions::default() };
            let error = ClientConfig::load(options).expect_err("not a URL");
            assert!(matches!(error, ClientConfigError::Endpoint { .. }), "{error}");
        }
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_refused_with_an_example() {
        let options = ClientOptions {
            endpoint: Some("localhost:50051".to_owned()),
            ..ClientOptions::default()
        };
        let error = ClientConfig::load(options).expect_err("no scheme").to_string();
        assert!(error.contains("`localhost:50051`") && error.contains("http://"), "{error}");
    }
}
