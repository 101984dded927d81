//! The macro that generates `Config` from the table of settings.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::environment::Environment;
use super::error::{Origin, SettingError};
use super::file::FileSettings;
use super::setting::Setting;
use super::value::Value;

/// The value of a setting that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The setting's key in the configuration file.
    pub name: &'static str,
    /// The value, as it can be written in a flag, a variable or a file.
    pub value: String,
    /// The source of the value.
    pub origin: Origin,
}

/// Returns the reason why a value is out of its bounds, or `None` if it is within them.
pub(super) fn out_of_bounds<T: Value + PartialOrd>(
    value: &T,
    bounds: RangeInclusive<T>,
) -> Option<String> {
    let [least, greatest] = show_bounds(&bounds);
    (!bounds.contains(value)).then(|| format!("it must be from {least} to {greatest}"))
}

/// Returns the error of a value that a program has set, or `None` if it is within its bounds.
pub(super) fn bounds_error<T: Value + PartialOrd>(
    key: &str,
    value: &T,
    bounds: RangeInclusive<T>,
) -> Option<SettingError> {
    let reason = out_of_bounds(value, bounds)?;
    Some(SettingError::in_program(name(key), value.show(), reason))
}

pub(super) fn show_bounds<T: Value>(bounds: &RangeInclusive<T>) -> [String; 2] {
    [bounds.start().show(), bounds.end().show()]
}

/// Reads the settings one by one from all sources, and collects the errors.
pub(super) struct Reader<'a> {
    /// The settings that are still to be read.
    pub(super) settings: std::slice::Iter<'static, Setting>,
    /// The names and values of flags. The last one of a name wins.
    pub(super) flags: &'a [(String, String)],
    pub(super) environment: &'a Environment,
    pub(super) file: &'a FileSettings,
    pub(super) rows: Vec<Row>,
    pub(super) errors: Vec<SettingError>,
}

impl Reader<'_> {
    /// Reads the next setting of the table. If its value is invalid, the error is recorded and the
    /// default is used, so that the other settings can be checked.
    pub(super) fn next<T: Value>(&mut self, default: T, check: impl Fn(&T) -> Option<String>) -> T {
        let Some(setting) = self.settings.next() else { return default };
        match self.source_of(setting) {
            Some(source) => self.parse(setting, source, check).unwrap_or(default),
            None => {
                let (name, value) = (setting.key, default.show());
                self.rows.push(Row { name, value, origin: Origin::Default });
                default
            }
        }
    }

    /// Reads the next setting of the table, if its default depends on the machine. Returns `None` if
    /// it is unset, or if its value is invalid, which is recorded.
    pub(super) fn next_derived<T: Value>(
        &mut self,
        check: impl Fn(&T) -> Option<String>,
    ) -> Option<T> {
        let setting = self.settings.next()?;
        let source = self.source_of(setting)?;
        self.parse(setting, source, check)
    }

    fn parse<T: Value>(
        &mut self,
        setting: &'static Setting,
        (text, origin): (String, Origin),
        check: impl Fn(&T) -> Option<String>,
    ) -> Option<T> {
        let checked = T::parse(&text).and_then(|value| match check(&value) {
            Some(reason) => Err(reason),
            None => Ok(value),
        });
        match checked {
            Ok(value) => {
                self.rows.push(Row { name: setting.key, value: value.show(), origin });
                Some(value)
            }
            Err(reason) => {
                self.error(setting, T::show_text(&text), origin, reason);
                None
            }
        }
    }

    /// Returns the text of a setting and its source: a flag, else a variable, else the file.
    fn source_of(&mut self, setting: &'static Setting) -> Option<(String, Origin)> {
        if let Some((_, value)) = self.flags.iter().rev().find(|(name, _)| *name == setting.name) {
            return Some((value.clone(), Origin::Flag(format!("--{}", setting.name))));
        }
        if !self.environment.is_readable(&setting.variable) {
            let origin = Origin::Environment(&setting.variable);
            self.error(setting, "…".to_owned(), origin, "the value is not UTF-8".to_owned());
        }
        if let Some(value) = self.environment.get(&setting.variable) {
            return Some((value.to_owned(), Origin::Environment(&setting.variable)));
        }
        self.file.get(setting.key)
    }

    fn error(&mut self, setting: &'static Setting, value: String, origin: Origin, reason: String) {
        self.errors.push(SettingError::Value { setting: &setting.name, value, origin, reason });
    }
}

