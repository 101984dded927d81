//! JSON Schemas of arguments: compiled once, with readable errors that name the path.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::values::ArgumentErrors;
use super::{ArgumentError, Arguments};
use crate::model::Tool;

/// The size of the paths of all values together, in bytes, up to which the errors are listed. The
/// validator writes the path of each error out, so a long name with many values in it costs as much
/// as their product.
const PATHS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The text in place of a value in a description: values may be secret, and descriptions are logged.
const HIDDEN_VALUE: &str = "the value";

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Schema {
    /// The validator, or `None` if every object is valid.
    validator: Option<Validator>,
}

impl Schema {
    /// Compiles the input schema of a tool, unless its arguments are not checked.
    pub(super) fn of(tool: &Tool) -> Result<Self, String> {
        match tool.arguments_unchecked {
            true => Ok(Self { validator: None }),
            false => Self::compile(&tool.input_schema),
        }
    }

    /// Compiles a schema, of draft 2020-12 unless it names another. Nothing is fetched for it. The error
    /// says what is wrong, and where.
    pub(super) fn compile(schema: &Value) -> Result<Self, String> {
        if !schema.is_object() {
            return Err("it must be a JSON object".to_owned());
        }
        let validator = jsonschema::validator_for(schema).map_err(|error| {
            let words = words_of(&error);
            match path_of(error.instance_path(), None) {
                path if path.is_empty() => words,
                path => format!("at `{path}`: {words}"),
            }
        })?;
        Ok(Self { validator: Some(validator) })
    }

    /// Returns the errors with their paths: the first ones, and the number of the others. Values are
    /// never repeated.
    pub(super) fn check(&self, arguments: &Arguments) -> Result<(), Vec<ArgumentError>> {
        let Some(validator) = &self.validator else { return Ok(()) };
        let arguments = Value::Object(arguments.clone());
        if validator.is_valid(&arguments) {
            return Ok(());
        }
        let mut errors = ArgumentErrors::default();
        if are_paths_too_long(&arguments) {
            let description = "breaks the schema, and its names are too long for a list of the errors: \
                               give it shorter names, or fewer values";
            errors.add("", description);
        } else {
            validator.iter_errors(&arguments).for_each(|error| add(&mut errors, &error));
        }
        errors.finish(())
    }
}

/// Returns whether the errors of such a value cannot be listed in bounded time and memory.
pub(super) fn are_paths_too_long(value: &Value) -> bool {
    let mut left = PATHS_BYTES_MAX;
    !fits(value, 0, &mut left)
}

/// Returns whether the paths of a value and of what it holds fit into what is left. `length` is that of
/// its own path.
fn fits(value: &Value, length: usize, left: &mut usize) -> bool {
    const INDEX_BYTES: usize = 8;
    match left.checked_sub(length) {
        Some(rest) => *left = rest,
        None => return false,
    }
    match value {
        Value::Object(members) => {
            members.iter().all(|(name, value)| fits(value, length + 1 + name.len(), left))
        }
        Value::Array(items) => items.iter().all(|item| fits(item, length + INDEX_BYTES, left)),
        _ => true,
    }
}

/// Describes an error in a schema. The library explains how to fetch what a reference leads to.
fn words_of(error: &ValidationError<'_>) -> String {
    let words = error.to_string();
    match (error.kind(), words.split_once(" and retrieving it failed")) {
        (ValidationErrorKind::Referencing(_), Some((words, _))) => {
            format!("{words}, and nothing is fetched")
        }
        _ => words,
    }
}

/// Adds an error of the library. One about unknown properties becomes several, one for each property.
fn add(errors: &mut ArgumentErrors, error: &ValidationError<'_>) {
    let path = |property: Option<&str>| path_of(error.instance_path(), property);
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            errors.add(&path(property.as_str()), "is required");
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let unknown = "is not a known property: check its spelling or remove it";
            unexpected.iter().for_each(|property| errors.add(&path(Some(property)), unknown));
        }
        ValidationErrorKind::Type { kind } => errors.add(&path(None), must_be(kind)),
        _ => errors.add(&path(None), error.masked_with(HIDDEN_VALUE).to_string()),
    }
}

