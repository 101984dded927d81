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
use super::handler::McpClientHandler;
use super::negotiate::ask;
use super::notifications::ObservedTransport;
use super::open::handshake_fault;
use crate::exec::{FirstError, LINE_BYTES_MAX, LastLines};

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reaches a server and shakes hands with it. An error says, as the end of a sentence, why not.
pub(super) async fn reach(config: &ServerConfig, url: &str) -> Result<ConnectionParts, String> {
    // reqwest takes the provider of the whole program; another one may be there already.
    let _result = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // As rmcp's own client has it: an idle connection to some servers stalls.
        .pool_max_idle_per_host(0)
        // The token is for this server only.
        .redirect(Policy::none())
        .user_agent(concat!("callpark/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("no HTTP client could be made: {error}"))?;
    let mut options = StreamableHttpClientTransportConfig::with_uri(url.to_owned())
        .max_sse_event_size(LINE_BYTES_MAX)
        .max_json_response_size(LINE_BYTES_MAX);
    if let Some(file) = &config.token_file {
        options = options.auth_header(token(file).await?);
    }
    // A connection that is cut is made again by the supervisor, and the calls on it fail: by default
    // it would be tried for ever.
    options.retry_config = Arc::new(NeverRetry::default());
    let connect = || {
        let http = StreamableHttpClientTransport::with_client(client.clone(), options.clone());
        ObservedTransport::new(http)
    };
    let mut transport = connect();
    let lifecycle = match ask(&mut transport, config.question_patience()).await {
        Some(lifecycle) => lifecycle,
        None => {
            // Why it can't be talked to is told by the next try, which is the older beginning.
            transport = connect();
            ClientLifecycleMode::Initialize
        }
    };
    let (notifications, gone) = (transport.notifications.clone(), transport.gone.clone());
    let service =
        serve_client_with_lifecycle(McpClientHandler::default(), transport, lifecycle).await;
    let service = service.map_err(|error| format!("{} at {url}", handshake_fault(&error)))?;
    let (first_error, last_lines) = (FirstError::default(), LastLines::default());
    Ok(ConnectionParts { service, notifications, gone, life: None, first_error, last_lines })
}

async fn token(file: &Path) -> Result<String, String> {
    let token = tokio::fs::read_to_string(file).await;
    let token = token.map_err(|error| format!("its token_file {}: {error}", file.display()))?;
    match token.trim() {
        "" => Err(format!("its token_file {} is empty", file.display())),
        token => Ok(token.to_owned()),
    }
}
