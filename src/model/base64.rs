//! Bytes inside JSON: as base64, a third of what an array of numbers takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    /// Either form: records that were stored as arrays of numbers can still be read.
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
