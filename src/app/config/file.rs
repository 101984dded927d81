//! The configuration file.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Fault, Origin};
use super::nearest::nearest;
use super::table::Setting;

/// The key of the tools: an array of tables.
const TOOLS: &str = "tools";

/// One `[[tools]]` of the configuration file, as it stands there.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolTable {
    /// What it says.
    pub table: toml::Table,
    /// Where it begins.
    pub origin: Origin,
}

impl ToolTable {
    /// Reads it as what it should be.
    ///
    /// # Errors
    /// A key is missing, unknown, or of another type. The error names tool, file and line.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.table.clone().try_into().map_err(|error| self.error(error.message().trim().to_owned()))
    }

    /// An error about it: `reason` says what is wrong, and what would be right.
    pub fn error(&self, reason: String) -> ConfigError {
        let name = self.table.get("name").and_then(toml::Value::as_str);
        let value = name.unwrap_or("without a name").to_owned();
        let (setting, origin) = (TOOLS, self.origin.clone());
        ConfigError { faults: vec![Fault::Value { setting, value, origin, reason }] }
    }
}

/// What a configuration file says.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    pub(super) path: Option<PathBuf>,
    pub(super) tools: Vec<ToolTable>,
    pub(super) faults: Vec<Fault>,
    /// Values by key, with their line.
    values: BTreeMap<&'static str, (String, usize)>,
}

impl FileSettings {
    /// Reads a file. One that is missing is a fault only if it `must_exist`.
    pub(super) fn read(path: PathBuf, must_exist: bool, settings: &'static [Setting]) -> Self {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => {
                return Self::default();
            }
            Err(error) => {
                let fault = Fault::Unreadable { path: path.clone(), reason: error.to_string() };
                return Self { path: Some(path), faults: vec![fault], ..Self::default() };
            }
        };
        Self::parse(path, &text, settings)
    }

    pub(super) fn get(&self, key: &str) -> Option<(String, Origin)> {
        let (value, line) = self.values.get(key)?;
        let path = self.path.clone()?;
        Some((value.clone(), Origin::File { path, line: *line }))
    }

    fn parse(path: PathBuf, text: &str, settings: &'static [Setting]) -> Self {
        let mut file = Self { path: Some(path.clone()), ..Self::default() };
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let fault = |error: &toml::de::Error| {
                let (line, column) = position(text, error.span().unwrap_or_default());
                let reason = error.message().trim().replace('\n', ", ");
                Fault::Syntax { path: path.clone(), line, column, reason }
            };
            file.faults = errors.iter().map(fault).collect();
            return file;
        }
        for (key, value) in document.get_ref() {
            if key.get_ref() == TOOLS {
                file.take_tools(&path, text, value);
                continue;
            }
            let (line, column) = position(text, key.span());
            match settings.iter().find(|setting| setting.key == key.get_ref()) {
                Some(setting) => {
                    file.values.insert(setting.key, (scalar(text, value), line));
                }
                None => {
                    let names = settings.iter().map(|s| s.key).chain([TOOLS]);
                    file.faults.push(Fault::Unknown {
                        name: key.get_ref().to_string(),
                        place: format!("{}:{line}:{column}", path.display()),
                        nearest: nearest(key.get_ref(), names),
                    });
                }
            }
        }
        file
    }

    fn take_tools(&mut self, path: &Path, text: &str, value: &Spanned<DeValue<'_>>) {
        let origin = |span: Range<usize>| Origin::File {
            path: path.to_owned(),
            line: position(text, span).0,
        };
        // The parsed document knows where things stand, the plain one can be kept.
        let plain = toml::from_str::<toml::Table>(text).ok().and_then(|mut t| t.remove(TOOLS));
        let places = value.get_ref().as_array();
        let (Some(toml::Value::Array(tools)), Some(places)) = (plain, places) else {
            return self.refuse_tools(origin(value.span()));
        };
        for (tool, place) in tools.into_iter().zip(places.iter()) {
            let origin = origin(place.span());
            match tool {
                toml::Value::Table(table) => self.tools.push(ToolTable { table, origin }),
                _ => self.refuse_tools(origin),
            }
        }
    }

    fn refuse_tools(&mut self, origin: Origin) {
        let reason = "each tool is a table: begin it with a line `[[tools]]`".to_owned();
        self.faults.push(Fault::Value { setting: TOOLS, value: "…".to_owned(), origin, reason });
    }
}

/// The value as a flag would have it: lists with commas, the rest as it is written.
fn scalar(text: &str, value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::String(value) => value.to_string(),
        DeValue::Array(items) => {
            items.iter().map(|item| scalar(text, item)).collect::<Vec<_>>().join(",")
        }
        DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix())
            .map_or_else(|_| value.as_str().to_owned(), |value| value.to_string()),
        DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            text.get(value.span()).unwrap_or_default().to_owned()
        }
    }
}

/// Line and column, both from 1, of the beginning of a span.
fn position(text: &str, span: Range<usize>) -> (usize, usize) {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
