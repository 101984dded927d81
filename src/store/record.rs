//! Records as JSON with a checksum in front.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// The characters of the checksum, in hexadecimal.
const CHECKSUM_LENGTH: usize = 8;

/// Returns a record as its columns hold it: the CRC-32C of the JSON, and the JSON.
pub(super) fn encode(record: &impl Serialize) -> Result<String, StoreError> {
    let mut text = vec![b'0'; CHECKSUM_LENGTH];
    serde_json::to_writer(&mut text, record).map_err(|cause| unwritable(&cause))?;
    finish(text)
}

/// Returns JSON as its columns hold it.
pub(super) fn encode_json(json: &str) -> String {
    format!("{:08x}{json}", crc32c::crc32c(json.as_bytes()))
}

fn finish(mut text: Vec<u8>) -> Result<String, StoreError> {
    let checksum = format!("{:08x}", crc32c::crc32c(&text[CHECKSUM_LENGTH..]));
    text[..CHECKSUM_LENGTH].copy_from_slice(checksum.as_bytes());
    String::from_utf8(text).map_err(|cause| unwritable(&cause))
}

fn unwritable(cause: &dyn std::error::Error) -> StoreError {
    StoreError::Unavailable(format!("a record cannot be written: {cause}"))
}

/// Returns the JSON of a column. The records of versions before 0.3 have no checksum.
///
/// # Errors
///
/// Returns the reason if the checksum is another one.
pub(super) fn json(text: &str) -> Result<&str, String> {
    if text.starts_with('{') {
        return Ok(text);
    }
    let (checksum, json) = text.split_at_checked(CHECKSUM_LENGTH).ok_or("it is cut off")?;
    let checksum = u32::from_str_radix(checksum, 16).map_err(|_| "it has no checksum")?;
    match crc32c::crc32c(json.as_bytes()) == checksum {
        true => Ok(json),
        false => Err("its checksum is wrong".to_owned()),
    }
}

/// Reads a record from the text of its column. `what` names it in an error.
///
/// # Errors
///
/// Returns [`StoreError::Corrupt`] if it cannot be read back.
pub(super) fn decode<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, StoreError> {
    let json = json(text).map_err(|cause| corrupt(what, &cause))?;
    serde_json::from_str(json).map_err(|cause| corrupt(what, &cause))
}

/// Returns the error of a record that cannot be read back.
pub(super) fn corrupt(what: &str, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{what}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let text = encode(&serde_json::json!({"a": [1, 2.5, "ü"], "b": null})).unwrap();
        assert!(json(&text).is_ok());
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone().into_bytes();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let Ok(damaged) = String::from_utf8(damaged) else { continue };
            let read = json(&damaged).map(serde_json::from_str::<serde_json::Value>);
            // The checksum may be in capital letters.
            let same = damaged.eq_ignore_ascii_case(&text) && bit < CHECKSUM_LENGTH * 8;
            assert!(same || !matches!(read, Ok(Ok(_))), "bit {bit}: {damaged}");
        }
    }

    #[test]
    fn json_without_a_checksum_is_read() {
        assert_eq!(json(r#"{"a":1}"#), Ok(r#"{"a":1}"#));
        assert_eq!(json(&encode_json("[1]")), Ok("[1]"));
        assert!(json("").is_err());
    }
}
