//! Lists, which come in pages.

use callpark_proto::v1;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{
    error::Error,
    options::RetryBudget,
    transport::{
        attempts::Attempts,
        connection::Connection,
        unary::{rpc, send},
    },
};

/// A request for one page of a list.
pub(crate) trait PageRequest: Clone {
    /// The answer: a page.
    type Page;

    /// The method that is asked.
    const RPC: &'static str;

    /// Sends the request once.
    fn send_once(
        connection: Connection,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Page>, Status>> + Send;

    /// Returns the token of the page.
    fn page_token(&mut self) -> &mut String;

    /// Returns the token of the page after this one.
    fn next_page_token(page: &Self::Page) -> &str;
}

/// Names the method of each list.
macro_rules! lists {
    ($($request:ident -> $page:ident: $rpc:literal, $service:ident.$method:ident;)+) => {$(
        impl PageRequest for v1::$request {
            type Page = v1::$page;

            const RPC: &'static str = $rpc;

            fn send_once(
                connection: Connection,
                request: Request<Self>,
            ) -> impl Future<Output = Result<Response<Self::Page>, Status>> + Send {
                rpc!($service.$method)(&connection, request)
            }

            fn page_token(&mut self) -> &mut String {
                &mut self.page_token
            }

            fn next_page_token(page: &Self::Page) -> &str {
                &page.next_page_token
            }
        }
    )+};
}

lists! {
    ListToolsRequest -> ListToolsResponse: "ToolRunner.ListTools", tool_runner.list_tools;
    ListSessionsRequest -> ListSessionsResponse:
        "ToolRunner.ListSessions", tool_runner.list_sessions;
    ListMessagesRequest -> ListMessagesResponse:
        "ToolRunner.ListMessages", tool_runner.list_messages;
    ListRequest -> ListResponse: "BackgroundTasks.List", background_tasks.list;
    ListFollowUpsRequest -> ListFollowUpsResponse:
        "BackgroundTasks.ListFollowUps", background_tasks.list_follow_ups;
}

/// Reads the page that a request names.
pub(crate) async fn page<Q: PageRequest>(
    connection: &Connection,
    request: impl Into<Q>,
) -> Result<Q::Page, Error> {
    let attempts = Attempts::new(connection, Q::RPC, RetryBudget::Start);
    send_page(attempts, request.into()).await
}

async fn send_page<Q: PageRequest>(attempts: Attempts, request: Q) -> Result<Q::Page, Error> {
    send(attempts, request, |connection, request| Q::send_once(connection.clone(), request)).await
}

/// A walk over the pages of a list, which has one deadline.
pub(crate) struct Pages<Q> {
    connection: Connection,
    deadline: Option<Instant>,
    /// The request for the next page, or `None` after the last one.
    next: Option<Q>,
}

impl<Q: PageRequest> Pages<Q> {
    /// Starts a walk at the page that the request names.
    pub(crate) fn new(connection: &Connection, request: impl Into<Q>) -> Self {
        Self {
            connection: connection.clone(),
            deadline: connection.deadline(),
            next: Some(request.into()),
        }
    }

    /// Reads the next page. Returns `None` after the last one, and after an error.
    ///
    /// # Errors
    /// Besides those of the method: the server returned the token of the page itself, so that the walk
    /// would never end.
    pub(crate) async fn next(&mut self) -> Result<Option<Q::Page>, Error> {
        let Some(mut request) = self.next.take() else { return Ok(None) };
        let attempts = Attempts::new(&self.connection, Q::RPC, RetryBudget::Start);
        let page = send_page(attempts.until(self.deadline), request.clone()).await?;
        let token = Q::next_page_token(&page);
        if token == request.page_token() && !token.is_empty() {
            let error = Error::answer("the next page has the token of the page before it");
            return Err(error.of(Q::RPC, 1));
        }
        if !token.is_empty() {
            token.clone_into(request.page_token());
            self.next = Some(request);
        }
        Ok(Some(page))
    }
}
