//! The tables of a store, as a copy writes them.

use serde::de::DeserializeOwned;

use super::value::Value;
use crate::model::{Call, FollowUp, Labels, Session};
use crate::store::{RequestEffect, postgres, record};

/// A table with all of its columns.
#[derive(Debug)]
pub(in crate::store) struct Table {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) columns: &'static [(&'static str, ColumnType)],
}

/// The type of a column.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum ColumnType {
    /// 64 bits.
    Integer,
    /// 16 bits.
    Small,
    /// A CRC-32C, in 32 bits with a sign.
    Checksum,
    Boolean,
    Text,
    /// 16 bytes.
    Id,
    Bytes,
    /// A record with its checksum, and the function that checks that its JSON can be read back.
    Record(fn(&str) -> Result<(), String>),
    /// The labels of a record, each as one value.
    Labels,
}

/// Checks that JSON can be read back.
fn reads<T: DeserializeOwned>(json: &str) -> Result<(), String> {
    serde_json::from_str::<T>(json).map(|_| ()).map_err(|cause| cause.to_string())
}

/// Messages are stored and returned without being parsed.
fn is_message(_: &str) -> Result<(), String> {
    Ok(())
}

/// The part of a record that has labels. The rest is not parsed.
#[derive(serde::Deserialize)]
struct Labelled {
    #[serde(default)]
    labels: Labels,
}

impl ColumnType {
    /// Returns the text of a column as the copy holds it. A record of a version that wrote no checksums
    /// gets one.
    ///
    /// # Errors
    ///
    /// Returns the reason if it is damaged.
    pub(in crate::store) fn value_of(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Record(check) => {
                let json = record::json(text)?;
                check(json)?;
                Ok(Value::Text(record::encode_json(json)))
            }
            Self::Labels => {
                let labelled: Labelled =
                    serde_json::from_str(record::json(text)?).map_err(|cause| cause.to_string())?;
                Ok(postgres::label_values(&labelled.labels).map_or(Value::Null, Value::List))
            }
            _ if text.contains('\0') => Err("it has a null character".to_owned()),
            _ => Ok(Value::Text(text.to_owned())),
        }
    }
}

use ColumnType::{Boolean, Bytes, Checksum, Id, Integer, Record, Small, Text};

pub(in crate::store) const SESSIONS: Table = Table {
    name: "sessions",
    columns: &[
        ("key", Integer),
        ("id", Id),
        ("tenant", Text),
        ("state", Small),
        ("implicit", Boolean),
        ("create_time", Integer),
        ("update_time", Integer),
        ("head", Integer),
        ("first", Integer),
        ("live", Integer),
        ("calls", Integer),
        ("log_digits", Small),
        ("done_time", Integer),
        ("former_head", Integer),
        ("labels", ColumnType::Labels),
    ],
};

pub(in crate::store) const SESSION_BODIES: Table = Table {
    name: "session_bodies",
    columns: &[("session_key", Integer), ("body", Record(reads::<Session>))],
};

pub(in crate::store) const EVENTS: Table = Table {
    name: "events",
    columns: &[
        ("session_key", Integer),
        ("sequence", Integer),
        ("checksum", Checksum),
        ("kind", Small),
        ("stream", Small),
        ("call_id", Id),
        ("stream_offset", Integer),
        ("combined_offset", Integer),
        ("dropped_before", Integer),
        ("length", Integer),
        ("bytes", Bytes),
    ],
};

pub(in crate::store) const OUTPUTS: Table = Table {
    name: "outputs",
    columns: &[
        ("call_id", Id),
        ("stdout_total", Integer),
        ("stdout_kept", Integer),
        ("stdout_cut", Integer),
        ("stderr_total", Integer),
        ("stderr_kept", Integer),
        ("stderr_cut", Integer),
        ("combined_total", Integer),
        ("combined_kept", Integer),
        ("combined_cut", Integer),
    ],
};

pub(in crate::store) const CALLS: Table = Table {
    name: "calls",
    columns: &[
        ("id", Id),
        ("session_key", Integer),
        ("tenant", Text),
        ("is_task", Boolean),
        ("live", Boolean),
        ("state", Small),
        ("kind", Small),
        ("create_time", Integer),
        ("expire_time", Integer),
        ("change_number", Integer),
        ("labels", ColumnType::Labels),
        ("body", Record(reads::<Call>)),
    ],
};

pub(in crate::store) const REQUESTS: Table = Table {
    name: "requests",
    columns: &[
        ("tenant", Text),
        ("request_id", Text),
        ("fingerprint", Bytes),
        ("effect", Record(reads::<RequestEffect>)),
        ("create_time", Integer),
        ("call_id", Id),
        ("session_id", Id),
    ],
};

pub(in crate::store) const MESSAGES: Table = Table {
    name: "messages",
    columns: &[("session_key", Integer), ("number", Integer), ("body", Record(is_message))],
};

pub(in crate::store) const FOLLOW_UPS: Table = Table {
    name: "follow_ups",
    columns: &[
        ("call_id", Id),
        ("key", Integer),
        ("session_key", Integer),
        ("session_id", Id),
        ("tenant", Text),
        ("state", Small),
        ("create_time", Integer),
        ("due_kind", Small),
        ("due_time", Integer),
        ("expire_time", Integer),
        ("lease_request", Text),
        ("body", Record(reads::<FollowUp>)),
    ],
};

pub(in crate::store) const FOLLOW_UP_TASKS: Table =
    Table { name: "follow_up_tasks", columns: &[("call_id", Id), ("body", Record(reads::<Call>))] };

/// All tables with records, in the order in which they are copied. The labels of sessions are read from
/// their bodies, which are checked before.
pub(in crate::store) const TABLES: [&Table; 9] = [
    &SESSION_BODIES,
    &SESSIONS,
    &EVENTS,
    &OUTPUTS,
    &CALLS,
    &REQUESTS,
    &MESSAGES,
    &FOLLOW_UPS,
    &FOLLOW_UP_TASKS,
];