fn must_be(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => format!("must be of type {kind}"),
        TypeKind::Multiple(kinds) => {
            let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
            format!("must be of one of the types {}", kinds.join(", "))
        }
    }
}

/// Returns a path such as `items[3].name`.
pub(super) fn path_of(location: &Location, property: Option<&str>) -> String {
    let mut path = String::new();
    let property = property.map(|name| LocationSegment::Property(name.into()));
    for segment in location.segments().chain(property) {
        match segment {
            LocationSegment::Property(name) if path.is_empty() => path.push_str(&name),
            LocationSegment::Property(name) => path.extend([".", &name]),
            LocationSegment::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tool::values::ERRORS_MAX;

    fn errors(schema: Value, arguments: Value) -> Vec<(String, String)> {
        let Value::Object(arguments) = arguments else { panic!("not an object") };
        let schema = Schema::compile(&schema).unwrap();
        let mut errors: Vec<(String, String)> = schema
            .check(&arguments)
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|error| (error.path, error.description))
            .collect();
        errors.sort();
        errors
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "command": { "type": "string", "minLength": 1 },
                "env": { "type": "object", "additionalProperties": { "type": "string" } },
                "items": { "type": "array", "items": {
                    "type": "object", "required": ["id"], "properties": { "id": { "type": ["integer", "null"] } }
                } },
                "mode": { "enum": ["fast", "slow"] },
            },
            "required": ["command"],
            "additionalProperties": false,
        })
    }

    #[test]
    fn good_arguments_pass() {
        assert_eq!(errors(schema(), json!({ "command": "ls", "items": [{ "id": 1 }] })), []);
    }

    #[test]
    fn every_error_is_named_with_its_path() {
        let arguments = json!({
            "env": { "PATH": 1, "HOME": "/" },
            "items": [{ "id": 1 }, {}, { "id": "x" }],
            "mode": "hunter2",
            "comand": "ls",
        });
        let errors = errors(schema(), arguments);
        let paths: Vec<&str> = errors.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["comand", "command", "env.PATH", "items[1].id", "items[2].id", "mode"]);
        assert_eq!(errors[1].1, "is required");
        assert_eq!(errors[2].1, "must be of type string");
        assert_eq!(errors[4].1, "must be of one of the types null, integer");
    }

    #[test]
    fn values_are_not_repeated() {
        for arguments in
            [json!({ "command": "", "mode": "hunter2" }), json!({ "command": ["hunter2"] })]
        {
            let shown = format!("{:?}", errors(schema(), arguments));
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn many_errors_are_counted() {
        let items: Vec<Value> = (0..1000).map(|_| json!({})).collect();
        let errors = errors(schema(), json!({ "command": "ls", "items": items }));
        assert_eq!(errors.len(), ERRORS_MAX + 1);
        assert_eq!(errors[0], (String::new(), "there are 900 more errors".to_owned()));
    }

    #[test]
    fn many_values_under_a_long_name_are_refused_without_a_list() {
        let items = vec![Value::Null; 100_000];
        let mut arguments = json!({ "command": "ls" });
        arguments["items"] = json!([{ "id": 1, "x".repeat(100_000): items }]);
        assert_eq!(errors(schema(), arguments.clone()), [], "valid ones are valid at any length");
        arguments["mode"] = json!("hunter2");
        let errors = errors(schema(), arguments);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].0.is_empty() && errors[0].1.contains("too long"), "{errors:?}");
    }

    #[test]
    fn a_bad_schema_is_refused() {
        for (schema, expected) in [
            (json!({ "type": "objekt" }), "type"),
            (json!({ "properties": { "a": { "minLength": -1 } } }), "properties.a.minLength"),
            (json!({ "properties": { "a": { "pattern": "(" } } }), "pattern"),
            (
                json!({ "$ref": "https://example.com/schema.json" }),
                "'https://example.com/schema.json' is not present in a registry, and nothing is fetched",
            ),
            (json!(true), "object"),
        ] {
            let error = Schema::compile(&schema).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