/// Declares the settings: the struct `Config` with a field for each, its defaults, its reading from
/// a [`Reader`], its checks, and the list of [`Setting`]s, all in the same order.
///
/// A setting is `/// help`, then `key: Type = default, "VALUE NAME" in bounds;`. If the default depends
/// on the machine, it is `key: Type => function as "description", "VALUE NAME" in bounds;`, and the
/// field is an `Option`, which [`Config::derive`] fills in.
macro_rules! define_settings {
    ($($group:literal { $(
        $(#[doc = $help:literal])+
        $key:ident: $type:ty $(= $default:expr)? $(=> $derive:path as $words:literal)?,
            $value_name:literal $(in $bounds:expr)?;
    )+ })+) => {
        /// The settings of a server, its tools, and its agents.
        ///
        /// A program starts with [`Config::default`] and sets fields; [`Config::load`] reads the settings
        /// from flags, variables and a file. Both are checked when a server is built.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $($(
                $(#[doc = $help])+
                $(#[doc = concat!("\n\nDefault: `", stringify!($default), "`.")])?
                $(#[doc = concat!("\n\nDefault, for `None`: `", $words, "`.")])?
                $(#[doc = concat!(" Bounds: `", stringify!($bounds), "`.")])?
                pub $key: define_settings!(@type $type $(, $derive)?),
            )+)+
            /// Tools that run programs, one for each `[[tools]]` of the configuration file.
            pub tools: Vec<$crate::tool::CommandToolConfig>,
            /// MCP servers, one for each `[[mcp_servers]]` of the configuration file.
            #[cfg(feature = "mcp")]
            pub mcp_servers: Vec<$crate::mcp::ServerConfig>,
            /// Models, one for each `[[models]]` of the configuration file.
            #[cfg(feature = "openai")]
            pub models: Vec<$crate::agent::ModelConfig>,
            /// Agents that speak ACP, one for each `[[agents]]` of the configuration file.
            #[cfg(feature = "acp")]
            pub agents: Vec<$crate::acp::AgentConfig>,
            /// Tools and models for some callers, one for each `[[grants]]` of the configuration file.
            pub grants: Vec<$crate::model::Grant>,
            /// Callers with certificates, one for each `[[client_certificates]]` of the configuration file.
            pub client_certificates: Vec<$crate::auth::ClientCertificateConfig>,
            /// Limits of tenants, one for each `[[tenant_limits]]` of the configuration file.
            pub tenant_limits: Vec<$crate::quota::TenantLimits>,
            /// Issuers of JSON Web Tokens, one for each `[[jwt_issuers]]` of the configuration file.
            #[cfg(feature = "jwt")]
            pub jwt_issuers: Vec<$crate::auth::jwt::JwtIssuerConfig>,
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $($($key: define_settings!(@default $($default)?),)+)+
                    tools: Vec::new(),
                    client_certificates: Vec::new(),
                    grants: Vec::new(),
                    tenant_limits: Vec::new(),
                    #[cfg(feature = "mcp")]
                    mcp_servers: Vec::new(),
                    #[cfg(feature = "openai")]
                    models: Vec::new(),
                    #[cfg(feature = "acp")]
                    agents: Vec::new(),
                    #[cfg(feature = "jwt")]
                    jwt_issuers: Vec::new(),
                }
            }
        }

        impl Config {
            /// Reads all settings; the errors stay in the reader.
            pub(super) fn read(reader: &mut $crate::app::config::table::Reader<'_>) -> Self {
                $($(let $key = define_settings!(@read reader, $type, [$($default)?], [$($bounds)?]);)+)+
                Self { $($($key,)+)+ ..Self::default() }
            }

            /// Returns the errors of values outside of their bounds.
            pub(super) fn out_of_bounds(&self) -> Vec<$crate::app::config::SettingError> {
                let mut errors = Vec::new();
                $($(define_settings!(@check_field self, errors, $key, [$($derive)?], [$($bounds)?]);)+)+
                errors
            }

            /// Fills in the settings whose defaults depend on the machine. Returns them as rows, and
            /// the errors of those that have no default here.
            pub(in crate::app) fn derive(
                &mut self,
                environment: &$crate::app::config::Environment,
            ) -> (
                Vec<$crate::app::config::Row>,
                Vec<$crate::app::config::SettingError>,
            ) {
                let (mut rows, mut errors) = (Vec::new(), Vec::new());
                $($($(
                    if self.$key.is_none() {
                        match $derive(self, environment) {
                            Ok(value) => {
                                rows.push($crate::app::config::table::derived(
                                    stringify!($key),
                                    &value,
                                ));
                                self.$key = Some(value);
                            }
                            Err(reason) => errors.push(
                                $crate::app::config::table::no_default(stringify!($key), reason),
                            ),
                        }
                    }
                )?)+)+
                (rows, errors)
            }
        }

        pub(super) static SETTINGS: std::sync::LazyLock<Vec<$crate::app::config::Setting>> =
            std::sync::LazyLock::new(|| {
                vec![$($($crate::app::config::Setting {
                    group: $group,
                    help: [$($help),+].map(str::trim).join(" "),
                    default: define_settings!(@show $type, [$($default)?] $($words)?),
                    bounds: define_settings!(@bounds $type $(, $bounds)?),
                    ..$crate::app::config::Setting::new::<$type>(stringify!($key), $value_name)
                },)+)+]
            });
    };
    (@type $type:ty) => { $type };
    (@type $type:ty, $derive:path) => { Option<$type> };
    (@default) => { None };
    (@default $default:expr) => { $default };
    (@read $reader:ident, $type:ty, [], [$($bounds:expr)?]) => {
        $reader.next_derived::<$type>(define_settings!(@check $($bounds)?))
    };
    (@read $reader:ident, $type:ty, [$default:expr], [$($bounds:expr)?]) => {
        $reader.next::<$type>($default, define_settings!(@check $($bounds)?))
    };
    (@check) => { |_| None };
    (@check $bounds:expr) => {
        |value| $crate::app::config::table::out_of_bounds(value, $bounds)
    };
    (@check_field $self:ident, $errors:ident, $key:ident, [$($derive:path)?], []) => {};
    (@check_field $self:ident, $errors:ident, $key:ident, [], [$bounds:expr]) => {
        $errors.extend($crate::app::config::table::bounds_error(
            stringify!($key), &$self.$key, $bounds,
        ));
    };
    (@check_field $self:ident, $errors:ident, $key:ident, [$derive:path], [$bounds:expr]) => {
        if let Some(value) = &$self.$key {
            $errors.extend($crate::app::config::table::bounds_error(
                stringify!($key), value, $bounds,
            ));
        }
    };
    (@show $type:ty, [] $words:literal) => { $words.to_owned() };
    (@show $type:ty, [$default:expr]) => {
        <$type as $crate::app::config::value::Value>::show(&$default)
    };
    (@bounds $type:ty) => { None };
    (@bounds $type:ty, $bounds:expr) => {
        Some($crate::app::config::table::show_bounds::<$type>(&$bounds))
    };
}

pub(super) use define_settings;

/// Returns the name of the setting with this key.
fn name(key: &str) -> &'static str {
    let setting = super::settings().iter().find(|setting| setting.key == key);
    setting.map_or("", |setting| &setting.name)
}

/// Returns the row of a setting with a default that depends on the machine.
pub(super) fn derived<T: Value>(key: &'static str, value: &T) -> Row {
    Row { name: key, value: value.show(), origin: Origin::Default }
}

/// Returns the error of a setting that has no default on this machine.
pub(super) fn no_default(key: &str, reason: String) -> SettingError {
    let (setting, value, origin) = (name(key), String::new(), Origin::Default);
    SettingError::Value { setting, value, origin, reason }
}
