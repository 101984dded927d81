//! The messages of a session.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use tokio::time::Instant;

use crate::{
    error::Error,
    options::RetryBudget,
    transport::{
        attempts::Attempts,
        connection::Connection,
        pages::next_page_token,
        unary::{rpc, send},
    },
    v1,
};

/// The messages of a session, oldest first: a `Stream` of `Result<v1::Message, Error>`.
///
/// [`Sessions::messages`](crate::Sessions::messages) returns it. It requests one page after the other
/// while it is polled, and ends after the last page or after an error.
///
/// ```no_run
/// use callpark_client::{Client, Error};
/// use futures::TryStreamExt as _;
///
/// # async fn show(client: Client, session_id: String) -> Result<(), Error> {
/// let mut messages = client.sessions().messages(session_id);
/// while let Some(message) = messages.try_next().await? {
///     println!("{} {:?}", message.number, message.role());
/// }
/// # Ok(())
/// # }
/// ```
pub struct MessageStream {
    messages: BoxStream<'static, Result<v1::Message, Error>>,
}

impl MessageStream {
    pub(crate) fn new(connection: &Connection, request: v1::ListMessagesRequest) -> Self {
        let pages = Pages { connection: connection.clone(), deadline: connection.deadline() };
        let pages = stream::try_unfold((pages, Some(request)), async |(pages, request)| {
            let Some(request) = request else { return Ok::<_, Error>(None) };
            let (messages, next) = pages.read(request).await?;
            Ok(Some((stream::iter(messages).map(Ok), (pages, next))))
        });
        Self { messages: pages.try_flatten().boxed() }
    }
}

struct Pages {
    connection: Connection,
    /// The deadline of the whole walk.
    deadline: Option<Instant>,
}

impl Pages {
    /// Reads one page. Returns its messages, and the request of the next page if there is one.
    async fn read(
        &self,
        mut request: v1::ListMessagesRequest,
    ) -> Result<(Vec<v1::Message>, Option<v1::ListMessagesRequest>), Error> {
        const RPC: &str = "ToolRunner.ListMessages";
        let attempts = Attempts::new(&self.connection, RPC, RetryBudget::Start);
        let attempts = attempts.until(self.deadline);
        let page = send(attempts, request.clone(), rpc!(tool_runner.list_messages)).await?;
        let next = next_page_token(RPC, &request.page_token, page.next_page_token)?;
        let next = next.map(|page_token| {
            request.page_token = page_token;
            request
        });
        Ok((page.messages, next))
    }
}

impl Stream for MessageStream {
    type Item = Result<v1::Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.poll_next_unpin(cx)
    }
}

impl fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStream").finish_non_exhaustive()
    }
}
