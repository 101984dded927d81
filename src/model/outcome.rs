//! The outcome of a call: a result or a failure.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Timestamp, enum_table};

enum_table! {
    /// An output stream of a process.
    pub enum OutputStream {
        /// Standard output.
        Stdout => (1, "stdout"),
        /// Standard error.
        Stderr => (2, "stderr"),
    }
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// An exit with this code, 0 to 255.
    Code(i32),
    /// An end by this signal.
    Signal(i32),
}

impl Exit {
    /// Returns `true` for exit code 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// The kind of a piece of content, with its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentKind {
    /// Text.
    Text(String),
    /// A JSON value.
    Json(serde_json::Value),
    /// An image.
    Image {
        /// The media type, such as `image/png`.
        media_type: String,
        /// The bytes.
        #[serde(with = "super::base64")]
        data: Bytes,
    },
    /// Any other bytes.
    Binary {
        /// The media type.
        media_type: String,
        /// The bytes.
        #[serde(with = "super::base64")]
        data: Bytes,
    },
    /// A document with an address.
    Resource {
        /// The address.
        uri: String,
        /// The media type of the body, or an empty string if it isn't known.
        media_type: String,
        /// The document, or `None` if only the address is given.
        body: Option<ResourceBody>,
        /// The description that came with an address, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<Box<ResourceLink>>,
    },
}

/// The description of a document that is only linked to. A text that is not known is empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceLink {
    /// The name for programs.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// The description.
    pub description: String,
    /// The size of the document, in bytes.
    pub size_bytes: Option<u64>,
    /// The intended readers, such as `user` and `assistant`.
    pub audience: Vec<String>,
    /// The importance, from 0 to 1.
    pub priority: Option<f32>,
    /// The time of the last change, in ISO 8601.
    pub last_modified: String,
}

impl ResourceLink {
    fn text_bytes(&self) -> usize {
        let audience: usize = self.audience.iter().map(String::len).sum();
        let texts = [&self.name, &self.title, &self.description, &self.last_modified];
        audience + texts.map(String::len).iter().sum::<usize>()
    }
}

/// The body of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceBody {
    /// A text.
    Text(String),
    /// Any other bytes.
    Blob(#[serde(with = "super::base64")] Bytes),
}

impl ContentKind {
    /// Returns the size of the value in an answer, in bytes, without framing.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Json(json) => json.to_string().len(),
            Self::Image { data, .. } | Self::Binary { data, .. } => data.len(),
            Self::Resource { uri, body, link, .. } => {
                let body = match body {
                    Some(ResourceBody::Text(text)) => text.len(),
                    Some(ResourceBody::Blob(data)) => data.len(),
                    None => 0,
                };
                let link = link.as_ref().map_or(0, |link| link.text_bytes());
                uri.len() + body + link
            }
        }
    }
}

/// A piece of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// The kind, with the value.
    pub kind: ContentKind,
    /// The output stream that it comes from, or `None` if it is no output of a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<OutputStream>,
    /// The offset in that stream at which it begins, in bytes.
    #[serde(default)]
    pub offset: u64,
}

/// Counts of one output stream, in bytes. `total = kept + dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamSummary {
    /// The bytes that the process wrote.
    pub total_bytes: u64,
    /// The bytes that can be read.
    pub kept_bytes: u64,
    /// The bytes that were dropped between the head and the tail.
    pub dropped_bytes: u64,
    /// The offset at which the dropped part begins, or `None` if nothing was dropped.
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
    /// `true` if another process still held the pipes when reading ended: what it wrote later is
    /// missing. Also if a part was lost while no server was there, which is counted as dropped.
    #[serde(default)]
    pub incomplete: bool,
    /// `true` if the content beside this summary has less than the kept bytes.
    #[serde(default)]
    pub inline_truncated: bool,
}

/// The processes that were still running when the main process of a call had ended. They were killed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeftProcesses {
    /// The names of the first programs, without their arguments.
    pub programs: Vec<String>,
    /// The number of processes that were found.
    pub count: usize,
}

/// The result of a tool. A failure of the tool is a result, too.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ToolResult {
    /// The pieces of content. For a process this is its output.
    #[serde(default)]
    pub content: Vec<Content>,
    /// The result as one JSON object, if the tool gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Box<serde_json::Map<String, serde_json::Value>>>,
    /// `true` if the tool failed.
    pub is_error: bool,
    /// The end of its process, or `None` if it had none or didn't end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// The reason of a failure that the exit doesn't show, such as a missing program.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_message: String,
    /// The counts of the output.
    #[serde(default)]
    pub output: OutputSummary,
    /// The processes that the call has left behind, or `None` if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Box<LeftProcesses>>,
    /// The time at which the run began, or `None` if it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// The time at which the call ended.
    #[serde(default)]
    pub end_time: Timestamp,
}

impl ToolResult {
    /// Returns the size of the content and of its structured copy, in bytes.
    pub fn size_bytes(&self) -> usize {
        let content = self.content.iter().map(|content| content.kind.size_bytes());
        let structured = self.structured.as_ref().map(serde_json::to_vec);
        content.sum::<usize>() + structured.and_then(Result::ok).map_or(0, |json| json.len())
    }
}

enum_table! {
    /// The reason why a call has no result.
    pub enum FailureCode {
        /// The server that ran it stopped without recording an end.
        HostLost => "host_lost",
    }
}

/// A call that ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The reason.
    pub code: FailureCode,
    /// A sentence that says what happened and what to do.
    pub message: String,
}

/// The outcome of a call that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "almost every outcome is a result, and a failure takes its room at most once a call"
)]
pub enum Outcome {
    /// A result, of a success or a failure of the tool.
    Result(ToolResult),
    /// No result.
    Failure(Failure),
}
