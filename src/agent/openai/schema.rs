//! JSON Schemas of arguments as every chat endpoint accepts them.
//!
//! An endpoint refuses a whole request for one schema that it doesn't accept, so a model is shown the
//! most that all of them do. callpark checks the arguments against the schema as the tool declares it.

use serde_json::{Map, Value, json};

/// The property that holds the arguments of a tool whose schema is wrapped.
const ARGUMENTS: &str = "arguments";

/// The levels of a schema that are sent. Deeper ones accept anything.
const DEPTH_MAX: usize = 64;

/// The keywords that endpoints refuse at the top of a schema.
const COMBINATORS: [&str; 9] =
    ["anyOf", "oneOf", "allOf", "not", "enum", "const", "if", "then", "else"];

/// The keywords whose value is a schema.
const SCHEMAS: [&str; 10] = [
    "items",
    "additionalProperties",
    "not",
    "contains",
    "propertyNames",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// The keywords whose value is a list of schemas.
const LISTS: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];

/// The keywords whose value has a schema for each of its keys.
const MAPS: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// A schema that every endpoint accepts.
#[derive(Debug, PartialEq)]
pub(super) struct PortableSchema {
    pub(super) value: Value,
    /// `true` if the arguments are the value of the property `arguments`, because the schema is not
    /// that of a plain object.
    pub(super) is_wrapped: bool,
}

/// Returns the schema as every endpoint accepts it.
pub(super) fn portable(schema: &Value) -> PortableSchema {
    let Value::Object(mut top) = sanitized(schema, 0) else {
        return PortableSchema { value: open_object(), is_wrapped: false };
    };
    // They name the dialect and the address of the schema, and some endpoints know neither.
    for keyword in ["$schema", "$id", "id"] {
        if top.get(keyword).is_some_and(Value::is_string) {
            top.remove(keyword);
        }
    }
    let is_wrapped = top.contains_key("$ref") || COMBINATORS.iter().any(|k| top.contains_key(*k));
    let value = match is_wrapped {
        true => wrapped(top),
        false => {
            top.insert("type".into(), "object".into());
            top.entry("properties").or_insert_with(|| json!({}));
            Value::Object(top)
        }
    };
    PortableSchema { value, is_wrapped }
}

/// Returns arguments as the property of a wrapped schema.
pub(super) fn wrap_arguments(arguments: Value) -> Value {
    json!({ ARGUMENTS: arguments })
}

/// Returns the arguments in those of a wrapped schema, or `None` if the model didn't wrap them.
pub(super) fn unwrap_arguments(text: &str) -> Option<String> {
    let mut outer: Map<String, Value> = serde_json::from_str(text).ok()?;
    match (outer.remove(ARGUMENTS)?, outer.is_empty()) {
        (inner @ Value::Object(_), true) => Some(inner.to_string()),
        // A model that writes an object as text.
        (Value::String(inner), true) => {
            serde_json::from_str::<Map<String, Value>>(&inner).ok().map(|_| inner)
        }
        _ => None,
    }
}

fn open_object() -> Value {
    json!({ "type": "object", "properties": {} })
}

/// Returns the schema of an object that has the arguments as its one property. The definitions stay
/// at the top, where references look for them.
fn wrapped(mut inner: Map<String, Value>) -> Value {
    let mut top = Map::new();
    for keyword in ["$defs", "definitions"] {
        if let Some(definitions) = inner.remove(keyword) {
            top.insert(keyword.into(), definitions);
        }
    }
    let mut inner = Value::Object(inner);
    move_references(&mut inner);
    top.values_mut().for_each(move_references);
    top.insert("type".into(), "object".into());
    top.insert("properties".into(), json!({ ARGUMENTS: inner }));
    top.insert("required".into(), json!([ARGUMENTS]));
    top.insert("additionalProperties".into(), false.into());
    Value::Object(top)
}

/// Points references to the top of the schema to its new place.
fn move_references(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        let rest = target.strip_prefix('#');
                        let is_definition = |rest: &str| {
                            rest.starts_with("/$defs/") || rest.starts_with("/definitions/")
                        };
                        if let Some(rest) = rest.filter(|rest| !is_definition(rest)) {
                            *target = format!("#/properties/{ARGUMENTS}{rest}");
                        }
                    }
                    other => move_references(other),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(move_references),
        _ => {}
    }
}

