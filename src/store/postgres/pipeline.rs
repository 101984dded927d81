//! Statements that are sent one after the other without waiting for the answers in between.

use deadpool_postgres::ClientWrapper;
use futures::future::{BoxFuture, maybe_done, ready};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use super::error::PostgresError;

/// A connection with its prepared statements.
pub(super) struct Statements<'a>(&'a ClientWrapper);

impl<'a> Statements<'a> {
    pub(super) fn new(client: &'a ClientWrapper) -> Self {
        Self(client)
    }

    pub(super) fn client(&self) -> &'a ClientWrapper {
        self.0
    }

    /// Returns the statement, which is prepared at the first use of the connection.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, PostgresError> {
        Ok(self.0.prepare_cached(sql).await?)
    }
}

type Answer = Result<Vec<Row>, Error>;

/// Statements in the order in which the server gets them. Each must be prepared, so that its request
/// is sent when its future is first polled.
#[derive(Default)]
pub(super) struct Pipeline<'a>(Vec<BoxFuture<'a, Answer>>);

impl<'a> Pipeline<'a> {
    /// Adds statements without parameters, which have no rows.
    pub(super) fn batch(&mut self, client: &'a ClientWrapper, sql: &'static str) {
        let batch = async move { client.batch_execute(sql).await.map(|()| Vec::new()) };
        self.0.push(Box::pin(batch));
    }

    /// Adds a query, or leaves it out: then its answer has no rows.
    pub(super) fn query_if(
        &mut self,
        condition: bool,
        client: &'a ClientWrapper,
        statement: &'a Statement,
        params: Vec<&'a (dyn ToSql + Sync)>,
    ) {
        self.0.push(match condition {
            true => Box::pin(async move { client.query(statement, &params).await }),
            false => Box::pin(ready(Ok(Vec::new()))),
        });
    }

    /// Sends all statements, and returns their rows in the order of the statements.
    ///
    /// # Errors
    ///
    /// Returns the first error, after all answers have come: what follows a failed statement fails
    /// only because of it.
    pub(super) async fn run(self) -> Result<Vec<Vec<Row>>, PostgresError> {
        let mut requests: Vec<_> =
            self.0.into_iter().map(|request| Box::pin(maybe_done(request))).collect();
        for request in &mut requests {
            // The answer, if it is there at once, stays in the request.
            let _ = futures::poll!(request.as_mut());
        }
        let mut answers = Vec::with_capacity(requests.len());
        for mut request in requests {
            request.as_mut().await;
            answers.extend(request.as_mut().take_output());
        }
        Ok(answers.into_iter().collect::<Result<_, _>>()?)
    }
}
