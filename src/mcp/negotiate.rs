//! Which of the protocol's two beginnings a server is met with.
//!
//! Since 2026-07-28 nothing is initialized: a server is asked what it speaks, and each request says
//! who sends it. Only that protocol has tasks. An older server refuses the question, leaves it
//! without an answer or hangs up on it; then there is the older beginning.

use std::time::Duration;

use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, DiscoverRequest, DiscoverRequestParams, JsonRpcMessage,
    PingRequest, ProtocolVersion, RequestMetaObject, ServerResult,
};
use rmcp::service::{ClientLifecycleMode, RoleClient};
use rmcp::transport::Transport;
use tokio::time::timeout;

use super::handler::callpark;
use super::notifications::{ObservedTransport, ping_id, question};

/// The protocol in which nothing is initialized.
const SPOKEN: ProtocolVersion = ProtocolVersion::V_2026_07_28;

/// Asks a server what it speaks: how it wants to be met, or nothing if it hung up. One that has let
/// `patience` go by is pinged, which tells whether it is there and answers only what it knows. One
/// that says nothing at all in half as long again is met as an older one is, and what it answers
/// later is passed over.
///
/// rmcp can ask as well, but takes a server that takes 10 s to start for an older one, and its answer
/// for one to the next request.
pub(super) async fn ask<T: Transport<RoleClient>>(
    transport: &mut ObservedTransport<T>,
    patience: Duration,
) -> Option<ClientLifecycleMode> {
    let mut request = DiscoverRequest::new(DiscoverRequestParams {});
    let (capabilities, information) = callpark();
    let who = RequestMetaObject::with_client_context(SPOKEN, information, capabilities);
    request.extensions.insert(who);
    let request =
        ClientJsonRpcMessage::request(ClientRequest::DiscoverRequest(request), question());
    let asking = async {
        transport.send(request).await.ok()?;
        answer(transport).await
    };
    let speaks_it = match timeout(patience, asking).await {
        Err(_) => {
            let ping = ClientRequest::PingRequest(PingRequest::default());
            let pinging = async {
                transport.send(ClientJsonRpcMessage::request(ping, ping_id())).await.ok()?;
                answer(transport).await
            };
            timeout(patience / 2, pinging).await
        }
        heard => heard,
    };
    transport.pass_over_late_answers();
    Some(match speaks_it {
        Ok(None) => return None,
        Ok(Some(true)) => ClientLifecycleMode::Discover { preferred_versions: vec![SPOKEN] },
        Ok(Some(false)) | Err(_) => ClientLifecycleMode::Initialize,
    })
}

/// Whether it speaks the protocol in which nothing is initialized.
async fn answer<T: Transport<RoleClient>>(transport: &mut ObservedTransport<T>) -> Option<bool> {
    loop {
        match transport.receive().await? {
            JsonRpcMessage::Response(response) if response.id == question() => {
                return Some(match response.result {
                    ServerResult::DiscoverResult(found) => {
                        found.supported_versions.contains(&SPOKEN)
                    }
                    _ => false,
                });
            }
            // Without an answer to what it was asked before.
            JsonRpcMessage::Response(response) if response.id == ping_id() => return Some(false),
            // One that refuses pings hasn't said anything of the question. An error may be one
            // without an id.
            JsonRpcMessage::Error(error)
                if error.id.as_ref().is_none_or(|id| *id == question()) =>
            {
                return Some(false);
            }
            // Nobody is there to hear what it says unasked.
            _ => {}
        }
    }
}
