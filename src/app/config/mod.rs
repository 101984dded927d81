//! The configuration of a server.
//!
//! Every setting has a default. A program that embeds the server sets fields of [`Config`]; for the
//! program `callpark` a flag, an environment variable or a line of a TOML file changes a setting, and
//! the first of these wins.
//!
//! A setting is declared once, in `settings.rs`. Its field in [`Config`], its flag, its variable, its
//! key in the file, its help and its line in `callpark config` are generated from there.

mod address;
mod advertise;
mod check;
#[cfg(feature = "cli")]
mod client;
mod entry;
mod environment;
mod error;
mod file;
mod nearest;
mod setting;
mod settings;
mod store_address;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::path::PathBuf;

use crate::app::listener::ListenerOptions;
use crate::app::tls::TlsFiles;
use file::FileSettings;
use table::Reader;

pub use address::{ListenAddress, SocketMode, TcpAddress};
pub use advertise::AdvertisedAddress;
#[cfg(feature = "cli")]
pub(crate) use client::{ClientConfig, ClientConfigError, ClientOptions};
pub use environment::Environment;
pub use error::{ConfigError, Origin, SettingError};
pub(crate) use nearest::nearest;
pub use setting::Setting;
pub use settings::Config;
pub use store_address::StoreAddress;
pub use table::Row;
pub use value::{AuthMode, ByteSize, InvalidValue, LogFilter, VariableName};

/// The variable that names the configuration file.
pub(crate) const CONFIG_VARIABLE: &str = "CALLPARK_CONFIG";
/// The variable with the token that the client shows.
pub(crate) const TOKEN_VARIABLE: &str = "CALLPARK_TOKEN";
/// The variable with the server that the client talks to.
pub(crate) const ENDPOINT_VARIABLE: &str = "CALLPARK_ENDPOINT";
/// The variable that holds the id of its call in a tool's process.
pub(crate) const CALL_ID_VARIABLE: &str = "CALLPARK_CALL_ID";

/// The variable that holds the process of the server in a tool's process.
pub(crate) const SERVER_PROCESS_VARIABLE: &str = "CALLPARK_SERVER_PROCESS";

/// Variables of callpark that are not settings.
const OTHER_VARIABLES: [&str; 5] =
    [CONFIG_VARIABLE, TOKEN_VARIABLE, ENDPOINT_VARIABLE, CALL_ID_VARIABLE, SERVER_PROCESS_VARIABLE];

/// The sources of a configuration.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The configuration file, which must exist; or `None` for the one that `CALLPARK_CONFIG` names,
    /// which must exist too, else `callpark/callpark.toml` in `$XDG_CONFIG_HOME` or `~/.config`, if
    /// it exists.
    pub config_file: Option<PathBuf>,
    /// The flags: the name of a setting, and its value. The last one of a name wins.
    pub overrides: Vec<(String, String)>,
    /// The variables of the process.
    pub environment: Environment,
}

/// A configuration, with the sources of its values.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings in force.
    pub config: Config,
    /// The settings in force as text, in the order of [`settings()`]. None of them is a secret.
    pub rows: Vec<Row>,
    /// Remarks on what is permitted but may be a mistake.
    pub warnings: Vec<String>,
    /// The configuration file that was read, or `None` if there was none.
    pub file: Option<PathBuf>,
}

/// Returns all settings, in the order of help.
pub fn settings() -> &'static [Setting] {
    &settings::SETTINGS
}

impl Config {
    /// Reads the configuration in force from flags, variables and the configuration file.
    ///
    /// # Errors
    /// The file cannot be read, a name is unknown, a value is not one that the setting can have, or
    /// settings exclude each other. The error names all of these problems.
    pub fn load(options: LoadOptions) -> Result<Loaded, ConfigError> {
        let mut file = configuration_file(&options);
        let mut errors = std::mem::take(&mut file.errors);
        errors.extend(unknown_flags(&options.overrides));
        let mut reader = Reader {
            settings: settings().iter(),
            flags: &options.overrides,
            environment: &options.environment,
            file: &file,
            rows: Vec::with_capacity(settings().len()),
            errors,
        };
        let mut config = Self::read(&mut reader);
        let Reader { mut rows, mut errors, .. } = reader;
        errors.extend(config.read_tables(&file.tables));
        let (derived, without_default) = config.derive(&options.environment);
        errors.extend(without_default);
        rows.extend(derived);
        rows.sort_by_key(|row| settings().iter().position(|setting| setting.key == row.name));
        // The default stands in for a value with an error: that may be no conflict at all.
        let is_right = |key: &&str| !errors.iter().any(|error| error.is_about(key));
        let conflicts = check::conflicts(&config, false).into_iter();
        let conflicts: Vec<_> = conflicts.filter(|c| c.keys.iter().all(is_right)).collect();
        errors.extend(conflicts.into_iter().map(|c| SettingError::Conflict(c.reason)));
        if !errors.is_empty() {
            return Err(ConfigError { errors });
        }
        let mut warnings = unknown_variables(&options.environment);
        warnings.extend(check::warnings(&config));
        Ok(Loaded { config, rows, warnings, file: file.path })
    }

    /// Checks a configuration that a program has built, as [`Config::load`] checks the sources.
    ///
    /// # Errors
    /// A value is out of its bounds, or settings exclude each other. The error names all of them.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_with(false)
    }

    /// Checks a configuration for a server that has a store of the program's own, or the one that the
    /// setting `store` names.
    pub(in crate::app) fn check_with(&self, has_store: bool) -> Result<(), ConfigError> {
        let mut errors = self.out_of_bounds();
        errors.extend(self.table_errors());
        let conflicts = check::conflicts(self, has_store).into_iter();
        errors.extend(conflicts.map(|conflict| SettingError::Conflict(conflict.reason)));
        if errors.is_empty() { Ok(()) } else { Err(ConfigError { errors }) }
    }

    /// Returns the files of TLS, or `None` if the listeners have none.
    pub(in crate::app) fn tls_files(&self) -> Option<TlsFiles> {
        // The checks refuse one without the other.
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(TlsFiles { certificate, key, client_ca: self.tls_client_ca.clone() })
    }

    /// Returns the bounds of the gRPC listeners, without TLS.
    pub(in crate::app) fn listener_options(&self) -> ListenerOptions {
        ListenerOptions {
            connections_max: self.max_connections,
            connections_per_peer_max: self.max_connections_per_peer,
            pending_handshakes_max: self.max_pending_handshakes,
            handshake_timeout: self.handshake_timeout,
            tls: None,
        }
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

fn unknown_flags(flags: &[(String, String)]) -> Vec<SettingError> {
    let is_known = |name: &str| settings().iter().any(|setting| setting.name == name);
    let unknown = flags.iter().filter(|(name, _)| !is_known(name));
    unknown
        .map(|(name, _)| SettingError::Unknown {
            name: name.clone(),
            place: format!("flag --{name}"),
            nearest: nearest(name, settings().iter().map(|setting| setting.name.as_str())),
        })
        .collect()
}

/// Returns warnings, not errors: a variable with the prefix may belong to another program.
fn unknown_variables(environment: &Environment) -> Vec<String> {
    let known =
        || settings().iter().map(|setting| setting.variable.as_str()).chain(OTHER_VARIABLES);
    environment
        .names()
        .filter(|name| name.starts_with("CALLPARK_") && known().all(|known| known != *name))
        .map(|name| {
            let nearest = nearest(name, known());
            let hint = nearest.first().map_or_else(String::new, |n| format!("; did you mean {n}?"));
            format!("the environment variable {name} is not a setting and is ignored{hint}")
        })
        .collect()
}
