//! The connection to a server at a URL, up to the end of the handshake.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use rmcp::service::{ClientLifecycleMode, serve_client_with_lifecycle};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::common::client_side_sse::NeverRetry;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use super::config::ServerConfig;
use super::connection::ConnectionParts;
use super::convert::handshake_error;
use super::handler::McpClientHandler;
use super::http::HttpClient;
use super::negotiate::negotiate;
use super::notifications::ObservedTransport;
use super::token::Token;
use super::unreadable::Unreadable;
use crate::exec::{FirstError, LastLines};

/// The timeout for connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to a server at a URL and completes the handshake. The error is the end of a sentence.
pub(super) async fn connect(
    config: &ServerConfig,
    url: &str,
    unreadable: Unreadable,
) -> Result<ConnectionParts, String> {
    // reqwest uses the provider of the whole program. Another one may be installed already.
    let _result = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // As in rmcp's own client: an idle connection to some servers stalls.
        .pool_max_idle_per_host(0)
        // The token is for this server only.
        .redirect(Policy::none())
        .user_agent(concat!("callpark/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("no HTTP client could be created: {error}"))?;
    let token = Token::read(config.token_file.clone()).await?;
    let handler = McpClientHandler::default();
    let client = HttpClient::new(client, token, handler.clone(), unreadable);
    let mut options = StreamableHttpClientTransportConfig::with_uri(url.to_owned());
    // The number of calls has a bound of its own: slow ones must not hold up the others.
    options.max_concurrent_requests = usize::MAX;
    // By default rmcp would retry forever.
    options.retry_config = Arc::new(NeverRetry::default());
    let new_transport = || {
        let http = StreamableHttpClientTransport::with_client(client.clone(), options.clone());
        ObservedTransport::new(http)
    };
    let mut transport = new_transport();
    let lifecycle = match negotiate(&mut transport, config.discover_timeout()).await {
        Some(lifecycle) => lifecycle,
        None => {
            // The initialization that follows fails with the reason.
            transport = new_transport();
            ClientLifecycleMode::Initialize
        }
    };
    let (notifications, silent) = (transport.notifications.clone(), transport.silent.clone());
    let service = serve_client_with_lifecycle(handler, transport, lifecycle).await;
    let service = service.map_err(|error| format!("{} at {url}", handshake_error(&error)))?;
    let (first_error, last_lines) = (FirstError::default(), LastLines::default());
    Ok(ConnectionParts { service, notifications, silent, life: None, first_error, last_lines })
}
