//! What a setting is, and how the typed configuration comes out of the table of them.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::environment::Environment;
use super::error::{Fault, Origin};
use super::file::{FileSettings, NamedTable};
use super::value::Value;

/// One setting, as flags, variables, files and help show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key in the configuration file: `data_dir`.
    pub key: &'static str,
    /// The name in messages, and of the flag without its dashes: `data-dir`.
    pub name: String,
    /// The environment variable: `CALLPARK_DATA_DIR`.
    pub variable: String,
    /// A word for its value in help: `FOLDER`.
    pub value_name: &'static str,
    /// The heading in help under which it stands.
    pub group: &'static str,
    /// What it is, in one sentence or two.
    pub help: String,
    /// Its default, in words where it depends on something.
    pub default: &'static str,
    /// Its flag may stand without a value, and then means `true`.
    pub is_switch: bool,
    /// All its values, where there are few; else empty.
    pub choices: &'static [&'static str],
}

impl Setting {
    pub(super) fn new<T: Value>(
        key: &'static str,
        value_name: &'static str,
        group: &'static str,
        help: &[&str],
        default: &'static str,
    ) -> Self {
        Self {
            key,
            name: key.replace('_', "-"),
            variable: format!("CALLPARK_{}", key.to_uppercase()),
            value_name,
            group,
            help: help.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "),
            default,
            is_switch: T::IS_SWITCH,
            choices: T::CHOICES,
        }
    }
}

/// The value of a setting that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The setting's name.
    pub name: &'static str,
    /// The value, as it can be written in a flag, a variable or a file.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a default may depend on.
pub(super) struct Derivation<'a> {
    pub(super) environment: &'a Environment,
    /// The settings above, in the order of the table.
    rows: &'a [Row],
}

impl Derivation<'_> {
    /// The value of a setting that stands above in the table.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        let name = key.replace('_', "-");
        self.rows.iter().find(|row| row.name == name).map(|row| row.value.as_str())
    }
}

/// Computes a default, or says why there is none.
pub(super) type Derive = fn(&Derivation<'_>) -> Result<String, String>;
/// Checks a value by itself, or says what would be right.
pub(super) type Check<T> = fn(&T) -> Result<(), String>;

pub(super) fn within<T: Value + PartialOrd>(
    value: &T,
    range: &RangeInclusive<T>,
) -> Result<(), String> {
    if range.contains(value) {
        return Ok(());
    }
    Err(format!("it must be from {} to {}", range.start().show(), range.end().show()))
}

/// Reads one setting after the other from all sources, and gathers what is wrong.
pub(super) struct Reader<'a> {
    /// The settings that are still to be read.
    pub(super) settings: std::slice::Iter<'static, Setting>,
    /// Name and value of flags, the later one in force.
    pub(super) flags: &'a [(String, String)],
    pub(super) environment: &'a Environment,
    pub(super) file: &'a FileSettings,
    pub(super) rows: Vec<Row>,
    pub(super) faults: Vec<Fault>,
}

