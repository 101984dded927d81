//! Arguments as models write them, brought into the form that a tool's schema asks for.
//!
//! Models write `null` for what they leave out, numbers as text, and JSON as text where an object or
//! an array is wanted. Where the schema leaves no doubt, such an argument is taken for what it is
//! meant to be. Programs that call the API are not read so leniently: they get an error that names
//! the argument.

use std::collections::HashSet;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::Arguments;
use super::schema::{are_paths_too_long, path_of};
use crate::model::Tool;

/// The most errors of arguments that are looked at in one check.
const ERRORS_MAX: usize = 1_000;

/// The number of times that arguments are checked: JSON in a text may hold further texts.
const ROUNDS_MAX: usize = 4;

/// The arguments of a call after they were brought into form.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CoercedArguments {
    /// The arguments. They may still break the schema.
    pub arguments: Arguments,
    /// The paths of the arguments that were given as text, with the types that they were read as.
    pub converted: Vec<(String, &'static str)>,
}

/// Brings the arguments of a call into the form that the tool's schema asks for. A schema that is not
/// valid asks for none. Arguments whose names are too long for a list of their errors stay as they
/// are.
pub fn coerce_arguments(tool: &Tool, arguments: Arguments) -> CoercedArguments {
    let mut converted = Vec::new();
    let validator = tool.input_schema.as_object().map(|_| &tool.input_schema);
    let Some(Ok(validator)) = validator.map(jsonschema::validator_for) else {
        return CoercedArguments { arguments, converted };
    };
    let mut root = Value::Object(arguments);
    for _ in 0..ROUNDS_MAX {
        if validator.is_valid(&root) || are_paths_too_long(&root) {
            break;
        }
        let has_removed = remove_nulls(&validator, &mut root);
        let has_converted = convert_texts(&validator, &mut root, &mut converted);
        if !has_removed && !has_converted {
            break;
        }
    }
    match root {
        Value::Object(arguments) => CoercedArguments { arguments, converted },
        // It was an object, and none of its members is the root.
        _ => CoercedArguments { converted, ..CoercedArguments::default() },
    }
}

/// Removes the members of objects that are `null` and may not be, unless they are required. Returns
/// whether any was removed.
fn remove_nulls(validator: &Validator, root: &mut Value) -> bool {
    let nulls = pointers(validator, root, |error| error.instance().is_null());
    let members = nulls.iter().filter_map(|pointer| Member::of(pointer));
    let removed: Vec<Member<'_>> = members.filter(|member| member.remove(root)).collect();
    if removed.is_empty() {
        return false;
    }
    // A required one gets its null back, so that the error is about the null.
    let required: HashSet<(String, String)> = validator
        .iter_errors(root)
        .take(ERRORS_MAX)
        .filter_map(|error| match error.kind() {
            ValidationErrorKind::Required { property } => {
                Some((error.instance_path().to_string(), property.as_str()?.to_owned()))
            }
            _ => None,
        })
        .collect();
    let is_required =
        |member: &&Member<'_>| required.contains(&(member.parent.to_owned(), member.key.clone()));
    let restored = removed.iter().filter(is_required);
    let restored = restored.map(|member| member.insert(root, Value::Null)).count();
    restored < removed.len()
}

