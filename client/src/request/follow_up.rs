//! Requests about follow-ups.

use tonic::Code;

use crate::{google::rpc, request::builder, v1};

builder! {
    /// A selection of follow-ups, for [`FollowUps::list`](crate::FollowUps::list).
    ///
    /// ```
    /// use callpark_client::{ListFollowUps, v1};
    ///
    /// let request = ListFollowUps::new().state(v1::FollowUpState::DeadLettered);
    /// assert_eq!(v1::ListFollowUpsRequest::from(request).states.len(), 1);
    /// ```
    #[derive(Default)]
    ListFollowUps(ListFollowUpsRequest) {
        /// Selects the follow-ups of this session.
        session_id: text,
        /// Selects the follow-ups in this state. Repeated: in one of them.
        states: choices(state: v1::FollowUpState),
        /// Sets the number of follow-ups in one answer, 1 to 1,000. Default: 50.
        page_size: count,
        /// Continues after the answer with this `next_page_token`.
        page_token: text,
    }
}

impl ListFollowUps {
    /// Selects all follow-ups of the caller.
    pub fn new() -> Self {
        Self::default()
    }
}

builder! {
    /// Follow-ups to lease, for [`FollowUps::lease`](crate::FollowUps::lease).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use callpark_client::{LeaseFollowUps, v1};
    ///
    /// let request = LeaseFollowUps::new().max_follow_ups(10).wait(Duration::from_secs(60));
    /// assert_eq!(v1::LeaseFollowUpsRequest::from(request).max_follow_ups, 10);
    /// ```
    #[derive(Default)]
    LeaseFollowUps(LeaseFollowUpsRequest) {
        /// Leases follow-ups of this session only. Default: of all sessions of the caller.
        session_id: text,
        /// Sets the id under which the request can be repeated, a UUID. Repeating it renews the
        /// leases. Default: the client creates one.
        request_id: text,
        /// Sets the maximum number of follow-ups to lease, 1 to 100. Default: 1.
        max_follow_ups: count,
        /// Sets the duration of the leases. At most 1 h. Default: 60 s.
        lease_duration: duration,
        /// Sets the time to wait for a follow-up if there is none. At most 540 s. Default: 55 s.
        wait: duration,
        /// Sets the name of the consumer in the records, for people. At most 4 KiB.
        consumer: text,
    }
}

impl LeaseFollowUps {
    /// Leases follow-ups of all sessions of the caller.
    pub fn new() -> Self {
        Self::default()
    }
}

builder! {
    /// The result of a delivery, for [`FollowUps::acknowledge`](crate::FollowUps::acknowledge).
    ///
    /// ```
    /// use callpark_client::{AcknowledgeFollowUp, Code, v1};
    ///
    /// let request = AcknowledgeFollowUp::failed("fu-1", "token", Code::Unknown, "the disk is full");
    /// let message = v1::AcknowledgeFollowUpRequest::from(request);
    /// assert_eq!(message.error.unwrap().message, "the disk is full");
    /// ```
    AcknowledgeFollowUp(AcknowledgeFollowUpRequest) {
        /// Sets the id under which the request can be repeated, a UUID. Default: the client creates
        /// one.
        request_id: text,
    }
}

impl AcknowledgeFollowUp {
    /// Acknowledges a follow-up as delivered.
    pub fn delivered(follow_up_id: impl Into<String>, lease_token: impl Into<String>) -> Self {
        let (follow_up_id, lease_token) = (follow_up_id.into(), lease_token.into());
        Self {
            message: v1::AcknowledgeFollowUpRequest {
                follow_up_id,
                lease_token,
                ..Default::default()
            },
        }
    }

    /// Reports a delivery as failed. The follow-up is delivered again later, or dead-lettered after
    /// its last attempt. With [`Code::Cancelled`] it is released instead: the attempt does not count,
    /// and it can be leased again at once.
    pub fn failed(
        follow_up_id: impl Into<String>,
        lease_token: impl Into<String>,
        code: Code,
        message: impl Into<String>,
    ) -> Self {
        let mut request = Self::delivered(follow_up_id, lease_token);
        let (code, message) = (code.into(), message.into());
        request.message.error = Some(rpc::Status { code, message, details: Vec::new() });
        request
    }
}

builder! {
    /// A dead-lettered follow-up to enqueue again, for [`FollowUps::retry`](crate::FollowUps::retry).
    ///
    /// ```
    /// use callpark_client::{RetryFollowUp, v1};
    ///
    /// let message = v1::RetryFollowUpRequest::from(RetryFollowUp::new("fu-1"));
    /// assert_eq!(message.follow_up_id, "fu-1");
    /// ```
    RetryFollowUp(RetryFollowUpRequest) {
        /// Sets the id under which the request can be repeated, a UUID. Default: the client creates
        /// one.
        request_id: text,
    }
}

impl RetryFollowUp {
    /// Enqueues the follow-up with this id again.
    pub fn new(follow_up_id: impl Into<String>) -> Self {
        let follow_up_id = follow_up_id.into();
        Self { message: v1::RetryFollowUpRequest { follow_up_id, ..Default::default() } }
    }
}