/// Returns a schema, or a part of one, without what validators of endpoints trip over.
fn sanitized(schema: &Value, depth: usize) -> Value {
    let Value::Object(schema) = schema else { return json!({}) };
    if depth == DEPTH_MAX {
        return json!({});
    }
    let mut result = Map::new();
    for (keyword, value) in schema {
        if let Some(value) = sanitized_keyword(keyword, value, depth) {
            result.insert(keyword.clone(), value);
        }
    }
    move_exclusive_bounds(&mut result);
    match result.get("type").and_then(Value::as_str) {
        Some("object") => result.entry("properties").or_insert_with(|| json!({})),
        Some("array") => result.entry("items").or_insert_with(|| json!({})),
        _ => return Value::Object(result),
    };
    Value::Object(result)
}

/// Returns the value of a keyword, or `None` if it is left out.
fn sanitized_keyword(keyword: &str, value: &Value, depth: usize) -> Option<Value> {
    let sub_schema = |value: &Value| sanitized(value, depth + 1);
    match (keyword, value) {
        // `null` says nothing, except as a value of the arguments.
        (keyword, Value::Null) if !matches!(keyword, "default" | "const") => None,
        ("type", value) => type_names(value),
        // Old drafts have a schema for each item of a tuple.
        ("items", Value::Array(items)) if items.is_empty() => Some(json!({})),
        ("items", Value::Array(items)) => {
            Some(json!({ "anyOf": items.iter().map(sub_schema).collect::<Vec<_>>() }))
        }
        // A boolean is a schema that accepts everything or nothing.
        ("additionalProperties" | "unevaluatedProperties" | "unevaluatedItems", Value::Bool(_)) => {
            Some(value.clone())
        }
        (keyword, value) if SCHEMAS.contains(&keyword) => Some(sub_schema(value)),
        (keyword, Value::Array(values)) if LISTS.contains(&keyword) => {
            (!values.is_empty()).then(|| values.iter().map(sub_schema).collect())
        }
        (keyword, Value::Object(schemas)) if MAPS.contains(&keyword) => {
            let schemas = schemas.iter().map(|(name, value)| (name.clone(), sub_schema(value)));
            Some(Value::Object(schemas.collect()))
        }
        (keyword, _) if LISTS.contains(&keyword) || MAPS.contains(&keyword) => None,
        // The oldest drafts have a boolean at each property.
        ("required", Value::Array(names)) => {
            let names = names.iter().filter(|name| name.is_string()).cloned();
            Some(Value::Array(names.collect()))
        }
        ("required", _) => None,
        ("enum", Value::Array(values)) => (!values.is_empty()).then(|| value.clone()),
        ("enum", _) => None,
        _ => Some(value.clone()),
    }
}

/// Returns the names of types that exist, in the place of those that don't.
fn type_names(value: &Value) -> Option<Value> {
    let known = |name: &Value| {
        let name = match name.as_str()?.to_ascii_lowercase().as_str() {
            "string" | "str" | "text" => "string",
            "integer" | "int" | "long" => "integer",
            "number" | "float" | "double" => "number",
            "boolean" | "bool" => "boolean",
            "object" | "dict" | "map" => "object",
            "array" | "list" | "tuple" => "array",
            "null" | "none" => "null",
            _ => return None,
        };
        Some(Value::from(name))
    };
    let Value::Array(names) = value else { return known(value) };
    let mut result: Vec<Value> = Vec::new();
    for name in names.iter().filter_map(known) {
        if !result.contains(&name) {
            result.push(name);
        }
    }
    match result.len() {
        0 => None,
        1 => result.pop(),
        _ => Some(Value::Array(result)),
    }
}

