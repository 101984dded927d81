//! The arguments of a tool call.

use prost_types::Struct;

use crate::error::Error;

/// Arguments of a tool call: a [`prost_types::Struct`] or, with the feature `json`, a
/// `serde_json::Value` that is an object. Sealed.
///
/// ```
/// use callpark_client::{IntoArguments as _, Origin};
/// use serde_json::json;
///
/// assert!(json!({ "command": "ls" }).into_arguments().is_ok());
/// assert_eq!(json!("ls").into_arguments().unwrap_err().origin(), Origin::Request);
/// ```
pub trait IntoArguments: sealed::Sealed {
    /// Converts the arguments.
    ///
    /// # Errors
    /// [`Origin::Request`](crate::Origin::Request) if the value is not an object, or contains an
    /// integer that is not exactly representable as a 64-bit float.
    fn into_arguments(self) -> Result<Struct, Error>;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for prost_types::Struct {}

    #[cfg(feature = "json")]
    impl Sealed for serde_json::Value {}

    #[cfg(feature = "json")]
    impl Sealed for serde_json::Map<String, serde_json::Value> {}
}

impl IntoArguments for Struct {
    fn into_arguments(self) -> Result<Struct, Error> {
        Ok(self)
    }
}

#[cfg(feature = "json")]
mod json {
    use prost_types::{ListValue, Struct, Value, value::Kind};
    use serde_json::{Map, Number, Value as Json};

    use super::{Error, IntoArguments};

    impl IntoArguments for Json {
        fn into_arguments(self) -> Result<Struct, Error> {
            let type_name = match self {
                Self::Object(fields) => return to_struct(fields),
                Self::Array(_) => "an array",
                Self::String(_) => "a string",
                Self::Number(_) => "a number",
                Self::Bool(_) => "a boolean",
                Self::Null => "null",
            };
            Err(Error::request(format!("the arguments are {type_name}: pass a JSON object")))
        }
    }

    impl IntoArguments for Map<String, Json> {
        fn into_arguments(self) -> Result<Struct, Error> {
            to_struct(self)
        }
    }

    fn to_struct(fields: Map<String, Json>) -> Result<Struct, Error> {
        let fields = fields.into_iter().map(|(name, value)| Ok((name, to_value(value)?)));
        Ok(Struct { fields: fields.collect::<Result<_, Error>>()? })
    }

    fn to_value(value: Json) -> Result<Value, Error> {
        let kind = match value {
            Json::Null => Kind::NullValue(0),
            Json::Bool(value) => Kind::BoolValue(value),
            Json::Number(number) => Kind::NumberValue(to_float(&number)?),
            Json::String(text) => Kind::StringValue(text),
            Json::Array(values) => {
                let values = values.into_iter().map(to_value).collect::<Result<_, _>>()?;
                Kind::ListValue(ListValue { values })
            }
            Json::Object(fields) => Kind::StructValue(to_struct(fields)?),
        };
        Ok(Value { kind: Some(kind) })
    }

    /// A message has 64-bit floats only. An integer that would be rounded is refused instead.
    fn to_float(number: &Number) -> Result<f64, Error> {
        let is_exact = |float: f64| match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => float as i128 == i128::from(integer),
            (None, Some(integer)) => float as i128 == i128::from(integer),
            (None, None) => true,
        };
        number.as_f64().filter(|float| is_exact(*float)).ok_or_else(|| {
            let message = format!(
                "the number {number} in the arguments cannot be represented exactly as a 64-bit \
                 float: pass it as a string"
            );
            Error::request(message)
        })
    }

    #[cfg(test)]
    mod tests {
        use serde_json::json;

        use super::*;
        use crate::error::Origin;

        #[test]
        fn an_object_becomes_a_struct() {
            let arguments = json!({
                "text": "x", "number": -2.5, "yes": true, "none": null, "list": [1, { "a": [] }],
            });
            let fields = arguments.into_arguments().unwrap().fields;
            let kind = |name: &str| fields[name].kind.clone().unwrap();
            assert_eq!(kind("text"), Kind::StringValue("x".to_owned()));
            assert_eq!(kind("number"), Kind::NumberValue(-2.5));
            assert_eq!(kind("yes"), Kind::BoolValue(true));
            assert_eq!(kind("none"), Kind::NullValue(0));
            let Kind::ListValue(list) = kind("list") else { panic!("no list") };
            assert_eq!(list.values[0].kind, Some(Kind::NumberValue(1.0)));
        }

        #[test]
        fn arguments_that_are_not_an_object_are_refused() {
            let error = json!([1]).into_arguments().unwrap_err();
            assert_eq!((error.origin(), error.attempts()), (Origin::Request, 0));
            assert!(error.to_string().contains("an array: pass a JSON object"), "{error}");
        }

        #[test]
        fn an_integer_is_never_rounded() {
            for exact in [json!(1_u64 << 53), json!(i64::MIN), json!(u64::MAX - 2_047)] {
                assert!(json!({ "n": exact }).into_arguments().is_ok(), "{exact}");
            }
            for inexact in [json!((1_u64 << 53) + 1), json!(i64::MAX), json!(u64::MAX)] {
                let error = json!({ "n": inexact }).into_arguments().unwrap_err().to_string();
                assert!(error.contains(&inexact.to_string()), "{error}");
            }
        }
    }
}
