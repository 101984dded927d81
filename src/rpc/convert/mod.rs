//! Conversions between the wire and the model. A request is destructured whole, so that a new field
//! cannot be forgotten, and one error names every invalid field.

mod call;
mod event;
mod field;
mod filter;
mod follow_up;
mod json;
mod message;
mod page;
mod policy;
mod session;
mod task;
mod task_request;
mod time;
mod tool;
mod turn;
mod turn_request;

pub(crate) use call::{BackgroundWork, call_request, start_request};
pub use event::WireCodec;
pub(crate) use field::{
    FieldReader, Fingerprint, InvalidRequest, Violation, ViolationReason, fingerprint,
};
pub(crate) use filter::{
    ToolView, list_messages_query, list_query, list_sessions_query, list_tools_query,
};
pub(crate) use follow_up::{
    Acknowledgement, acknowledge_request, follow_up_state_name, follow_up_with_message,
    follow_ups_query, lease_request, leased_follow_up, retry_request, summary_follow_up,
};
#[cfg(fuzzing)]
pub(crate) use json::map_from_struct;
pub(crate) use json::{struct_from_map, value_from_json};
pub(crate) use message::message;
pub(crate) use page::{PageError, fit_page, size};
pub(crate) use session::{
    new_session, session, stream_query, summary_session, update_session_request,
};
pub(crate) use task::{fit_tasks, output_tail, parked_call, summary_task, task_with_summary};
pub(crate) use task_request::{background_id, cancel_request, many_ids, output_request, wait_span};
pub(crate) use time::{duration, timestamp};
pub(crate) use tool::{foreground_result, summary_tool, tool, tool_result, unavailable};
pub(crate) use turn::turn_result;
pub(crate) use turn_request::turn_request;