/// Replaces texts by the JSON in them where only that satisfies the schema. Returns whether any was
/// replaced.
fn convert_texts(
    validator: &Validator,
    root: &mut Value,
    converted: &mut Vec<(String, &'static str)>,
) -> bool {
    let mut candidates = Vec::new();
    for error in validator.iter_errors(root).take(ERRORS_MAX) {
        let Value::String(text) = error.instance().as_ref() else { continue };
        if let (true, Some((value, kind))) = (is_about_type(&error), parse(text)) {
            let path = path_of(error.instance_path(), None);
            candidates.push((error.instance_path().to_string(), path, value, kind));
        }
    }
    if candidates.is_empty() {
        return false;
    }
    let mut replaced = Vec::with_capacity(candidates.len());
    for (pointer, path, value, kind) in candidates {
        // The same text may break several rules.
        if let Some(place @ Value::String(_)) = root.pointer_mut(&pointer) {
            let text = std::mem::replace(place, value);
            replaced.push((pointer, path, text, kind));
        }
    }
    let is_too_long = are_paths_too_long(root);
    let wrong: HashSet<String> = match is_too_long {
        true => HashSet::new(),
        false => pointers(validator, root, is_about_type).into_iter().collect(),
    };
    let before = converted.len();
    for (pointer, path, text, kind) in replaced {
        match root.pointer_mut(&pointer) {
            Some(place) if is_too_long || wrong.contains(&pointer) => *place = text,
            _ => converted.push((path, kind)),
        }
    }
    converted.len() > before
}

/// Returns the places of the values with such errors.
fn pointers(
    validator: &Validator,
    root: &Value,
    filter: impl Fn(&ValidationError<'_>) -> bool,
) -> Vec<String> {
    let errors = validator.iter_errors(root).take(ERRORS_MAX);
    errors.filter(filter).map(|error| error.instance_path().to_string()).collect()
}

/// Returns whether a value is of a wrong type, or fits none of several forms.
fn is_about_type(error: &ValidationError<'_>) -> bool {
    matches!(
        error.kind(),
        ValidationErrorKind::Type { .. }
            | ValidationErrorKind::AnyOf { .. }
            | ValidationErrorKind::OneOfNotValid { .. }
    )
}

/// Returns the JSON in a text, with the name of its type, unless it is `null` or a text again.
fn parse(text: &str) -> Option<(Value, &'static str)> {
    match text.trim() {
        "True" => return Some((true.into(), "boolean")),
        "False" => return Some((false.into(), "boolean")),
        _ => {}
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let kind = match &value {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Null | Value::String(_) => return None,
    };
    Some((value, kind))
}

/// A member of an object.
struct Member<'a> {
    /// The JSON pointer to the object.
    parent: &'a str,
    key: String,
}

impl<'a> Member<'a> {
    /// Returns the member of an object, or the item of a list, at a JSON pointer; `None` for the root.
    fn of(pointer: &'a str) -> Option<Self> {
        let (parent, key) = pointer.rsplit_once('/')?;
        Some(Self { parent, key: key.replace("~1", "/").replace("~0", "~") })
    }

    /// Removes the member. Returns `false` if it is the item of a list, or was removed before.
    fn remove(&self, root: &mut Value) -> bool {
        let parent = root.pointer_mut(self.parent).and_then(Value::as_object_mut);
        parent.is_some_and(|members| members.remove(&self.key).is_some())
    }

    fn insert(&self, root: &mut Value, value: Value) {
        if let Some(Value::Object(members)) = root.pointer_mut(self.parent) {
            members.insert(self.key.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{ToolKind, ToolSource};

    fn coerced(schema: &Value, arguments: Value) -> (Value, Vec<String>) {
        let tool = Tool::new("t", "", schema.clone(), ToolKind::BuiltIn, ToolSource::Config);
        let Value::Object(arguments) = arguments else { panic!("not an object") };
        let coerced = coerce_arguments(&tool, arguments);
        let converted = coerced.converted.iter().map(|(path, kind)| format!("{path}: {kind}"));
        (Value::Object(coerced.arguments), converted.collect())
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "q": { "type": "string" },
                "limit": { "type": "integer" },
                "ratio": { "type": ["number", "null"] },
                "deep": { "type": "boolean" },
                "env": { "type": "object", "additionalProperties": { "type": "string" } },
                "filter": { "$ref": "#/$defs/filter" },
                "ids": { "type": "array", "items": { "type": "integer" } },
                "page": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
                "key": { "anyOf": [{ "type": "integer" }, { "type": "string" }] },
                "mode": { "enum": ["fast", "slow"] },
                "any": {},
            },
            "required": ["q"],
            "additionalProperties": false,
            "$defs": { "filter": {
                "type": "object",
                "properties": { "a/b": { "type": "integer" }, "n": { "type": "integer" } },
                "required": ["n"],
            } },
        })
    }

    #[test]
    fn null_counts_as_left_out_where_it_is_not_allowed() {
        let arguments = json!({
            "q": "x", "limit": null, "ratio": null, "env": { "A": null, "B": "b" }, "page": null,
            "mode": null, "any": null, "filter": { "a/b": null, "n": 1 },
        });
        let expected = json!({
            "q": "x", "ratio": null, "env": { "B": "b" }, "page": null, "any": null,
            "filter": { "n": 1 },
        });
        assert_eq!(coerced(&schema(), arguments), (expected, Vec::new()));
    }

    #[test]
    fn null_for_what_is_required_or_unknown_stays_an_error() {
        for arguments in [
            json!({ "q": null }),
            json!({ "q": "x", "filter": { "n": null } }),
            json!({ "q": "x", "ids": [1, null] }),
        ] {
            assert_eq!(coerced(&schema(), arguments.clone()), (arguments, Vec::new()));
        }
    }

    #[test]
    fn texts_are_read_as_the_schema_asks() {
        let arguments = json!({
            "q": "1", "limit": "25", "ratio": "0.5", "deep": "True", "page": "2", "key": "7",
            "ids": "[1, \"2\"]", "filter": "{\"n\": \"9007199254740993\"}",
        });
        let (arguments, mut converted) = coerced(&schema(), arguments);
        let expected = json!({
            "q": "1", "limit": 25, "ratio": 0.5, "deep": true, "page": 2, "key": "7",
            "ids": [1, 2], "filter": { "n": 9_007_199_254_740_993_u64 },
        });
        assert_eq!(arguments, expected);
        converted.sort_unstable();
        let expected = [
            "deep: boolean",
            "filter.n: number",
            "filter: object",
            "ids: array",
            "ids[1]: number",
            "limit: number",
            "page: number",
            "ratio: number",
        ];
        assert_eq!(converted, expected);
    }

    #[test]
    fn texts_that_leave_doubt_stay_as_they_are() {
        let arguments = json!({
            "q": "x", "limit": "1.5", "ratio": "a lot", "deep": "yes", "mode": "1", "page": "null",
            "ids": "1, 2", "env": "{'A': 1}", "any": "5",
        });
        assert_eq!(coerced(&schema(), arguments.clone()), (arguments, Vec::new()));
    }

    #[test]
    fn a_schema_that_is_not_valid_changes_nothing() {
        for schema in [json!({ "type": "objekt" }), json!(true), json!(null)] {
            let arguments = json!({ "a": null, "b": "1" });
            assert_eq!(coerced(&schema, arguments.clone()), (arguments, Vec::new()));
        }
    }

    #[test]
    fn a_great_many_errors_are_looked_at_in_part() {
        let ids: Vec<Value> = (0..100_000).map(|_| json!("1")).collect();
        let (arguments, converted) = coerced(&schema(), json!({ "q": "x", "ids": ids }));
        assert_eq!(converted.len(), ROUNDS_MAX * ERRORS_MAX);
        assert_eq!(arguments["ids"][99_999], json!("1"));
    }
}
