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
pub(super) const TOOLS: &str = "tools";
/// The key of the MCP servers: another one.
pub(super) const MCP_SERVERS: &str = "mcp_servers";
/// The key of the models: another one.
pub(super) const MODELS: &str = "models";
/// The key of the agents: another one.
pub(super) const AGENTS: &str = "agents";
/// All keys of arrays of tables.
const TABLES: [&str; 4] = [TOOLS, MCP_SERVERS, MODELS, AGENTS];

/// One table of an array, such as one `[[tools]]` of the configuration file, as it stands there.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTable {
    /// The array that it belongs to.
    pub key: &'static str,
    /// What it says.
    pub table: toml::Table,
    /// Where it begins.
    pub origin: Origin,
}

impl NamedTable {
    /// Reads it as what it should be.
    ///
    /// # Errors
    /// A key is missing, unknown, or of another type. The error names table, file and line.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.table.clone().try_into().map_err(|error| self.error(error.message().trim().to_owned()))
    }

    /// An error about it: `reason` says what is wrong, and what would be right.
    pub fn error(&self, reason: String) -> ConfigError {
        let name = self.table.get("name").and_then(toml::Value::as_str);
        let value = name.unwrap_or("without a name").to_owned();
        let (setting, origin) = (self.key, self.origin.clone());
        ConfigError { faults: vec![Fault::Value { setting, value, origin, reason }] }
    }
}

/// What a configuration file says.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    pub(super) path: Option<PathBuf>,
    tables: Vec<NamedTable>,
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

    /// Takes out the tables of one array.
    pub(super) fn take_tables(&mut self, key: &str) -> Vec<NamedTable> {
        self.tables.extract_if(.., |table| table.key == key).collect()
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
            if let Some(key) = TABLES.into_iter().find(|name| name == key.get_ref()) {
                file.read_tables(key, &path, text, value);
                continue;
            }
            let (line, column) = position(text, key.span());
            match settings.iter().find(|setting| setting.key == key.get_ref()) {
                Some(setting) => {
                    file.values.insert(setting.key, (scalar(text, value), line));
                }
                None => {
                    let names = settings.iter().map(|s| s.key).chain(TABLES);
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

    fn read_tables(
        &mut self,
        key: &'static str,
        path: &Path,
        text: &str,
        value: &Spanned<DeValue<'_>>,
    ) {
        let origin = |span: Range<usize>| Origin::File {
            path: path.to_owned(),
            line: position(text, span).0,
        };
        // The parsed document knows where things stand, the plain one can be kept.
        let plain = toml::from_str::<toml::Table>(text).ok().and_then(|mut t| t.remove(key));
        let places = value.get_ref().as_array();
        let (Some(toml::Value::Array(tables)), Some(places)) = (plain, places) else {
            return self.refuse_tables(key, origin(value.span()));
        };
        for (table, place) in tables.into_iter().zip(places.iter()) {
            let origin = origin(place.span());
            match table {
                toml::Value::Table(table) => self.tables.push(NamedTable { key, table, origin }),
                _ => self.refuse_tables(key, origin),
            }
        }
    }

    fn refuse_tables(&mut self, key: &'static str, origin: Origin) {
        let reason = format!("each of them is a table: begin it with a line `[[{key}]]`");
        self.faults.push(Fault::Value { setting: key, value: "…".to_owned(), origin, reason });
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
