//! The messages between a server and a shim, as protobuf. Fields are only ever added.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::deadline::{KeepFor, millis};
use crate::exec::{OutputBefore, RunLimits, RunSpec, StartError, Stop};
use crate::model::{CallId, OutputPosition, OutputStream, ProcessSpec, StreamSummary, ToolOutput};

/// A message of a server.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Order {
    #[prost(oneof = "OrderKind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(super) kind: Option<OrderKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum OrderKind {
    /// The first message of a connection.
    #[prost(message, tag = "1")]
    Hello(ServerHello),
    #[prost(message, tag = "2")]
    Start(Start),
    /// Follows a run that is there already, from an offset on.
    #[prost(message, tag = "3")]
    Adopt(Offset),
    /// Notes that the output up to an offset is durable.
    #[prost(message, tag = "4")]
    Acknowledge(Offset),
    #[prost(message, tag = "5")]
    Stop(StopRun),
    /// Forgets a run, and kills what is left of it.
    #[prost(message, tag = "6")]
    Release(Run),
    /// The last message of a server that stops in good order: every run was started.
    #[prost(message, tag = "7")]
    Leave(Leave),
    /// Sets the time for which all runs go on without another such order.
    #[prost(message, tag = "8")]
    KeepFor(KeepFor),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Leave {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServerHello {
    #[prost(uint32, tag = "1")]
    pub(super) protocol: u32,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Run {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) call_id: Bytes,
}

/// A position in the output of a run, in bytes of both streams together.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Offset {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) call_id: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StopRun {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) call_id: Bytes,
    /// The time between TERM and KILL, or nothing to kill at once.
    #[prost(uint64, optional, tag = "2")]
    pub(super) grace_ms: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Start {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) call_id: Bytes,
    #[prost(string, repeated, tag = "2")]
    pub(super) argv: Vec<String>,
    #[prost(map = "string, string", tag = "3")]
    pub(super) environment: HashMap<String, String>,
    #[prost(string, optional, tag = "4")]
    pub(super) working_directory: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(super) stdin: Option<Bytes>,
    #[prost(uint64, tag = "6")]
    pub(super) output_bytes_max: u64,
    #[prost(uint64, optional, tag = "7")]
    pub(super) idle_timeout_ms: Option<u64>,
    #[prost(uint64, optional, tag = "8")]
    pub(super) execution_timeout_ms: Option<u64>,
    #[prost(uint64, tag = "9")]
    pub(super) grace_ms: u64,
    /// The counts of the output before: for standard output, standard error and both, the total and the
    /// kept bytes, and the offset of the cut plus one. Nothing if there was none.
    #[prost(uint64, repeated, tag = "10")]
    pub(super) output_before: Vec<u64>,
}

/// A message of a shim.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Report {
    #[prost(oneof = "ReportKind", tags = "1, 2, 3, 4, 5, 6")]
    pub(super) kind: Option<ReportKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum ReportKind {
    /// The answer to the first message of a connection.
    #[prost(message, tag = "1")]
    Hello(ShimHello),
    #[prost(message, tag = "2")]
    Started(Run),
    #[prost(message, tag = "3")]
    Refused(Refused),
    #[prost(message, tag = "4")]
    Output(Output),
    #[prost(message, tag = "5")]
    Alive(Run),
    #[prost(message, tag = "6")]
    Exited(Exited),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ShimHello {
    #[prost(uint32, tag = "1")]
    pub(super) protocol: u32,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(uint32, tag = "3")]
    pub(super) pid: u32,
    /// The settings that the shim was started with. A server with others starts a shim of its own.
    #[prost(string, tag = "4")]
    pub(super) settings: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) runs: Vec<RunStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RunStatus {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) call_id: Bytes,
    /// The size of the file with output that no server has read, in bytes.
    #[prost(uint64, tag = "2")]
    pub(super) spooled_bytes: u64,
    /// The reason why that file cannot grow, so that the process is blocked; empty if there is none.
    #[prost(string, tag = "3")]
    pub(super) spool_error: String,
}

/// The reason why a process was not started, as a kind of [`StartError`] with its texts.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Refused {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) call_id: Bytes,
    #[prost(enumeration = "RefusalKind", tag = "2")]
    pub(super) kind: i32,
    /// The program or the folder.
    #[prost(string, tag = "3")]
    pub(super) subject: String,
    #[prost(string, tag = "4")]
    pub(super) cause: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum RefusalKind {
    System = 0,
    ProgramMissing = 1,
    NotExecutable = 2,
    WorkingDirectory = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Output {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) call_id: Bytes,
    /// 0 for standard output, 1 for standard error.
    #[prost(uint32, tag = "2")]
    pub(super) stream: u32,
    #[prost(uint64, tag = "3")]
    pub(super) offset: u64,
    #[prost(uint64, tag = "4")]
    pub(super) combined_offset: u64,
    #[prost(uint64, tag = "5")]
    pub(super) dropped_bytes_before: u64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Exited {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) call_id: Bytes,
    /// A [`RunReport`](crate::exec::RunReport) as JSON.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) report: Bytes,
}

impl From<OrderKind> for Order {
    fn from(kind: OrderKind) -> Self {
        Self { kind: Some(kind) }
    }
}

impl From<ReportKind> for Report {
    fn from(kind: ReportKind) -> Self {
        Self { kind: Some(kind) }
    }
}

/// Returns the bytes of an id.
pub(super) fn id_bytes(call_id: CallId) -> Bytes {
    Bytes::copy_from_slice(call_id.as_bytes())
}

