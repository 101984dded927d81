//! The choice between the two ways in which the protocol begins.
//!
//! Since 2026-07-28 nothing is initialized: a client asks the server which versions it supports,
//! and each request names its sender. Only that protocol has tasks. An older server refuses this
//! discovery, does not answer it, or closes the connection. Such a server is initialized.

use std::time::Duration;

use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, DiscoverRequest, DiscoverRequestParams, JsonRpcMessage,
    PingRequest, ProtocolVersion, RequestMetaObject, ServerResult,
};
use rmcp::service::{ClientLifecycleMode, RoleClient};
use rmcp::transport::Transport;
use tokio::time::timeout;

use super::handler::client_info;
use super::notifications::{ObservedTransport, discover_id, ping_id};

/// The protocol in which nothing is initialized.
const DISCOVER_VERSION: ProtocolVersion = ProtocolVersion::V_2026_07_28;

/// Asks a server which protocol it supports. Returns `None` if it closed the connection.
///
/// A server that does not answer within `discover_timeout` is pinged: an answer to the ping means
/// that it is running and did not understand the request. If it is silent for half as long again, it
/// is initialized as well, and its late answers are ignored.
///
/// rmcp can ask, too. But it treats a server that takes 10 s to start as an older one, and a late
/// answer as the answer to its next request.
pub(super) async fn negotiate<T: Transport<RoleClient>>(
    transport: &mut ObservedTransport<T>,
    discover_timeout: Duration,
) -> Option<ClientLifecycleMode> {
    let mut request = DiscoverRequest::new(DiscoverRequestParams {});
    let (capabilities, information) = client_info();
    let sender =
        RequestMetaObject::with_client_context(DISCOVER_VERSION, information, capabilities);
    request.extensions.insert(sender);
    let request =
        ClientJsonRpcMessage::request(ClientRequest::DiscoverRequest(request), discover_id());
    let discover = async {
        transport.send(request).await.ok()?;
        supports_discover(transport).await
    };
    let supported = match timeout(discover_timeout, discover).await {
        Err(_) => {
            let ping = ClientRequest::PingRequest(PingRequest::default());
            let ping = async {
                transport.send(ClientJsonRpcMessage::request(ping, ping_id())).await.ok()?;
                supports_discover(transport).await
            };
            timeout(discover_timeout / 2, ping).await
        }
        answered => answered,
    };
    transport.ignore_late_answers();
    let versions = vec![DISCOVER_VERSION];
    Some(match supported {
        Ok(None) => return None,
        Ok(Some(true)) => ClientLifecycleMode::Discover { preferred_versions: versions },
        Ok(Some(false)) | Err(_) => ClientLifecycleMode::Initialize,
    })
}

/// Waits for an answer. Returns whether the server supports the protocol in which nothing is
/// initialized, or `None` if it closed the connection.
async fn supports_discover<T: Transport<RoleClient>>(
    transport: &mut ObservedTransport<T>,
) -> Option<bool> {
    loop {
        match transport.receive().await? {
            JsonRpcMessage::Response(response) if response.id == discover_id() => {
                return Some(match response.result {
                    ServerResult::DiscoverResult(found) => {
                        found.supported_versions.contains(&DISCOVER_VERSION)
                    }
                    _ => false,
                });
            }
            // The ping was answered, the discovery before it was not.
            JsonRpcMessage::Response(response) if response.id == ping_id() => return Some(false),
            // An error may have no id. One about the ping says nothing about the discovery.
            JsonRpcMessage::Error(error)
                if error.id.as_ref().is_none_or(|id| *id == discover_id()) =>
            {
                return Some(false);
            }
            // Notifications and requests before the beginning are ignored.
            _ => {}
        }
    }
}
