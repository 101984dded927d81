//! Checks of the values of arguments that are passed to a process.

use serde_json::Value;

use super::{ArgumentError, Arguments};
use crate::exec::variable_name_error;

/// The longest argument or variable that Linux passes to a program, in bytes, without its final
/// NUL.
pub(super) const SYSTEM_STRING_BYTES_MAX: usize = 128 * 1024 - 1;

/// The prefix of the variables of callpark itself.
const RESERVED_PREFIX: &str = "CALLPARK_";

/// The most errors of one call that are listed; the others are counted. A megabyte of arguments can
/// have half a million.
pub(super) const ERRORS_MAX: usize = 100;

/// The errors in the arguments of one call: the first ones, and the number of the others.
#[derive(Debug, Default)]
pub(super) struct ArgumentErrors {
    listed: Vec<ArgumentError>,
    more: usize,
}

impl ArgumentErrors {
    pub(super) fn add(&mut self, path: &str, description: impl Into<String>) {
        if self.listed.len() >= ERRORS_MAX {
            self.more += 1;
            return;
        }
        let error = ArgumentError { path: path.to_owned(), description: description.into() };
        // An argument that is used twice is reported once.
        if !self.listed.contains(&error) {
            self.listed.push(error);
        }
    }

    /// Returns the value, or the errors if there are any. The last one counts those that are not
    /// listed.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Vec<ArgumentError>> {
        if self.more > 0 {
            let description = format!("there are {} more errors", self.more);
            self.listed.push(ArgumentError { path: String::new(), description });
        }
        if self.listed.is_empty() { Ok(value) } else { Err(self.listed) }
    }

    /// Returns the text at this path, or `None` if there is none.
    pub(super) fn text<'a>(&mut self, path: &str, value: Option<&'a Value>) -> Option<&'a str> {
        match value? {
            Value::String(text) => {
                self.check_nul(path, text);
                Some(text)
            }
            _ => {
                self.add(path, "must be of type string");
                None
            }
        }
    }

    pub(super) fn check_nul(&mut self, path: &str, text: &str) {
        if text.contains('\0') {
            self.add(path, "must not contain a NUL character");
        }
    }

    pub(super) fn check_length(&mut self, path: &str, length: usize) {
        if length > SYSTEM_STRING_BYTES_MAX {
            let description = format!(
                "is {length} bytes long, and Linux passes at most {SYSTEM_STRING_BYTES_MAX} bytes \
                 to a program in one argument: use stdin or a file"
            );
            self.add(path, description);
        }
    }

    /// Returns the variables in the object at this path.
    pub(super) fn variables(&mut self, path: &str, value: Option<&Value>) -> Vec<(String, String)> {
        match value {
            None => Vec::new(),
            Some(Value::Object(variables)) => self.pairs(path, variables),
            Some(_) => {
                self.add(path, "must be of type object");
                Vec::new()
            }
        }
    }

    fn pairs(&mut self, path: &str, variables: &Arguments) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (name, value) in variables {
            let path = format!("{path}.{name}");
            if let Some(error) = tool_variable_name_error(name) {
                self.add(&path, error);
            }
            if let Some(text) = self.text(&path, Some(value)) {
                self.check_length(&path, name.len() + 1 + text.len());
                pairs.push((name.clone(), text.to_owned()));
            }
        }
        pairs
    }
}

/// Returns the reason why a tool may not set a variable of this name, or `None` if it may.
pub(super) fn tool_variable_name_error(name: &str) -> Option<&'static str> {
    let reserved = "variables whose names begin with CALLPARK_ belong to the server";
    variable_name_error(name).or(name.starts_with(RESERVED_PREFIX).then_some(reserved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_beyond_the_first_hundred_are_counted() {
        let mut errors = ArgumentErrors::default();
        for index in 0..ERRORS_MAX + 7 {
            errors.add(&format!("env.{index}"), "must be of type string");
        }
        let errors = errors.finish(()).unwrap_err();
        assert_eq!(errors.len(), ERRORS_MAX + 1);
        let last = ArgumentError { path: "".into(), description: "there are 7 more errors".into() };
        assert_eq!(errors[ERRORS_MAX], last);
    }
}
