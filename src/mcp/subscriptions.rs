//! What a server tells unasked only to those who have said that they listen.

use std::convert::Infallible;
use std::time::Duration;

use rmcp::model::SubscriptionFilter;
use rmcp::service::{Peer, RoleClient};
use tokio::time::sleep;

use super::handler::McpClientHandler;

/// How long it is before a server that has stopped telling is asked to tell again.
const PAUSE: Duration = Duration::from_secs(60);

/// Listens for changes of the tools for as long as it is polled, where the protocol wants that said.
pub(super) async fn listen(peer: &Peer<RoleClient>, handler: &McpClientHandler) -> Infallible {
    let wants_it_said = peer.peer_info().is_some_and(|server| {
        let tools = server.capabilities.tools.as_ref();
        !server.protocol_version.has_initialize()
            && tools.is_some_and(|tools| tools.list_changed == Some(true))
    });
    if !wants_it_said {
        return std::future::pending().await;
    }
    loop {
        let filter = SubscriptionFilter::builder().tools_list_changed().build();
        if let Ok(mut subscription) = peer.listen(filter).await {
            // They may have changed before it listened to us.
            handler.note_tools_changed();
            while let Ok(Some(_)) = subscription.next().await {
                handler.note_tools_changed();
            }
        }
        sleep(PAUSE).await;
    }
}