/// Reads the bytes of an id, or returns `None` if they are none.
pub(super) fn call_id(bytes: &[u8]) -> Option<CallId> {
    Some(CallId::from_bytes(bytes.try_into().ok()?))
}

impl StopRun {
    pub(super) fn new(call_id: CallId, stop: Stop) -> Self {
        let grace_ms = match stop {
            Stop::Graceful(grace) => Some(millis(grace)),
            Stop::Kill => None,
        };
        Self { call_id: id_bytes(call_id), grace_ms }
    }

    pub(super) fn stop(&self) -> Stop {
        match self.grace_ms {
            Some(grace) => Stop::Graceful(Duration::from_millis(grace)),
            None => Stop::Kill,
        }
    }
}

impl From<RunSpec> for Start {
    fn from(spec: RunSpec) -> Self {
        let RunSpec { call_id, process, limits, output_before } = spec;
        let ProcessSpec { argv, working_directory, environment, stdin } = process;
        Self {
            call_id: id_bytes(call_id),
            argv,
            environment: environment.into_iter().collect(),
            working_directory: absolute(working_directory),
            stdin,
            output_bytes_max: limits.output_bytes_max,
            idle_timeout_ms: limits.idle_timeout.map(millis),
            execution_timeout_ms: limits.execution_timeout.map(millis),
            grace_ms: millis(limits.grace),
            output_before: counts(output_before),
        }
    }
}

/// Returns a folder as the shim finds it, whose own folder is that of the server that started it: without
/// one, that of this server. Paths come from requests and configurations, which are text.
fn absolute(folder: Option<PathBuf>) -> Option<String> {
    let folder = folder.unwrap_or_else(|| ".".into());
    let path = std::path::absolute(&folder).unwrap_or(folder);
    path.to_str().map(str::to_owned)
}

impl Start {
    /// Returns the run to start, or `None` if the id is none.
    pub(super) fn into_spec(self) -> Option<RunSpec> {
        let process = ProcessSpec {
            argv: self.argv,
            working_directory: self.working_directory.map(PathBuf::from),
            environment: self.environment.into_iter().collect(),
            stdin: self.stdin,
        };
        let limits = RunLimits {
            output_bytes_max: self.output_bytes_max,
            idle_timeout: self.idle_timeout_ms.map(Duration::from_millis),
            execution_timeout: self.execution_timeout_ms.map(Duration::from_millis),
            grace: Duration::from_millis(self.grace_ms),
        };
        let output_before = before(&self.output_before);
        Some(RunSpec { call_id: call_id(&self.call_id)?, process, limits, output_before })
    }
}

fn counts(before: OutputBefore) -> Vec<u64> {
    if before == OutputBefore::default() {
        return Vec::new();
    }
    let of = |summary: StreamSummary| {
        [summary.total_bytes, summary.kept_bytes, summary.cut_offset.map_or(0, |cut| cut + 1)]
    };
    [before.stdout, before.stderr, before.combined].into_iter().flat_map(of).collect()
}

fn before(counts: &[u64]) -> OutputBefore {
    let of = |index: usize| {
        let count = |field: usize| counts.get(3 * index + field).copied().unwrap_or_default();
        StreamSummary {
            total_bytes: count(0),
            kept_bytes: count(1),
            dropped_bytes: count(0).saturating_sub(count(1)),
            cut_offset: count(2).checked_sub(1),
        }
    };
    OutputBefore { stdout: of(0), stderr: of(1), combined: of(2) }
}

impl Refused {
    pub(super) fn new(call_id: CallId, error: StartError) -> Self {
        let (kind, subject, cause) = match error {
            StartError::ProgramMissing { program } => {
                (RefusalKind::ProgramMissing, program, String::new())
            }
            StartError::NotExecutable { program } => {
                (RefusalKind::NotExecutable, program, String::new())
            }
            StartError::WorkingDirectory { path } => {
                (RefusalKind::WorkingDirectory, path, String::new())
            }
            StartError::System { program, cause } => (RefusalKind::System, program, cause),
        };
        Self { call_id: id_bytes(call_id), kind: kind.into(), subject, cause }
    }

    pub(super) fn into_error(self) -> StartError {
        let (kind, subject) = (self.kind(), self.subject);
        match kind {
            RefusalKind::ProgramMissing => StartError::ProgramMissing { program: subject },
            RefusalKind::NotExecutable => StartError::NotExecutable { program: subject },
            RefusalKind::WorkingDirectory => StartError::WorkingDirectory { path: subject },
            RefusalKind::System => StartError::System { program: subject, cause: self.cause },
        }
    }
}

impl Output {
    pub(super) fn new(call_id: CallId, output: &ToolOutput) -> Self {
        let position = output.position;
        Self {
            call_id: id_bytes(call_id),
            stream: position.stream as u32,
            offset: position.offset,
            combined_offset: position.combined_offset,
            dropped_bytes_before: position.dropped_bytes_before,
            data: output.data.clone(),
        }
    }

    pub(super) fn into_output(self) -> ToolOutput {
        let stream = match self.stream {
            0 => OutputStream::Stdout,
            _ => OutputStream::Stderr,
        };
        ToolOutput {
            position: OutputPosition {
                stream,
                offset: self.offset,
                combined_offset: self.combined_offset,
                dropped_bytes_before: self.dropped_bytes_before,
            },
            data: self.data,
        }
    }
}

#[cfg(test)]
mod tests;
