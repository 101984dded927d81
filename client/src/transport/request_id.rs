//! Ids that make requests safe to repeat.

use callpark_proto::v1::start_request::Work;
use uuid::Uuid;

use crate::v1;

/// A request that carries an id under which it can be repeated.
pub(crate) trait Identified {
    /// Returns the id, which is empty if the caller gave none, or `None` if the request has no part
    /// that holds one.
    fn request_id_mut(&mut self) -> Option<&mut String>;
}

macro_rules! identified {
    ($($request:ident),* $(,)?) => {
        $(impl Identified for v1::$request {
            fn request_id_mut(&mut self) -> Option<&mut String> {
                Some(&mut self.request_id)
            }
        })*
    };
}

identified!(
    AcknowledgeFollowUpRequest,
    CancelRequest,
    CancelTurnRequest,
    CloseSessionRequest,
    CreateSessionRequest,
    DeleteRequest,
    LeaseFollowUpsRequest,
    RetryFollowUpRequest,
    RunToolRequest,
    RunTurnRequest,
    UpdateSessionRequest,
);

/// The id is part of the work.
impl Identified for v1::StartRequest {
    fn request_id_mut(&mut self) -> Option<&mut String> {
        match self.work.as_mut()? {
            Work::ToolCall(call) => call.request_id_mut(),
            Work::Turn(turn) => turn.request_id_mut(),
        }
    }
}

/// Gives a request an id, unless the caller gave it one.
pub(crate) fn identify<Q: Identified>(mut request: Q) -> Q {
    if let Some(id) = request.request_id_mut()
        && id.is_empty()
    {
        *id = new_request_id();
    }
    request
}

pub(crate) fn new_request_id() -> String {
    Uuid::new_v4().to_string()
}
