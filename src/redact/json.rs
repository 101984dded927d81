//! JSON, which keeps its shape: members by their names, and strings by what they hold.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::name::is_secret;
use super::{HIDDEN, redacted_words};

/// The number of texts inside of each other that are read as JSON.
const TEXTS_MAX: usize = 8;

/// A document that keeps the order of its members, and those with the same name.
enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Json>),
    Members(Vec<(String, Json)>),
}

/// Returns a text with its secrets replaced if it is JSON, and the text itself if it has none. `depth` is the
/// number of texts around it.
pub(super) fn redacted(text: &str, depth: usize) -> Option<String> {
    // A number or a word is no document.
    if !text.trim_start().starts_with(['{', '[', '"']) {
        return None;
    }
    let mut document: Json = serde_json::from_str(text).ok()?;
    match document.hide(depth) {
        false => Some(text.to_owned()),
        true => serde_json::to_string(&document).ok(),
    }
}

impl Json {
    /// Replaces the secrets, and returns whether there were any.
    fn hide(&mut self, depth: usize) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => false,
            Self::Text(text) => hide_text(text, depth),
            Self::List(items) => {
                let is_flag = |item: &Self| matches!(item, Self::Text(text) if text.starts_with('-') && !text.contains(['=', ' ']) && is_secret(text));
                let mut is_changed = false;
                for index in 0..items.len() {
                    // The words of a command line.
                    let is_value =
                        index.checked_sub(1).is_some_and(|before| is_flag(&items[before]));
                    let item = &mut items[index];
                    is_changed |= match item {
                        Self::Text(text) if is_value && !text.starts_with('-') => item.replace(),
                        item => item.hide(depth),
                    };
                }
                is_changed
            }
            Self::Members(members) => {
                let mut is_changed = false;
                for (name, value) in members {
                    is_changed |= match value {
                        Self::Null | Self::Bool(_) => false,
                        value if is_secret(name) => value.replace(),
                        value => value.hide(depth),
                    };
                    is_changed |= hide_text(name, TEXTS_MAX);
                }
                is_changed
            }
        }
    }

    fn replace(&mut self) -> bool {
        if matches!(self, Self::Text(text) if text == HIDDEN || text.is_empty()) {
            return false;
        }
        *self = Self::Text(HIDDEN.to_owned());
        true
    }
}

/// Replaces the secrets of a text inside of JSON, which may itself hold JSON.
fn hide_text(text: &mut String, depth: usize) -> bool {
    let is_document = text.trim_start().starts_with(['{', '[']);
    let shown = match is_document {
        true if depth < TEXTS_MAX => redacted(text, depth + 1).or_else(|| redacted_words(text)),
        _ => redacted_words(text),
    };
    let shown = shown.unwrap_or_else(|| HIDDEN.to_owned());
    let is_changed = shown != *text;
    *text = shown;
    is_changed
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Self::Members(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        let number = serde_json::Number::from_f64(value);
        number.map(Json::Number).ok_or_else(|| E::custom("a number that JSON does not have"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Json::Members(members))
    }
}
