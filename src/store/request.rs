//! The records of requests that carried an id.

use crate::model::{CallId, SessionId, Tenant, Timestamp};

/// The record of a request that carried an id.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RequestRecord {
    /// The tenant. Ids of different tenants are independent.
    pub tenant: Tenant,
    /// The id, as the caller wrote it.
    pub request_id: String,
    /// A digest of the method and the content, by which a retry differs from a reuse of the id.
    pub fingerprint: [u8; 32],
    /// The effect of the request, so that a retry gets the same answer.
    pub effect: RequestEffect,
    /// The time at which the request was first seen.
    pub create_time: Timestamp,
}

/// The effect of a request with an id.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestEffect {
    /// Created a session.
    SessionCreated(SessionId),
    /// Closed a session.
    SessionClosed(SessionId),
    /// Updated a session.
    SessionUpdated(SessionId),
    /// Started a call.
    CallStarted {
        /// The session of the call.
        session_id: SessionId,
        /// The call.
        call_id: CallId,
    },
    /// Requested that a task stop.
    CallCancelled(CallId),
    /// Deleted a finished task.
    CallDeleted(CallId),
    /// Leased the follow-ups whose lease has the id of the request.
    FollowUpsLeased,
    /// Acknowledged the delivery of a task's follow-up.
    FollowUpAcknowledged(CallId),
    /// Retried a task's dead-lettered follow-up.
    FollowUpRetried(CallId),
}

impl RequestEffect {
    /// Returns the call together with which the request expires, or `None` if the request expires
    /// by its age.
    pub fn call_id(&self) -> Option<CallId> {
        match self {
            Self::CallStarted { call_id, .. } | Self::CallCancelled(call_id) => Some(*call_id),
            // A deletion outlasts its call, and a follow-up may outlast its task.
            Self::SessionCreated(_)
            | Self::SessionClosed(_)
            | Self::SessionUpdated(_)
            | Self::CallDeleted(_)
            | Self::FollowUpsLeased
            | Self::FollowUpAcknowledged(_)
            | Self::FollowUpRetried(_) => None,
        }
    }

    /// Returns the session together with which the request is kept, or `None` if there is none.
    pub(super) fn created_session(&self) -> Option<SessionId> {
        match self {
            Self::SessionCreated(id) => Some(*id),
            _ => None,
        }
    }
}
