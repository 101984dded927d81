//! Serde of bytes as base64, which takes a third of the space of a JSON array of numbers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    /// Earlier versions stored arrays of numbers.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Numbers(Vec<u8>),
    }
    match Form::deserialize(deserializer)? {
        Form::Text(text) => {
            let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
            Ok(bytes.into())
        }
        Form::Numbers(numbers) => Ok(numbers.into()),
    }
}