impl Reader<'_> {
    /// The next setting of the table. Where it has a fault, the fault is noted and the default
    /// stands in for it, so that the others can be checked; none where there is no default.
    pub(super) fn next<T: Value>(&mut self, derive: Option<Derive>, check: Check<T>) -> Option<T> {
        let setting = self.settings.next()?;
        let (text, origin) = match self.given(setting) {
            Some(given) => given,
            None => (self.default(setting, derive)?, Origin::Default),
        };
        match T::parse(&text).and_then(|value| check(&value).map(|()| value)) {
            Ok(value) => {
                self.rows.push(Row { name: &setting.name, value: value.show(), origin });
                Some(value)
            }
            Err(reason) => {
                self.fault(setting, text, origin, reason);
                T::parse(&self.default(setting, derive)?).ok()
            }
        }
    }

    /// What somebody has set: a flag before a variable, a variable before the file.
    fn given(&mut self, setting: &'static Setting) -> Option<(String, Origin)> {
        if let Some((_, value)) = self.flags.iter().rev().find(|(name, _)| *name == setting.name) {
            return Some((value.clone(), Origin::Flag(format!("--{}", setting.name))));
        }
        if !self.environment.is_readable(&setting.variable) {
            let origin = Origin::Environment(&setting.variable);
            self.fault(setting, "…".to_owned(), origin, "the value isn't UTF-8".to_owned());
        }
        if let Some(value) = self.environment.get(&setting.variable) {
            return Some((value.to_owned(), Origin::Environment(&setting.variable)));
        }
        self.file.get(setting.key)
    }

    fn default(&mut self, setting: &'static Setting, derive: Option<Derive>) -> Option<String> {
        let Some(derive) = derive else {
            return Some(setting.default.to_owned());
        };
        match derive(&Derivation { environment: self.environment, rows: &self.rows }) {
            Ok(text) => Some(text),
            Err(reason) => {
                self.fault(setting, String::new(), Origin::Default, reason);
                None
            }
        }
    }

    fn fault(&mut self, setting: &'static Setting, value: String, origin: Origin, reason: String) {
        self.faults.push(Fault::Value { setting: &setting.name, value, origin, reason });
    }
}

/// The arrays of tables of a configuration file.
pub(super) struct Tables {
    pub(super) tools: Vec<NamedTable>,
    pub(super) mcp_servers: Vec<NamedTable>,
    pub(super) models: Vec<NamedTable>,
    pub(super) agents: Vec<NamedTable>,
}

/// Declares the settings: the struct `Config` with a field for each, its reading from a
/// [`Reader`], and the list of [`Setting`]s, all in the same order.
///
/// `/// help` then `key: Type = "default" [derived by function], "VALUE NAME" [in range];`
macro_rules! settings {
    ($($group:literal { $(
        $(#[doc = $help:literal])+
        $key:ident: $type:ty = $default:literal $(derived by $derive:path)?, $value_name:literal
            $(in $range:expr)?;
    )+ })+) => {
        /// What the server does, setting by setting. [`Config::load`] makes it.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($(
                $(#[doc = $help])+
                #[doc = concat!("\n\nDefault: `", $default, "`.")]
                pub $key: $type,
            )+)+
            /// The tools of the configuration file, one for each `[[tools]]`.
            pub tools: Vec<$crate::app::config::NamedTable>,
            /// The MCP servers of the configuration file, one for each `[[mcp_servers]]`.
            pub mcp_servers: Vec<$crate::app::config::NamedTable>,
            /// The models of the configuration file, one for each `[[models]]`.
            pub models: Vec<$crate::app::config::NamedTable>,
            /// The agents of the configuration file, one for each `[[agents]]`.
            pub agents: Vec<$crate::app::config::NamedTable>,
        }

        impl Config {
            /// All settings, as far as the reader can tell; what is wrong stands there.
            pub(super) fn read(
                reader: &mut $crate::app::config::table::Reader<'_>,
                tables: $crate::app::config::table::Tables,
            ) -> Option<Self> {
                let $crate::app::config::table::Tables { tools, mcp_servers, models, agents } =
                    tables;
                // Every setting is read before the first `?`, so that all faults are found.
                $($(let $key = reader.next::<$type>(
                    settings!(@derive $($derive)?),
                    settings!(@check $($range)?),
                );)+)+
                Some(Self { $($($key: $key?,)+)+ tools, mcp_servers, models, agents })
            }
        }

        pub(super) static SETTINGS: std::sync::LazyLock<Vec<$crate::app::config::Setting>> =
            std::sync::LazyLock::new(|| {
                vec![$($($crate::app::config::Setting::new::<$type>(
                    stringify!($key),
                    $value_name,
                    $group,
                    &[$($help),+],
                    $default,
                ),)+)+]
            });
    };
    (@derive) => { None };
    (@derive $derive:path) => { Some($derive) };
    (@check) => { |_| Ok(()) };
    (@check $range:expr) => { |value| $crate::app::config::table::within(value, &($range)) };
}

pub(super) use settings;
