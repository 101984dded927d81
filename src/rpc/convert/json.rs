//! Conversions between JSON and the messages of `google.protobuf` that represent it.

use std::fmt;

use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Number, Value as Json};

use super::{FieldReader, ViolationReason};
use crate::model::limits::ARGUMENTS_DEPTH_MAX;

/// Converts a struct to a JSON object. Values that JSON cannot represent are violations.
pub(crate) fn map_from_struct(
    fields: &mut FieldReader,
    path: &str,
    value: Struct,
) -> Map<String, Json> {
    object(fields, Path { outer: None, step: Step::Field(path) }, value, 1)
}

/// The place of a value: a step from the place of the value around it. It is written out only for a
/// violation, because a long name may stand before very many values.
#[derive(Clone, Copy)]
struct Path<'a> {
    outer: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    /// The field of the message.
    Field(&'a str),
    Member(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    fn to(&'a self, step: Step<'a>) -> Self {
        Self { outer: Some(self), step }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer {
            outer.fmt(f)?;
        }
        match self.step {
            Step::Field(name) => f.write_str(name),
            Step::Member(name) => write!(f, ".{name}"),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

fn object(
    fields: &mut FieldReader,
    path: Path<'_>,
    value: Struct,
    depth: usize,
) -> Map<String, Json> {
    let member = |(key, value): (String, Value)| {
        let json = json(fields, path.to(Step::Member(&key)), value, depth);
        (key, json)
    };
    value.fields.into_iter().map(member).collect()
}

/// Converts a value inside a container of this depth. The outermost container has depth 1.
fn json(fields: &mut FieldReader, path: Path<'_>, value: Value, depth: usize) -> Json {
    let is_container = matches!(value.kind, Some(Kind::StructValue(_) | Kind::ListValue(_)));
    if is_container && depth >= ARGUMENTS_DEPTH_MAX {
        let description = format!("is nested deeper than {ARGUMENTS_DEPTH_MAX} levels");
        fields.violation(path, ViolationReason::TooLarge, description);
        return Json::Null;
    }
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(value),
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::NumberValue(number)) => match exact_number(number) {
            Some(number) => Json::Number(number),
            None => {
                let description = "must be a finite number: JSON has no NaN and no infinity";
                fields.violation(path, ViolationReason::InvalidFormat, description);
                Json::Null
            }
        },
        Some(Kind::StructValue(value)) => Json::Object(object(fields, path, value, depth + 1)),
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().enumerate();
            let item = |(index, value)| json(fields, path.to(Step::Item(index)), value, depth + 1);
            Json::Array(items.map(item).collect())
        }
    }
}

/// Converts a number, or returns `None` if it is not finite. A whole number becomes an integer, as
/// tools may require one.
fn exact_number(number: f64) -> Option<Number> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 2^53")]
        return Some(Number::from(number as i64));
    }
    Number::from_f64(number)
}

/// Converts a JSON object to a struct.
pub(crate) fn struct_from_map(map: Map<String, Json>) -> Struct {
    Struct { fields: map.into_iter().map(|(key, value)| (key, value_from_json(value))).collect() }
}

/// Converts a JSON value.
pub(crate) fn value_from_json(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(value_from_json).collect() })
        }
        Json::Object(map) => Kind::StructValue(struct_from_map(map)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(json: Json) -> Json {
        let mut fields = FieldReader::default();
        let Json::Object(map) = json else { panic!("an object") };
        let map = map_from_struct(&mut fields, "arguments", struct_from_map(map));
        fields.finish(Json::Object(map)).expect("no violations")
    }

    #[test]
    fn json_survives_a_round_trip() {
        let json = serde_json::json!({
            "text": "a", "number": 3, "fraction": 0.5, "null": null, "list": [1, [true], {}],
        });
        assert_eq!(round_trip(json.clone()), json);
    }

    #[test]
    fn numbers_that_json_does_not_have_are_violations() {
        let mut fields = FieldReader::default();
        let value = Struct {
            fields: [("a".into(), Value { kind: Some(Kind::NumberValue(f64::NAN)) })].into(),
        };
        map_from_struct(&mut fields, "arguments", value);
        let violations = fields.finish(()).unwrap_err().violations;
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].field, "arguments.a");
    }

    #[test]
    fn many_wrong_values_under_a_long_name_are_counted() {
        let nan = Value { kind: Some(Kind::NumberValue(f64::NAN)) };
        let list = ListValue { values: vec![nan; 50_000] };
        let value = Value { kind: Some(Kind::ListValue(list)) };
        let mut fields = FieldReader::default();
        let value = Struct { fields: [("x".repeat(500_000), value)].into() };
        map_from_struct(&mut fields, "arguments", value);
        let found = fields.finish(()).unwrap_err();
        assert_eq!(found.violations.len() + found.more, 50_000);
        assert!(found.violations[1].field.ends_with("x[1]"));
        let paths: usize = found.violations.iter().map(|violation| violation.field.len()).sum();
        assert!(paths < 10_000_000, "{paths}");
    }

    #[test]
    fn a_value_that_is_nested_too_deep_is_one_violation() {
        let mut json = serde_json::json!({});
        for _ in 0..ARGUMENTS_DEPTH_MAX {
            json = serde_json::json!({ "a": json });
        }
        let mut fields = FieldReader::default();
        let Json::Object(map) = json else { panic!("an object") };
        map_from_struct(&mut fields, "arguments", struct_from_map(map));
        assert_eq!(fields.finish(()).unwrap_err().violations.len(), 1);
    }
}
