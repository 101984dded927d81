//! Follow-ups of background tasks.

mod consumer;
mod lease;
mod report;
mod workers;

use crate::{
    error::Error,
    transport::{
        handle::handle,
        pages::page,
        request_id::identify,
        unary::{rpc, send},
    },
    v1,
};

pub use consumer::FollowUpConsumer;
pub use report::ConsumerReport;

handle! {
    /// The follow-ups of a server: records of background tasks that have ended, each of which is
    /// delivered to an agent. [`Client::follow_ups`](crate::Client::follow_ups) returns it.
    ///
    /// [`consumer`](Self::consumer) is all that most programs need. The other methods are the single
    /// steps.
    ///
    /// ```no_run
    /// use callpark_client::{Client, Error, ListFollowUps, RetryFollowUp, v1};
    ///
    /// # async fn show(client: Client) -> Result<(), Error> {
    /// let dead = ListFollowUps::new().state(v1::FollowUpState::DeadLettered);
    /// for follow_up in client.follow_ups().list(dead).await?.follow_ups {
    ///     client.follow_ups().retry(RetryFollowUp::new(follow_up.follow_up_id)).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    FollowUps
}

impl FollowUps<'_> {
    /// Returns a consumer, which leases follow-ups, passes each to a handler and acknowledges it.
    /// Sends nothing yet.
    pub fn consumer(self) -> FollowUpConsumer {
        FollowUpConsumer::new(self.connection)
    }

    /// Lists follow-ups, newest first, in pages.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; INVALID_ARGUMENT `PAGE_TOKEN_INVALID`.
    pub async fn list(
        self,
        request: impl Into<v1::ListFollowUpsRequest>,
    ) -> Result<v1::ListFollowUpsResponse, Error> {
        page(self.connection, request).await
    }

    /// Leases follow-ups. If there is none, waits for one for up to 540 s. Repeated with the same
    /// `request_id`, it renews the leases.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; ALREADY_EXISTS `REQUEST_ID_REUSED`.
    pub async fn lease(
        self,
        request: impl Into<v1::LeaseFollowUpsRequest>,
    ) -> Result<v1::LeaseFollowUpsResponse, Error> {
        let attempts = self.attempts("BackgroundTasks.LeaseFollowUps");
        send(attempts, identify(request.into()), rpc!(background_tasks.lease_follow_ups)).await
    }

    /// Acknowledges a leased follow-up as delivered, or as failed with an error.
    ///
    /// # Errors
    /// NOT_FOUND `FOLLOW_UP_NOT_FOUND`; FAILED_PRECONDITION `LEASE_EXPIRED`; ALREADY_EXISTS
    /// `REQUEST_ID_REUSED`.
    pub async fn acknowledge(
        self,
        request: impl Into<v1::AcknowledgeFollowUpRequest>,
    ) -> Result<v1::AcknowledgeFollowUpResponse, Error> {
        let attempts = self.attempts("BackgroundTasks.AcknowledgeFollowUp");
        send(attempts, identify(request.into()), rpc!(background_tasks.acknowledge_follow_up)).await
    }

    /// Enqueues a dead-lettered follow-up again, with its attempts counted from zero.
    ///
    /// # Errors
    /// NOT_FOUND `FOLLOW_UP_NOT_FOUND`; FAILED_PRECONDITION `FOLLOW_UP_NOT_DEAD_LETTERED` or
    /// `SESSION_CLOSED`; ALREADY_EXISTS `REQUEST_ID_REUSED`.
    pub async fn retry(
        self,
        request: impl Into<v1::RetryFollowUpRequest>,
    ) -> Result<v1::RetryFollowUpResponse, Error> {
        let attempts = self.attempts("BackgroundTasks.RetryFollowUp");
        send(attempts, identify(request.into()), rpc!(background_tasks.retry_follow_up)).await
    }
}
