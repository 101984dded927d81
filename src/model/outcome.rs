//! How a call ended, and what it gave.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited by itself with this code, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Exit code 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// What a piece of content is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentKind {
    /// Text.
    Text(String),
    /// A JSON value.
    Json(serde_json::Value),
    /// A picture.
    Image {
        /// Its media type, such as `image/png`.
        media_type: String,
        /// Its bytes.
        #[serde(with = "super::base64")]
        data: Bytes,
    },
    /// Any other bytes.
    Binary {
        /// Their media type.
        media_type: String,
        /// The bytes.
        #[serde(with = "super::base64")]
        data: Bytes,
    },
    /// A document with an address.
    Resource {
        /// The address.
        uri: String,
        /// The media type of the body; empty when not known.
        media_type: String,
        /// The document; none: only the address is given.
        body: Option<ResourceBody>,
    },
}

/// What a document holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceBody {
    /// A text.
    Text(String),
    /// Any other bytes.
    Blob(#[serde(with = "super::base64")] Bytes),
}

impl ContentKind {
    /// How much of an answer it takes, but for what goes around it.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Json(json) => json.to_string().len(),
            Self::Image { data, .. } | Self::Binary { data, .. } => data.len(),
            Self::Resource { uri, body, .. } => {
                uri.len()
                    + match body {
                        Some(ResourceBody::Text(text)) => text.len(),
                        Some(ResourceBody::Blob(data)) => data.len(),
                        None => 0,
                    }
            }
        }
    }
}

/// A piece of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// What it is.
    pub kind: ContentKind,
    /// The process's stream that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<OutputStream>,
    /// Where in that stream it begins, in bytes.
    #[serde(default)]
    pub offset: u64,
}

/// Counts of one output stream, in bytes. `total = kept + dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamSummary {
    /// What the process wrote.
    pub total_bytes: u64,
    /// What can be read.
    pub kept_bytes: u64,
    /// What was thrown away between the kept head and the kept tail.
    pub dropped_bytes: u64,
    /// Where the dropped part begins; none when nothing was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_offset: Option<u64>,
}

/// Counts of a call's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutputSummary {
    /// Standard output.
    pub stdout: StreamSummary,
    /// Standard error.
    pub stderr: StreamSummary,
    /// Both, in the order of arrival.
    pub combined: StreamSummary,
    /// Somebody still held the pipes when reading ended: what was written later isn't here.
    #[serde(default)]
    pub incomplete: bool,
    /// The content beside this summary holds less than what is kept.
    #[serde(default)]
    pub inline_truncated: bool,
}

/// What a tool gave. A tool's failure is a result too.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ToolResult {
    /// The pieces; of a process: its output.
    #[serde(default)]
    pub content: Vec<Content>,
    /// The result as one JSON object, from a tool that gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Box<serde_json::Map<String, serde_json::Value>>>,
    /// The tool failed.
    pub is_error: bool,
    /// How its process ended, if it had one that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Why it failed where no exit says so, such as a program that is missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_message: String,
    /// Counts of the output.
    #[serde(default)]
    pub output: OutputSummary,
    /// When the run began; none if it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub end_time: Timestamp,
}

/// Why a call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The server that ran it stopped without recording an end.
    HostLost,
}

/// A call that ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub code: FailureCode,
    /// What happened and what to do, in a sentence.
    pub message: String,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a result, good or bad.
    Result(ToolResult),
    /// Without one.
    Failure(Failure),
}
