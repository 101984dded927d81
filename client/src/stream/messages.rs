//! The messages of a session.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};

use crate::{
    error::Error,
    transport::{connection::Connection, pages::Pages},
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
        let pages = Pages::new(connection, request);
        let pages = stream::try_unfold(pages, async |mut pages: Pages<v1::ListMessagesRequest>| {
            let page = pages.next().await?;
            Ok::<_, Error>(page.map(|page| (stream::iter(page.messages).map(Ok), pages)))
        });
        Self { messages: pages.try_flatten().boxed() }
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
