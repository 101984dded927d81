//! Ids that make requests safe to repeat.

use uuid::Uuid;

use crate::v1;

/// A request that carries an id under which it can be repeated.
pub(crate) trait Identified {
    /// The id; empty if the caller gave none.
    fn request_id_mut(&mut self) -> &mut String;
}

macro_rules! identified {
    ($($request:ident),* $(,)?) => {
        $(impl Identified for v1::$request {
            fn request_id_mut(&mut self) -> &mut String {
                &mut self.request_id
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
    ResolveApprovalRequest,
    RetryFollowUpRequest,
    RunToolRequest,
    RunTurnRequest,
    StartRequest,
    StreamToolRequest,
    StreamTurnRequest,
);

/// Gives a request an id, unless the caller gave it one.
pub(crate) fn identify<Q: Identified>(mut request: Q) -> Q {
    let id = request.request_id_mut();
    if id.is_empty() {
        *id = new_request_id();
    }
    request
}

pub(crate) fn new_request_id() -> String {
    Uuid::new_v4().to_string()
}
