//! Servers at a URL.

use std::path::Path;
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
use super::negotiate::negotiate;
use super::notifications::ObservedTransport;
use crate::exec::{FirstError, LINE_BYTES_MAX, LastLines};

/// The timeout for connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to a server at a URL and completes the handshake. The error is the end of a sentence.
pub(super) async fn connect(config: &ServerConfig, url: &str) -> Result<ConnectionParts, String> {
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
    let mut options = StreamableHttpClientTransportConfig::with_uri(url.to_owned())
        .max_sse_event_size(LINE_BYTES_MAX)
        .max_json_response_size(LINE_BYTES_MAX);
    if let Some(file) = &config.token_file {
        options = options.auth_header(read_token(file).await?);
    }
    // The supervisor connects again, and the calls on a lost connection fail. By default rmcp would
    // retry forever.
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
    let handler = McpClientHandler::default();
    let service = serve_client_with_lifecycle(handler, transport, lifecycle).await;
    let service = service.map_err(|error| format!("{} at {url}", handshake_error(&error)))?;
    let (first_error, last_lines) = (FirstError::default(), LastLines::default());
    Ok(ConnectionParts { service, notifications, silent, life: None, first_error, last_lines })
}

async fn read_token(file: &Path) -> Result<String, String> {
    let token = tokio::fs::read_to_string(file).await;
    let token = token.map_err(|error| format!("its token_file {}: {error}", file.display()))?;
    match token.trim() {
        "" => Err(format!("its token_file {} is empty", file.display())),
        token => Ok(token.to_owned()),
    }
}
