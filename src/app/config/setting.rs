//! A setting, as flags, variables, files and help show it.

use super::value::Value;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key in the configuration file: `data_dir`.
    pub key: &'static str,
    /// The name in messages, and of the flag without its dashes: `data-dir`.
    pub name: String,
    /// The environment variable: `CALLPARK_DATA_DIR`.
    pub variable: String,
    /// The name of the value in help: `FOLDER`.
    pub value_name: &'static str,
    /// The heading of the setting in help.
    pub group: &'static str,
    /// The meaning, in one sentence or two.
    pub help: String,
    /// The default, or a description of it if it depends on the machine.
    pub default: String,
    /// The least and the greatest value, or `None` if there are no bounds.
    pub bounds: Option<[String; 2]>,
    /// `true` if the flag may stand without a value, and then means `true`.
    pub is_switch: bool,
    /// All values, or none if there are too many to list.
    pub choices: &'static [&'static str],
}

impl Setting {
    pub(super) fn new<T: Value>(key: &'static str, value_name: &'static str) -> Self {
        Self {
            key,
            name: key.replace('_', "-"),
            variable: format!("CALLPARK_{}", key.to_uppercase()),
            value_name,
            group: "",
            help: String::new(),
            default: String::new(),
            bounds: None,
            is_switch: T::IS_SWITCH,
            choices: T::CHOICES,
        }
    }
}
