//! The subscription to changes of the tools, which the protocol of 2026-07-28 asks for.

use std::convert::Infallible;
use std::time::Duration;

use rmcp::model::SubscriptionFilter;
use rmcp::service::{Peer, RoleClient};
use tokio::time::sleep;

use super::handler::McpClientHandler;

/// The pause before a subscription that has ended is made again.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(60);

/// Marks the catalog as stale whenever the tools change, for as long as it is polled. A server with
/// an older protocol notifies without a subscription.
pub(super) async fn follow_tool_changes(
    peer: &Peer<RoleClient>,
    handler: &McpClientHandler,
) -> Infallible {
    let needs_subscription = peer.peer_info().is_some_and(|server| {
        let tools = server.capabilities.tools.as_ref();
        !server.protocol_version.has_initialize()
            && tools.is_some_and(|tools| tools.list_changed == Some(true))
    });
    if !needs_subscription {
        return std::future::pending().await;
    }
    loop {
        let filter = SubscriptionFilter::builder().tools_list_changed().build();
        if let Ok(mut subscription) = peer.listen(filter).await {
            // The tools may have changed before the subscription began.
            handler.mark_stale();
            while let Ok(Some(_)) = subscription.next().await {
                handler.mark_stale();
            }
        }
        sleep(RESUBSCRIBE_PAUSE).await;
    }
}
