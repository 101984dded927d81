//! The flags of a server, one for each of its settings.

use clap::{Arg, ArgMatches, builder::PossibleValuesParser};

use super::connect::ConnectArgs;
use crate::{
    app::config::{self, Config, Environment, LoadOptions, Loaded, Setting},
    cli::{error::Failure, exit::Exit},
};

/// The setting that a global flag sets.
const TOKEN_FILE: &str = "token-file";

/// The setting of the file of API keys.
const KEYS_FILE: &str = "keys-file";

/// The setting of the store's folder.
const DATA_DIR: &str = "data-dir";

/// The setting of the store.
#[cfg(feature = "postgres")]
const STORE: &str = "store";

/// The names and values of the settings that the command line sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingFlags(Vec<(String, String)>);

impl SettingFlags {
    /// Returns the flag for the folder of the store, if there is one.
    pub(crate) fn data_dir(folder: Option<std::path::PathBuf>) -> Self {
        let given =
            folder.map(|folder| (DATA_DIR.to_owned(), folder.to_string_lossy().into_owned()));
        Self(given.into_iter().collect())
    }

    /// Returns the flag for the address of the store.
    #[cfg(feature = "postgres")]
    pub(crate) fn store(address: String) -> Self {
        Self(vec![(STORE.to_owned(), address)])
    }

    /// Returns the flags for the file of API keys and the folder that may have it.
    pub(crate) fn keys(
        data_dir: Option<std::path::PathBuf>,
        keys_file: Option<std::path::PathBuf>,
    ) -> Self {
        let mut flags = Self::data_dir(data_dir);
        let given =
            keys_file.map(|file| (KEYS_FILE.to_owned(), file.to_string_lossy().into_owned()));
        flags.0.extend(given);
        flags
    }

    /// Loads the configuration from these flags, the environment and the file.
    pub(crate) fn load(self, connect: ConnectArgs) -> Result<Loaded, Failure> {
        let mut overrides = self.0;
        if let Some(file) = connect.token_file {
            overrides.push((TOKEN_FILE.to_owned(), file.to_string_lossy().into_owned()));
        }
        let environment = Environment::capture();
        Config::load(LoadOptions { config_file: connect.config, overrides, environment })
            .map_err(|error| Failure::new(Exit::Config, error.to_string()))
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(flags().map(flag))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &Setting| {
            let value = matches.get_one::<String>(&setting.name)?;
            Some((setting.name.clone(), value.clone()))
        };
        Ok(Self(flags().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flags() -> impl Iterator<Item = &'static Setting> {
    config::settings().iter().filter(|setting| setting.name != TOKEN_FILE)
}

fn flag(setting: &'static Setting) -> Arg {
    let name = setting.name.as_str();
    let help = setting.help.trim_end_matches('.');
    let flag = Arg::new(name)
        .long(name)
        .value_name(setting.value_name)
        .help_heading(setting.group)
        .overrides_with(name)
        .help(format!("{help} [default: {}] [env: {}]", setting.default, setting.variable));
    let flag = match setting.choices {
        [] => flag,
        choices => flag.value_parser(PossibleValuesParser::new(choices)),
    };
    match setting.is_switch {
        true => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
        false => flag,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parse(words: &[&str]) -> SettingFlags {
        let command = SettingFlags::augment_args(clap::Command::new("x"));
        let matches = command.try_get_matches_from(words).unwrap();
        SettingFlags::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn every_setting_is_a_flag() {
        let SettingFlags(given) =
            parse(&["x", "--data-dir", "/x", "--allow-remote-plaintext", "--log-format=json"]);
        let has = |name: &str, value: &str| given.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("data-dir", "/x") && has("allow-remote-plaintext", "true"), "{given:?}");
        assert!(has("log-format", "json"), "{given:?}");
        assert_eq!(given.len(), 3);
    }

    #[test]
    fn the_last_value_wins() {
        let SettingFlags(given) = parse(&["x", "--grace", "1s", "--grace", "2s"]);
        assert_eq!(given, [("grace".to_owned(), "2s".to_owned())]);
    }
}
