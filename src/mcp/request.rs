//! One request to a server on behalf of a call: its progress, its cancellation, and its answer.

use std::sync::Arc;

use rmcp::model::{ClientRequest, ServerResult};
use rmcp::service::{PeerRequestOptions, RequestHandle, RoleClient, ServiceError};
use tokio::time::timeout;

use super::connection::{CANCEL_TIMEOUT, ServerConnection};
use super::convert::{service_error, stopped};
use super::result_parts::ConvertedResult;
use crate::tool::ToolContext;

/// The answer to a request.
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, once for each call")]
pub(super) enum Answer {
    Result(ServerResult),
    /// The call was stopped before the server answered.
    Stopped(ConvertedResult),
}

/// Sends a request and returns its answer. Reports of progress become those of the call, and a stop
/// of the call cancels the request. An error is an error of the server, as the end of a sentence.
pub(super) async fn answer_of(
    connection: &Arc<ServerConnection>,
    request: ClientRequest,
    context: &ToolContext,
) -> Result<Answer, String> {
    let stop = context.cancellation_token();
    let sending =
        connection.peer.send_cancellable_request(request, PeerRequestOptions::no_options());
    let sent = tokio::select! {
        sent = sending => sent,
        reason = connection.closed() => return Err(reason.to_owned()),
    };
    let mut sent: RequestHandle<RoleClient> = match sent {
        Ok(sent) => sent,
        Err(error) => return Err(connection.request_error(&error).await),
    };
    let mut reports = connection.notifications.progress_of(&sent.progress_token);
    let answer = loop {
        tokio::select! {
            biased;
            // First: to cancel a call that was answered with a task would not end the task.
            answer = &mut sent.rx => {
                break answer.unwrap_or(Err(ServiceError::TransportClosed));
            }
            () = stop.cancelled() => {
                // With a bound: the server may not be reading.
                let cancel = sent.cancel(Some("the result is not wanted any more".to_owned()));
                let _sent = timeout(CANCEL_TIMEOUT, connection.until_closed(cancel)).await;
                return Ok(Answer::Stopped(stopped()));
            }
            report = reports.next() => {
                // The log may be full, and a stop ends the wait for it.
                let _sent = stop.run_until_cancelled(context.progress(report)).await;
            }
            reason = connection.closed() => return Err(reason.to_owned()),
        }
    };
    while let Some(report) = reports.try_next() {
        let _sent = stop.run_until_cancelled(context.progress(report)).await;
    }
    match answer {
        Ok(ServerResult::InputRequiredResult(_)) => {
            Err("it asks for input, which callpark cannot give".to_owned())
        }
        Ok(result) => Ok(Answer::Result(result)),
        Err(error @ ServiceError::McpError(_)) => Err(service_error(&error)),
        Err(error) => Err(connection.request_error(&error).await),
    }
}
