//! Between the wire and the model, in both directions. A request is destructured whole, so a new
//! field can't be forgotten, and every bad field is named in one error.

mod call;
mod event;
mod field;
mod filter;
mod follow_up;
mod json;
mod session;
mod task;
mod task_request;
mod time;
mod tool;
mod turn;
mod turn_request;

pub(crate) use call::{StartCall, call_request, stream_request, work_request};
pub use event::WireCodec;
pub(crate) use field::{Fields, Fingerprint, Invalid, fingerprint};
pub(crate) use filter::{
    PageFault, fit, list_query, list_sessions_query, next_call_token, next_session_token,
};
pub(crate) use follow_up::{
    Acknowledgement, acknowledge_request, brief_follow_up, follow_ups_query, lease_request,
    leased_follow_up, retry_request, told_follow_up,
};
#[cfg(fuzzing)]
pub(crate) use json::map_from_struct;
pub(crate) use json::{struct_from_map, value_from_json};
pub(crate) use session::{brief_session, log_query, new_session, session};
pub(crate) use task::{brief_task, output_tail, parked_call, task, task_with_summary};
pub(crate) use task_request::{background_id, cancel_request, many_ids, output_request, wait_span};
pub(crate) use time::{duration, timestamp};
pub(crate) use tool::{outcome_result, tool, tool_result, unavailable};
pub(crate) use turn::turn_response;
pub(crate) use turn_request::{stream_turn_request, turn_request};
