//! The types of the domain: ids, sessions, calls, outcomes, events, tools, principals, limits.
//!
//! Plain data that every floor above shares. Nothing here does I/O, reads a clock or knows a
//! wire format.

mod base64;
mod budget;
mod call;
mod continuation;
mod end_reason;
mod enum_table;
mod event;
mod follow_up;
mod grant;
mod id;
pub mod limits;
mod origin;
mod outcome;
mod pattern;
mod principal;
mod process;
mod resumption;
mod scope;
mod session;
pub mod span;
pub mod terminal;
mod time;
mod tool;
mod turn;
pub mod visible;

pub use budget::Budget;
pub use call::{
    Call, CallPolicy, Cancellation, FollowUpPolicy, OnDisconnect, ParkReason, Progress, State,
    StopCause, Stopping, Survivor, Usage,
};
pub use continuation::{RunOwner, WorkHandle};
pub use end_reason::{CancelCause, EndReason};
pub(crate) use enum_table::enum_table;
pub use event::{
    CallAccepted, CallFinished, Event, EventCodec, EventCorrupt, OutputPosition, Payload,
    PayloadKind, StoredAcceptance, ToolOutput, TurnEnded, Unresolved,
};
pub use follow_up::{
    Delivery, DeliveryError, FollowUp, FollowUpNote, FollowUpPut, FollowUpState, Lease, ToolNote,
};
pub use grant::{Grant, Grants};
pub use id::{CallId, IdError, IdRange, SessionId, TurnId};
pub use origin::Origin;
pub use outcome::{
    Content, ContentKind, Exit, Failure, FailureCode, LeftProcesses, Outcome, OutputStream,
    OutputSummary, ResourceBody, ResourceLink, StreamSummary, ToolResult,
};
pub use pattern::Pattern;
pub use principal::{Principal, Tenant};
pub use process::{Environment, ProcessSpec};
pub use resumption::{InjectedTask, Prompt, TurnLoss, TurnSetup};
pub use scope::{Scope, ScopeError, Scopes};
pub use session::{OnRestart, Session, SessionState, SessionUpdate, TaskLimitPolicy};
pub use time::Timestamp;
pub use tool::{Tool, ToolKind, ToolSource};
pub use turn::{
    AssistantMessage, BusyPolicy, Compaction, CompactionReason, Image, Message, ModelCall,
    ProviderData, RESULT_OVERHEAD_BYTES, StopReason, Turn, TurnEnd, TurnError, TurnReport,
};

/// Free-form key-value pairs that a caller sets on a session or a call and filters by.
pub type Labels = std::collections::BTreeMap<String, String>;
