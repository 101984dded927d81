//! Messages as canonical protobuf JSON, and JSON values as messages.

use std::sync::OnceLock;

use callpark_client::{prost_types, v1};
use prost_reflect::{DescriptorPool, DynamicMessage, prost::Message};
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde::Serialize;

use crate::cli::error::Failure;

/// A message of `callpark.v1` that can be written as JSON.
pub(crate) trait JsonMessage: Message {
    /// The full name of the message in the contract.
    const NAME: &'static str;
}

/// A message that lists entries.
pub(crate) trait JsonList: JsonMessage {
    /// The JSON name of the field with the entries.
    const ENTRIES: &'static str;
}

impl JsonList for v1::ListResponse {
    const ENTRIES: &'static str = "tasks";
}

impl JsonList for v1::ListSessionsResponse {
    const ENTRIES: &'static str = "sessions";
}

impl JsonList for v1::ListFollowUpsResponse {
    const ENTRIES: &'static str = "followUps";
}

impl JsonList for v1::ListToolsResponse {
    const ENTRIES: &'static str = "tools";
}

macro_rules! json_messages {
    ($($message:ident),+ $(,)?) => {$(
        impl JsonMessage for v1::$message {
            const NAME: &'static str = concat!("callpark.v1.", stringify!($message));
        }
    )+};
}

json_messages!(
    Caller,
    CancelResponse,
    CloseSessionResponse,
    DeleteResponse,
    FollowUp,
    ListFollowUpsResponse,
    ListResponse,
    ListSessionsResponse,
    ListToolsResponse,
    ReadOutputResponse,
    RetryFollowUpResponse,
    Session,
    SessionEvent,
    Task,
);

/// Returns a message as canonical protobuf JSON: names in camel case, 64-bit numbers and bytes as
/// strings, times in RFC 3339, and no fields that have their default.
pub(crate) fn canonical<M: JsonMessage>(message: &M) -> Result<impl Serialize, Failure> {
    let failed = |error: String| {
        Failure::unexpected_answer(format!("{} cannot be written as JSON: {error}", M::NAME))
    };
    let descriptor = pool()?
        .get_message_by_name(M::NAME)
        .ok_or_else(|| failed("its descriptor is missing".to_owned()))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|error| failed(error.to_string()))?;
    Ok(dynamic)
}

/// Returns the descriptors of the contract and of the details that errors carry.
fn pool() -> Result<&'static DescriptorPool, Failure> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    let decode = || {
        DescriptorPool::decode(callpark_proto::FILE_DESCRIPTOR_SET)
            .map_err(|error| error.to_string())
    };
    let pool = POOL.get_or_init(decode).as_ref();
    pool.map_err(|error| {
        Failure::unexpected_answer(format!("the contract's descriptors cannot be read: {error}"))
    })
}

/// Converts a JSON object to a message.
pub(crate) fn to_struct(object: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: object.into_iter().map(|(name, value)| (name, to_value(value))).collect() }
}

fn to_value(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        // The contract has doubles. Only a number beyond their range has no equivalent.
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(value) => Kind::StringValue(value),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(to_value).collect() })
        }
        serde_json::Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    Value { kind: Some(kind) }
}

/// Converts a message that holds any JSON value.
pub(crate) fn from_value(value: &Value) -> serde_json::Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(value)) => from_number(*value),
        Some(Kind::StringValue(value)) => value.as_str().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(from_value).collect(),
        Some(Kind::StructValue(object)) => from_struct(object),
    }
}

/// Converts a message that holds a JSON object.
pub(crate) fn from_struct(object: &Struct) -> serde_json::Value {
    let fields = object.fields.iter();
    serde_json::Value::Object(
        fields.map(|(name, value)| (name.clone(), from_value(value))).collect(),
    )
}

/// Converts a number, so that a whole one is written as `3`, not `3.0`.
fn from_number(value: f64) -> serde_json::Value {
    /// The largest magnitude up to which every whole number is a double.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
        return (value as i64).into();
    }
    serde_json::Number::from_f64(value).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value<M: JsonMessage>(message: &M) -> serde_json::Value {
        serde_json::to_value(canonical(message).unwrap()).unwrap()
    }

    #[test]
    fn the_details_of_an_error_are_json_too() {
        let info = callpark_client::google::rpc::ErrorInfo {
            reason: "HOST_LOST".to_owned(),
            domain: "callpark".to_owned(),
            ..Default::default()
        };
        let detail = prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
            value: info.encode_to_vec(),
        };
        let error = callpark_client::google::rpc::Status {
            code: 14,
            message: "gone".to_owned(),
            details: vec![detail],
        };
        let outcome = Some(v1::task::Outcome::Error(error));
        let task = value(&v1::Task { outcome, ..Default::default() });
        assert_eq!(task["error"]["details"][0]["reason"], "HOST_LOST");
    }

    #[test]
    fn a_message_is_canonical_json() {
        let event = v1::SessionEvent {
            session_id: "ses-1".to_owned(),
            sequence: 7,
            create_time: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
            payload: Some(v1::session_event::Payload::ToolOutput(v1::ToolOutput {
                stream: v1::OutputStream::Stdout.into(),
                data: vec![0xff, 0].into(),
                ..Default::default()
            })),
            ..Default::default()
        };
        let expected = json!({
            "sessionId": "ses-1",
            "sequence": "7",
            "createTime": "1970-01-01T00:00:01.500Z",
            "toolOutput": { "stream": "OUTPUT_STREAM_STDOUT", "data": "/wA=" },
        });
        assert_eq!(value(&event), expected);
    }

    #[test]
    fn every_named_message_is_described() {
        assert_eq!(value(&v1::Task::default()), json!({}));
        assert_eq!(value(&v1::ListToolsResponse::default()), json!({}));
        assert_eq!(value(&v1::ReadOutputResponse::default()), json!({}));
    }

    #[test]
    fn json_survives_the_way_there_and_back() {
        let value = json!({ "a": [1, -2.5, true, null, "x"], "b": { "c": {} }, "d": 1e300 });
        let object = value.as_object().unwrap().clone();
        assert_eq!(from_struct(&to_struct(object)), value);
    }
}
