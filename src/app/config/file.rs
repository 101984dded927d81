//! The configuration file.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Origin, SettingError};
use super::nearest::nearest;
use super::table::Setting;

/// The keys of the arrays of tables.
const TABLES: [&str; 4] = ["tools", "mcp_servers", "models", "agents"];

/// One table of an array, such as one `[[tools]]`, as it is in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FileTable {
    /// The array that it belongs to.
    pub(super) key: &'static str,
    table: toml::Table,
    /// The line where it begins.
    origin: Origin,
}

impl FileTable {
    /// Parses the table. The error names a key that is missing, unknown, or of another type.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        self.table.clone().try_into().map_err(|error| error.message().trim().to_owned())
    }

    /// Returns an error about the table, with its name, file and line.
    pub(super) fn error(&self, reason: String) -> SettingError {
        let name = self.table.get("name").and_then(toml::Value::as_str);
        let value = name.unwrap_or("without a name").to_owned();
        SettingError::Value { setting: self.key, value, origin: self.origin.clone(), reason }
    }
}

/// The content of a configuration file.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    pub(super) path: Option<PathBuf>,
    pub(super) tables: Vec<FileTable>,
    pub(super) errors: Vec<SettingError>,
    /// Values by key, with their lines.
    values: BTreeMap<&'static str, (String, usize)>,
}

impl FileSettings {
    /// Reads a file. A missing file is an error only if `must_exist` is `true`.
    pub(super) fn read(path: PathBuf, must_exist: bool, settings: &'static [Setting]) -> Self {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => {
                return Self::default();
            }
            Err(error) => {
                let error =
                    SettingError::Unreadable { path: path.clone(), reason: error.to_string() };
                return Self { path: Some(path), errors: vec![error], ..Self::default() };
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
            let error = |error: &toml::de::Error| {
                let (line, column) = position(text, error.span().unwrap_or_default());
                let reason = error.message().trim().replace('\n', ", ");
                SettingError::Syntax { path: path.clone(), line, column, reason }
            };
            file.errors = errors.iter().map(error).collect();
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
                    file.errors.push(SettingError::Unknown {
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
        // The parsed document has the lines, the plain one the values.
        let plain = toml::from_str::<toml::Table>(text).ok().and_then(|mut t| t.remove(key));
        let spans = value.get_ref().as_array();
        let (Some(toml::Value::Array(tables)), Some(spans)) = (plain, spans) else {
            return self.refuse_tables(key, origin(value.span()));
        };
        for (table, item) in tables.into_iter().zip(spans.iter()) {
            let origin = origin(item.span());
            match table {
                toml::Value::Table(table) => self.tables.push(FileTable { key, table, origin }),
                _ => self.refuse_tables(key, origin),
            }
        }
    }

    fn refuse_tables(&mut self, key: &'static str, origin: Origin) {
        let reason = format!("each of them must be a table: begin it with a line `[[{key}]]`");
        self.errors.push(SettingError::Value {
            setting: key,
            value: "…".to_owned(),
            origin,
            reason,
        });
    }
}

/// Returns the value in the form of a flag: a list with commas, any other value as written.
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

/// Returns line and column, both from 1, of the beginning of a span.
fn position(text: &str, span: Range<usize>) -> (usize, usize) {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
