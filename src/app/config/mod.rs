//! The server's configuration: every setting has a default, and a flag, an environment variable
//! or a line of a TOML file changes it, in that order of precedence.
//!
//! A setting is declared once, in `settings.rs`. Its field in [`Config`], its flag, its variable,
//! its key in the file and its line in `callpark config` come from there.

mod check;
mod client;
mod environment;
mod error;
mod file;
mod nearest;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod tool;
mod value;

use std::path::PathBuf;

use crate::app::listener::ListenerOptions;
use crate::app::tls::{TlsError, TlsFiles, server_config};
use file::FileSettings;
use nearest::nearest;
use table::{Reader, Tables};

pub use client::{ClientConfig, ClientConfigError, ClientOptions};
pub use environment::Environment;
pub use error::{ConfigError, Fault, Origin};
pub use file::NamedTable;
pub use settings::Config;
pub use table::{Row, Setting};
pub(in crate::app) use tool::{agent, command_tool, mcp_server, model};
pub use value::{AuthMode, ByteSize, LogFilter, VariableName};

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "CALLPARK_CONFIG";
/// The variable with the token that the client shows.
pub const TOKEN_VARIABLE: &str = "CALLPARK_TOKEN";
/// The variable with the server that the client talks to.
pub const ENDPOINT_VARIABLE: &str = "CALLPARK_ENDPOINT";
/// The variable that tells a tool's process which call it is.
pub const CALL_ID_VARIABLE: &str = "CALLPARK_CALL_ID";

/// Variables of ours that are no settings.
const OTHER_VARIABLES: [&str; 4] =
    [CONFIG_VARIABLE, TOKEN_VARIABLE, ENDPOINT_VARIABLE, CALL_ID_VARIABLE];

/// Where a configuration is taken from.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The file that `--config` names. It must exist. None: the one that `CALLPARK_CONFIG`
    /// names, which must exist too, else `callpark/callpark.toml` in `$XDG_CONFIG_HOME` or
    /// `~/.config`, if it exists.
    pub config_file: Option<PathBuf>,
    /// The flags that were given: the name of a setting, and its value. The last one of a name
    /// is in force.
    pub overrides: Vec<(String, String)>,
    /// The variables of the process.
    pub environment: Environment,
}

/// A configuration, and where it comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings in force.
    pub config: Config,
    /// The same as text with their origins, in the order of [`settings()`]. There is no secret
    /// among them.
    pub rows: Vec<Row>,
    /// What is permitted, and worth knowing.
    pub warnings: Vec<String>,
    /// The configuration file that was read.
    pub file: Option<PathBuf>,
}

/// All settings, in the order of help.
pub fn settings() -> &'static [Setting] {
    &settings::SETTINGS
}

impl Config {
    /// The configuration in force.
    ///
    /// # Errors
    /// The file can't be read, a name is unknown, a value isn't one that the setting can have, or
    /// settings don't go together: all that is wrong is told at once.
    pub fn load(options: LoadOptions) -> Result<Loaded, ConfigError> {
        let mut file = configuration_file(&options);
        let mut faults = std::mem::take(&mut file.faults);
        faults.extend(unknown_flags(&options.overrides));
        let tools = file.take_tables(file::TOOLS);
        let unusable = tools.iter().filter_map(|table| command_tool(table).err());
        faults.extend(unusable.flat_map(|error| error.faults));
        let mcp_servers = file.take_tables(file::MCP_SERVERS);
        let unusable = mcp_servers.iter().filter_map(|table| mcp_server(table).err());
        faults.extend(unusable.flat_map(|error| error.faults));
        let models = file.take_tables(file::MODELS);
        let unusable = models.iter().filter_map(|table| model(table).err());
        faults.extend(unusable.flat_map(|error| error.faults));
        let agents = file.take_tables(file::AGENTS);
        let unusable = agents.iter().filter_map(|table| agent(table).err());
        faults.extend(unusable.flat_map(|error| error.faults));
        let mut reader = Reader {
            settings: settings().iter(),
            flags: &options.overrides,
            environment: &options.environment,
            file: &file,
            rows: Vec::with_capacity(settings().len()),
            faults,
        };
        let config = Self::read(&mut reader, Tables { tools, mcp_servers, models, agents });
        let Reader { rows, mut faults, .. } = reader;
        let conflicts = config.iter().flat_map(check::conflicts).filter(|conflict| {
            // A row is missing where a value has a fault: its default stands in for it.
            let is_good = |key: &str| rows.iter().any(|row| row.name == key.replace('_', "-"));
            conflict.keys.iter().all(|key| is_good(key))
        });
        faults.extend(conflicts.map(|conflict| Fault::Conflict(conflict.reason)));
        match config {
            Some(config) if faults.is_empty() => {
                let mut warnings = unknown_variables(&options.environment);
                warnings.extend(check::warnings(&config));
                Ok(Loaded { config, rows, warnings, file: file.path })
            }
            Some(_) | None => Err(ConfigError { faults }),
        }
    }

    /// The bounds of the gRPC listeners, with TLS from its files.
    ///
    /// # Errors
    /// A file of TLS can't be used.
    pub fn listener_options(&self) -> Result<ListenerOptions, TlsError> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(server_config(&TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: self.tls_client_ca.clone(),
            })?),
            // One without the other doesn't pass the checks of `load`.
            _ => None,
        };
        Ok(ListenerOptions {
            connections_max: self.max_connections,
            connections_per_peer_max: self.max_connections_per_peer,
            pending_handshakes_max: self.max_pending_handshakes,
            handshake_timeout: self.handshake_timeout,
            tls,
        })
    }
}

fn configuration_file(options: &LoadOptions) -> FileSettings {
    let named = options
        .config_file
        .clone()
        .or_else(|| options.environment.get(CONFIG_VARIABLE).map(PathBuf::from));
    if let Some(path) = named {
        return FileSettings::read(path, true, settings());
    }
    match options.environment.xdg("XDG_CONFIG_HOME", ".config") {
        Some(folder) => {
            FileSettings::read(folder.join("callpark/callpark.toml"), false, settings())
        }
        None => FileSettings::default(),
    }
}

fn unknown_flags(flags: &[(String, String)]) -> Vec<Fault> {
    let is_known = |name: &str| settings().iter().any(|setting| setting.name == name);
    let unknown = flags.iter().filter(|(name, _)| !is_known(name));
    unknown
        .map(|(name, _)| Fault::Unknown {
            name: name.clone(),
            place: format!("flag --{name}"),
            nearest: nearest(name, settings().iter().map(|setting| setting.name.as_str())),
        })
        .collect()
}

/// A variable may belong to something else that has our prefix, so it is no fault.
fn unknown_variables(environment: &Environment) -> Vec<String> {
    let known =
        || settings().iter().map(|setting| setting.variable.as_str()).chain(OTHER_VARIABLES);
    environment
        .names()
        .filter(|name| name.starts_with("CALLPARK_") && known().all(|known| known != *name))
        .map(|name| {
            let nearest = nearest(name, known());
            let hint = nearest.first().map_or_else(String::new, |n| format!("; did you mean {n}?"));
            format!("the environment variable {name} is no setting, and is ignored{hint}")
        })
        .collect()
}
