//! Sessions and their logs.

use crate::{
    error::Error,
    request::ListMessages,
    stream::{MessageStream, SessionStream},
    transport::{
        handle::handle,
        pages::page,
        request_id::identify,
        unary::{rpc, send},
    },
    v1,
};

handle! {
    /// The sessions of a server. [`Client::sessions`](crate::Client::sessions) returns it.
    ///
    /// ```no_run
    /// use callpark_client::{Client, CloseSession, CreateSession, Error};
    ///
    /// # async fn show(client: Client) -> Result<(), Error> {
    /// let sessions = client.sessions();
    /// let answer = sessions.create(CreateSession::new().description("nightly build")).await?;
    /// let session = answer.session.unwrap_or_default();
    /// sessions.close(CloseSession::new(session.session_id)).await?;
    /// # Ok(())
    /// # }
    /// ```
    Sessions
}

impl Sessions<'_> {
    /// Creates a session.
    ///
    /// # Errors
    /// NOT_FOUND `TOOL_NOT_FOUND`; ALREADY_EXISTS `REQUEST_ID_REUSED`; RESOURCE_EXHAUSTED
    /// `STORAGE_FULL`.
    pub async fn create(
        self,
        request: impl Into<v1::CreateSessionRequest>,
    ) -> Result<v1::CreateSessionResponse, Error> {
        let attempts = self.attempts("ToolRunner.CreateSession");
        send(attempts, identify(request.into()), rpc!(tool_runner.create_session)).await
    }

    /// Returns the current state of a session.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`.
    pub async fn get(self, session_id: impl Into<String>) -> Result<v1::Session, Error> {
        const RPC: &str = "ToolRunner.GetSession";
        let request = v1::GetSessionRequest { session_id: session_id.into() };
        let answer = send(self.attempts(RPC), request, rpc!(tool_runner.get_session)).await?;
        answer.session.ok_or_else(|| Error::answer("the answer contains no session").of(RPC, 1))
    }

    /// Lists the sessions of the caller, newest first, in pages.
    ///
    /// # Errors
    /// INVALID_ARGUMENT `PAGE_TOKEN_INVALID`.
    pub async fn list(
        self,
        request: impl Into<v1::ListSessionsRequest>,
    ) -> Result<v1::ListSessionsResponse, Error> {
        page(self.connection, request).await
    }

    /// Changes the settings of a session. They apply to calls and turns that start later.
    ///
    /// ```no_run
    /// use callpark_client::{Client, Error, UpdateSession};
    ///
    /// # async fn show(client: Client) -> Result<(), Error> {
    /// let update = UpdateSession::new("ses-0123456789abcdef0123456789abcdef").max_live_tasks(8);
    /// let answer = client.sessions().update(update).await?;
    /// assert_eq!(answer.session.unwrap_or_default().max_live_tasks, 8);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND` or `TOOL_NOT_FOUND`; FAILED_PRECONDITION `SESSION_CLOSED`;
    /// ALREADY_EXISTS `REQUEST_ID_REUSED`; RESOURCE_EXHAUSTED `STORAGE_FULL`.
    pub async fn update(
        self,
        request: impl Into<v1::UpdateSessionRequest>,
    ) -> Result<v1::UpdateSessionResponse, Error> {
        let attempts = self.attempts("ToolRunner.UpdateSession");
        send(attempts, identify(request.into()), rpc!(tool_runner.update_session)).await
    }

    /// Closes a session: it accepts no new work, and its tasks are cancelled unless they are detached.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; ALREADY_EXISTS `REQUEST_ID_REUSED`.
    pub async fn close(
        self,
        request: impl Into<v1::CloseSessionRequest>,
    ) -> Result<v1::CloseSessionResponse, Error> {
        let attempts = self.attempts("ToolRunner.CloseSession");
        send(attempts, identify(request.into()), rpc!(tool_runner.close_session)).await
    }

    /// Lists one page of the history of a session, oldest message first.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; INVALID_ARGUMENT `PAGE_TOKEN_INVALID`.
    pub async fn list_messages(
        self,
        request: impl Into<v1::ListMessagesRequest>,
    ) -> Result<v1::ListMessagesResponse, Error> {
        page(self.connection, request).await
    }

    /// Returns the history of a session as a stream of messages, oldest first, over all pages.
    ///
    /// # Errors
    /// An item may be an error: NOT_FOUND `SESSION_NOT_FOUND`.
    pub fn messages(self, session_id: impl Into<String>) -> MessageStream {
        MessageStream::new(self.connection, ListMessages::new(session_id).into())
    }

    /// Streams the events of a session: all of them, those after a sequence, or only live ones. The
    /// stream opens at the first poll.
    ///
    /// # Errors
    /// An item may be an error: NOT_FOUND `SESSION_NOT_FOUND`; OUT_OF_RANGE `SEQUENCE_AHEAD`,
    /// `SEQUENCE_TRIMMED` with [`OnGap::Fail`](v1::OnGap::Fail), or `STREAM_EPOCH_MISMATCH` if the
    /// request names another epoch than that of the log.
    pub fn events(self, request: impl Into<v1::StreamSessionRequest>) -> SessionStream {
        SessionStream::new(self.connection, request.into())
    }
}
