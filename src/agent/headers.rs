//! Headers of requests to a model, whose values may be secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::redact::remember;

/// The value of a header: a text, or the place where it is.
///
/// ```toml
/// headers = { api-key = { environment = "AZURE_API_KEY" }, x-title = "callpark" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "it must be a text, { environment = \"NAME\" } or { file = \"PATH\" }"
)]
pub enum HeaderSource {
    /// The value itself.
    Value(String),
    /// A reference to an environment variable of callpark.
    Environment {
        /// The name of the variable.
        environment: String,
    },
    /// A reference to a file, which is read for each request.
    File {
        /// The path of the file.
        file: PathBuf,
    },
}

impl HeaderSource {
    /// Returns the name of the environment variable that holds the value, if one does.
    pub(super) fn environment_name(&self) -> Option<&str> {
        match self {
            Self::Environment { environment } => Some(environment),
            Self::Value(_) | Self::File { .. } => None,
        }
    }

    /// Validates the name of the header and the value, if it is written out.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        header_name(name)?;
        match self {
            Self::Value(value) => header_value(name, value).map(drop),
            Self::Environment { .. } | Self::File { .. } => Ok(()),
        }
    }
}

/// The headers of a model's requests.
pub(super) struct Headers {
    /// The headers whose values don't change.
    fixed: HeaderMap,
    files: Vec<(HeaderName, PathBuf)>,
}

impl Headers {
    /// Reads the values, except for those of files.
    pub(super) fn new(
        sources: &BTreeMap<String, HeaderSource>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut headers = Self { fixed: HeaderMap::new(), files: Vec::new() };
        for (name, source) in sources {
            let key = header_name(name)?;
            let value = match source {
                HeaderSource::Value(value) => value,
                HeaderSource::Environment { environment: variable } => {
                    let value = environment.get(variable).filter(|value| !value.is_empty());
                    value.ok_or_else(|| {
                        format!("headers.{name} names {variable}, which is not set: export it")
                    })?
                }
                HeaderSource::File { file } => {
                    headers.files.push((key, file.clone()));
                    continue;
                }
            };
            let value = header_value(name, value)?;
            headers.fixed.insert(key, value);
        }
        Ok(headers)
    }

    /// Returns the headers with the values that the files have now.
    ///
    /// # Errors
    ///
    /// Fails with the name of the header and the reason.
    pub(super) async fn read(&self) -> Result<HeaderMap, String> {
        let mut headers = self.fixed.clone();
        for (name, file) in &self.files {
            let value = read_value(file).await;
            let value =
                value.map_err(|why| format!("headers.{name}: {}: {why}", file.display()))?;
            headers.insert(name.clone(), header_value(name.as_str(), &value)?);
        }
        Ok(headers)
    }
}

/// Returns the content of a file that holds one value.
pub(super) async fn read_value(file: &Path) -> Result<String, String> {
    let text = tokio::fs::read_to_string(file).await.map_err(|error| error.to_string())?;
    match text.trim() {
        "" => Err("it is empty".into()),
        value => {
            remember(value);
            Ok(value.to_owned())
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    name.parse().map_err(|_| format!("headers has `{name}`, which is not the name of a header"))
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| format!("headers.{name} has characters that a header can't have"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(toml: &str) -> Result<BTreeMap<String, HeaderSource>, String> {
        toml::from_str(toml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_is_a_text_or_a_reference() {
        let read =
            sources("a = 'x'\nb = { environment = 'B' }\nc = { file = '/c' }").expect("read");
        let environment = [("B".to_owned(), "y".to_owned())].into();
        let headers = Headers::new(&read, &environment).expect("headers");
        assert_eq!(
            (&headers.fixed["a"], &headers.fixed["b"]),
            (&"x".parse().unwrap(), &"y".parse().unwrap())
        );
        assert_eq!(headers.files.len(), 1);
        assert!(!format!("{:?}", headers.fixed).contains('y'), "values are not in logs");
        let error = Headers::new(&read, &BTreeMap::new()).map(drop).expect_err("not set");
        assert!(error.contains("headers.b names B, which is not set"), "{error}");
    }

    #[test]
    fn what_is_no_header_is_named() {
        let error = sources("a = 7").expect_err("a number");
        assert!(error.contains("it must be a text, { environment"), "{error}");
        sources("a = { environment = 'B', value = 'x' }").expect_err("an unknown key");
        for (name, value, words) in [("a b", "x", "`a b`"), ("a", "x\ny", "headers.a")] {
            let error = HeaderSource::Value(value.into()).check(name).expect_err(name);
            assert!(error.contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_when_it_is_needed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        let read = sources(&format!("a = {{ file = '{}' }}", file.display())).expect("read");
        let headers = Headers::new(&read, &BTreeMap::new()).expect("headers");
        let error = headers.read().await.expect_err("no file");
        assert!(error.starts_with("headers.a: "), "{error}");
        std::fs::write(&file, "secret\n").expect("written");
        assert_eq!(headers.read().await.expect("read")["a"], "secret");
    }
}