/// Makes a number of an exclusive bound that says, as in draft 4, that the other bound is exclusive.
fn move_exclusive_bounds(schema: &mut Map<String, Value>) {
    for (exclusive, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        let Some(Value::Bool(is_exclusive)) = schema.get(exclusive) else { continue };
        let is_exclusive = *is_exclusive;
        schema.remove(exclusive);
        if is_exclusive && let Some(value) = schema.remove(bound) {
            schema.insert(exclusive.into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(schema: Value, expected: Value) {
        assert_eq!(portable(&schema), PortableSchema { value: expected, is_wrapped: false });
    }

    #[test]
    fn a_schema_of_a_plain_object_stays() {
        let schema = json!({
            "type": "object",
            "properties": { "n": { "type": ["integer", "null"], "minimum": 0, "default": null } },
            "required": ["n"],
            "additionalProperties": false,
        });
        becomes(schema.clone(), schema);
    }

    #[test]
    fn an_object_always_has_a_type_and_properties() {
        for schema in [
            json!({}),
            json!({ "type": "object" }),
            json!({ "type": ["object", "null"] }),
            json!({ "type": "object", "properties": null }),
            json!({ "type": "dict", "properties": [] }),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object" }),
            json!(true),
            Value::Null,
        ] {
            becomes(schema, open_object());
        }
        let inner = |schema| json!({ "type": "object", "properties": { "a": schema } });
        becomes(inner(json!({ "type": "object" })), inner(open_object()));
        becomes(inner(json!({ "type": "array" })), inner(json!({ "type": "array", "items": {} })));
    }

    #[test]
    fn what_only_old_drafts_or_no_draft_know_is_translated() {
        let of = |schema| json!({ "type": "object", "properties": { "a": schema } });
        for (schema, expected) in [
            (json!({ "type": "int" }), json!({ "type": "integer" })),
            (json!({ "type": "file", "title": "f" }), json!({ "title": "f" })),
            (json!({ "type": ["any", "str"] }), json!({ "type": "string" })),
            (json!(true), json!({})),
            (json!({ "type": "string", "required": true }), json!({ "type": "string" })),
            (json!({ "enum": [] }), json!({})),
            (json!({ "anyOf": null, "oneOf": [] }), json!({})),
            (
                json!({ "minimum": 1, "exclusiveMinimum": true, "exclusiveMaximum": false }),
                json!({ "exclusiveMinimum": 1 }),
            ),
            (
                json!({ "type": "array", "items": [{ "type": "int" }, true] }),
                json!({ "type": "array", "items": { "anyOf": [{ "type": "integer" }, {}] } }),
            ),
        ] {
            becomes(of(schema), of(expected));
        }
        // A property may have the name of a keyword.
        becomes(of(json!({ "type": "string" })), of(json!({ "type": "string" })));
        let named = json!({ "type": "object", "properties": { "type": { "type": "string" } } });
        becomes(named.clone(), named);
    }

    #[test]
    fn a_schema_that_combines_others_is_wrapped() {
        for (keyword, value) in [
            ("anyOf", json!([{ "required": ["a"] }])),
            ("oneOf", json!([{ "type": "object" }])),
            ("allOf", json!([{ "type": "object" }])),
            ("not", json!({ "required": ["a"] })),
            ("enum", json!([{ "a": 1 }])),
        ] {
            let schema = portable(&json!({ "type": "object", keyword: value }));
            assert!(schema.is_wrapped, "{keyword}");
            let Value::Object(top) = &schema.value else { panic!("not an object") };
            let mut keywords: Vec<&str> = top.keys().map(String::as_str).collect();
            keywords.sort_unstable();
            assert_eq!(keywords, ["additionalProperties", "properties", "required", "type"]);
            assert!(top["properties"]["arguments"].get(keyword).is_some());
        }
    }

    #[test]
    fn references_in_a_wrapped_schema_still_lead_somewhere() {
        let schema = json!({
            "$defs": { "tree": { "anyOf": [{ "$ref": "#/$defs/tree" }, { "$ref": "#/properties/a" }] } },
            "properties": { "a": { "type": "string" }, "b": { "$ref": "#" } },
            "allOf": [{ "$ref": "#/$defs/tree" }],
        });
        let value = portable(&schema).value;
        let arguments = &value["properties"]["arguments"];
        assert_eq!(arguments["allOf"][0]["$ref"], "#/$defs/tree");
        assert_eq!(arguments["properties"]["b"]["$ref"], "#/properties/arguments");
        let tree = &value["$defs"]["tree"]["anyOf"];
        assert_eq!(tree[1]["$ref"], "#/properties/arguments/properties/a");
        jsonschema::validator_for(&value).expect("is a schema");
    }

    #[test]
    fn arguments_are_unwrapped_only_if_the_model_wrapped_them() {
        for (text, expected) in [
            (r#"{"arguments":{"a":1}}"#, Some(r#"{"a":1}"#)),
            (r#"{"arguments":"{\"a\":1}"}"#, Some(r#"{"a":1}"#)),
            (r#"{"arguments":{"a":1},"b":2}"#, None),
            (r#"{"arguments":"ls"}"#, None),
            (r#"{"a":1}"#, None),
            ("{", None),
        ] {
            assert_eq!(unwrap_arguments(text).as_deref(), expected, "{text}");
        }
        assert_eq!(
            unwrap_arguments(&wrap_arguments(json!({ "a": 1 })).to_string()).as_deref(),
            Some(r#"{"a":1}"#)
        );
    }

    #[test]
    fn a_very_deep_schema_ends_where_it_is_cut() {
        let mut schema = json!({ "type": "string" });
        for _ in 0..100 {
            schema = json!({ "type": "object", "properties": { "a": schema } });
        }
        let text = portable(&schema).value.to_string();
        assert_eq!(text.matches("\"object\"").count(), DEPTH_MAX);
    }
}
