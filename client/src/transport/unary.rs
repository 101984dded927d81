//! Calls with one answer.

use tonic::{Request, Response, Status};

use crate::{
    error::Error,
    transport::{
        attempts::{Attempts, FailureContext},
        connection::Connection,
    },
};

/// Sends a request until it is answered or refused, or until the retry budget is used up.
///
/// Only for requests that are safe to repeat: reads, and those with a `request_id`.
pub(crate) async fn send<Q, A, W>(
    mut attempts: Attempts,
    message: Q,
    rpc: impl Fn(&Connection, Request<Q>) -> W,
) -> Result<A, Error>
where
    Q: Clone,
    W: Future<Output = Result<Response<A>, Status>>,
{
    loop {
        let request = attempts.request(message.clone()).await?;
        let answer = rpc(attempts.connection(), request);
        match attempts.bounded(answer).await? {
            Ok(answer) => {
                attempts.answered();
                return Ok(answer.into_inner());
            }
            Err(status) => {
                attempts.recover(attempts.failed(status), FailureContext::default()).await?;
            }
        }
    }
}

/// Names a method of a generated service client, as [`send`] takes it: `rpc!(tool_runner.run_tool)`.
macro_rules! rpc {
    ($service:ident.$method:ident) => {
        |connection: &$crate::transport::connection::Connection, request| {
            let mut service = connection.$service();
            async move { service.$method(request).await }
        }
    };
}

pub(crate) use rpc;
