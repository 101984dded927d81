//! The configuration file.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::error::{Origin, SettingError, quoted};
use super::nearest::nearest;
use super::setting::Setting;

/// The keys of the arrays of tables.
const TABLES: [&str; 8] = [
    "tools",
    "mcp_servers",
    "models",
    "agents",
    "jwt_issuers",
    "client_certificates",
    "grants",
    "tenant_limits",
];

/// The text of a configuration file.
#[derive(Debug)]
struct FileText {
    path: PathBuf,
    text: String,
}

impl FileText {
    fn origin(&self, span: Range<usize>) -> Origin {
        Origin::File { path: self.path.clone(), line: position(&self.text, span).0 }
    }

    fn place(&self, span: Range<usize>) -> String {
        let (line, column) = position(&self.text, span);
        format!("{}:{line}:{column}", self.path.display())
    }
}

/// One table of an array, such as one `[[tools]]`, as it is in the file.
#[derive(Debug, Clone)]
pub(super) struct FileTable {
    /// The array that it belongs to.
    pub(super) key: &'static str,
    /// The position in the array, from 0.
    index: usize,
    table: toml::Table,
    /// The line where it begins.
    origin: Origin,
    file: Arc<FileText>,
}

impl FileTable {
    /// Parses the table. The error names a key that is missing, unknown, or of another type, and its
    /// line.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, SettingError> {
        self.table.clone().try_into().map_err(|error: toml::de::Error| {
            let origin = self.span_of_error::<T>().map(|span| self.file.origin(span));
            let reason = error.message().trim();
            let reason = unknown_key(reason).unwrap_or_else(|| reason.to_owned());
            self.error_at(origin.unwrap_or(self.origin.clone()), reason)
        })
    }

    /// Returns an error about the table, with its name, file and line.
    pub(super) fn error(&self, reason: String) -> SettingError {
        self.error_at(self.origin.clone(), reason)
    }

    fn error_at(&self, origin: Origin, reason: String) -> SettingError {
        let name = self.table.get("name").and_then(toml::Value::as_str);
        let value = name.unwrap_or("without a name").to_owned();
        SettingError::Value { setting: self.key, value, origin, reason }
    }

    /// Returns the part of the file that cannot be read as a `T`. The plain table has no positions, so
    /// the text is parsed once more.
    fn span_of_error<T: DeserializeOwned>(&self) -> Option<Range<usize>> {
        let mut document = DeTable::parse(&self.file.text).ok()?.into_inner();
        let DeValue::Array(tables) = document.remove(self.key)?.into_inner() else { return None };
        let table = tables.into_iter().nth(self.index)?;
        T::deserialize(ValueDeserializer::from(table)).err()?.span()
    }
}

/// Returns the error of an unknown key with the nearest one, or else with all keys, or `None` if the
/// reason, which is one of serde, is another.
fn unknown_key(reason: &str) -> Option<String> {
    let names = reason.strip_prefix("unknown field `")?;
    let (name, known) = names.split_once('`')?;
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let hint = match nearest(name, known.iter().copied()).as_slice() {
        [] => format!("its keys are {}", quoted(&known, ", ")),
        nearest => format!("did you mean {}?", quoted(nearest, " or ")),
    };
    Some(format!("there is no key `{name}`; {hint}"))
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
        let source = Arc::new(FileText { path: path.clone(), text: text.to_owned() });
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
                file.read_tables(key, &source, value);
                continue;
            }
            match settings.iter().find(|setting| setting.key == key.get_ref()) {
                Some(setting) => {
                    let (line, _) = position(text, key.span());
                    file.values.insert(setting.key, (scalar(text, value), line));
                }
                None => {
                    let names = settings.iter().map(|s| s.key).chain(TABLES);
                    file.errors.push(SettingError::Unknown {
                        name: key.get_ref().to_string(),
                        place: source.place(key.span()),
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
        file: &Arc<FileText>,
        value: &Spanned<DeValue<'_>>,
    ) {
        // The parsed document has the lines, the plain one the values.
        let plain = toml::from_str::<toml::Table>(&file.text).ok().and_then(|mut t| t.remove(key));
        let spans = value.get_ref().as_array();
        let (Some(toml::Value::Array(tables)), Some(spans)) = (plain, spans) else {
            return self.refuse_tables(key, file.origin(value.span()));
        };
        for (index, (table, item)) in tables.into_iter().zip(spans.iter()).enumerate() {
            let origin = file.origin(item.span());
            let file = file.clone();
            match table {
                toml::Value::Table(table) => {
                    self.tables.push(FileTable { key, index, table, origin, file });
                }
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
