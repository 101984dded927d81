//! Fields as bytes, so that a request can hold what no library would encode.

use prost::encoding::{WireType, encode_key, encode_varint};

/// A field of bytes, of text or of a message.
pub fn delimited(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 12);
    encode_key(number, WireType::LengthDelimited, &mut bytes);
    encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// A whole number, an enum's value or a flag.
pub fn varint(number: u32, value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(number, WireType::Varint, &mut bytes);
    encode_varint(value.cast_unsigned(), &mut bytes);
    bytes
}

/// A double, and for every other type of field the wrong wire type.
pub fn double(number: u32, value: f64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(number, WireType::SixtyFourBit, &mut bytes);
    bytes.extend(value.to_le_bytes());
    bytes
}

/// A float, and for a double the wrong wire type.
pub fn float(number: u32, value: f32) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(number, WireType::ThirtyTwoBit, &mut bytes);
    bytes.extend(value.to_le_bytes());
    bytes
}

/// An entry of a map from text to something that is delimited.
pub fn entry(number: u32, key: &[u8], value: &[u8]) -> Vec<u8> {
    delimited(number, &[delimited(1, key), delimited(2, value)].concat())
}

/// A `google.protobuf.Duration` or `Timestamp`, as the content of a field.
pub fn moment(seconds: i64, nanos: i64) -> Vec<u8> {
    [varint(1, seconds), varint(2, nanos)].concat()
}

/// A piece of JSON as the content of a `google.protobuf.Value`.
pub mod json {
    use super::{delimited, double, entry, varint};

    /// Null, by a number that may be wrong.
    pub fn null(number: i64) -> Vec<u8> {
        varint(1, number)
    }

    /// A number.
    pub fn number(value: f64) -> Vec<u8> {
        double(2, value)
    }

    /// A text.
    pub fn text(text: &[u8]) -> Vec<u8> {
        delimited(3, text)
    }

    /// An object, of the content of a `Struct`.
    pub fn object(fields: &[u8]) -> Vec<u8> {
        delimited(5, fields)
    }

    /// A list, of the content of a `ListValue`.
    pub fn list(values: &[u8]) -> Vec<u8> {
        delimited(6, values)
    }

    /// One field of an object.
    pub fn field(key: &str, value: &[u8]) -> Vec<u8> {
        entry(1, key.as_bytes(), value)
    }

    /// One value of a list.
    pub fn item(value: &[u8]) -> Vec<u8> {
        delimited(1, value)
    }
}
