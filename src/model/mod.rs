//! The words of the domain: ids, sessions, calls, outcomes, events, tools, principals, limits.
//!
//! Plain data that every floor above shares. Nothing here does I/O, reads a clock or knows a
//! wire format.

mod base64;
mod call;
mod event;
mod follow_up;
mod id;
pub mod limits;
mod outcome;
mod principal;
mod process;
mod session;
pub mod span;
mod time;
mod tool;
mod turn;

pub use call::{
    Call, CallPolicy, Cancellation, FollowUpPolicy, OnDisconnect, ParkReason, Progress, State,
    StopCause, Stopping, Survivor, Usage,
};
pub use event::{
    CallFinished, CallStarted, Event, EventCodec, EventCorrupt, OutputPosition, Payload,
    PayloadKind, ToolOutput, TurnEnded, Unresolved,
};
pub use follow_up::{
    Delivery, DeliveryError, FollowUp, FollowUpNote, FollowUpPut, FollowUpState, Lease, ToolNote,
};
pub use id::{CallId, IdError, SessionId, TurnId};
pub use outcome::{
    Content, ContentKind, Exit, Failure, FailureCode, Outcome, OutputStream, OutputSummary,
    ResourceBody, StreamSummary, ToolResult,
};
pub use principal::{Principal, Tenant};
pub use process::{Environment, ProcessSpec};
pub use session::{Session, SessionState, TaskLimitPolicy};
pub use time::Timestamp;
pub use tool::{Tool, ToolKind, ToolSource};
pub use turn::{
    BusyPolicy, Image, Message, ModelCall, StopReason, Turn, TurnEnd, TurnError, TurnReport,
};

/// Free-form key and value pairs that a caller puts on a session or a call and filters by.
pub type Labels = std::collections::BTreeMap<String, String>;
