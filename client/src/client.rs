//! The client.

use std::{fmt, time::Duration};

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::{
    error::Error,
    follow_up::FollowUps,
    options::{ClientOptions, OnRetry, RetryBudget},
    sessions::Sessions,
    task::Tasks,
    tools::Tools,
    transport::{
        attempts::Attempts,
        connect::Connector,
        connection::Connection,
        unary::{rpc, send},
    },
    turns::Turns,
    v1,
};

/// A client of callpark. It is cheap to clone, and clones share their connections.
///
/// Calls and streams use two separate connections to each endpoint. They are opened when they are first
/// used, and opened again when they are lost. With the defaults of the server, a connection carries up to
/// 128 streams at a time; further ones wait. With several endpoints, calls take them
/// [in turn](crate#endpoints).
///
/// Dropping the future of a call, or a stream, ends it on the server as well. The work that it
/// started continues, unless the request specified otherwise.
///
/// ```no_run
/// use callpark_client::{Client, ClientOptions, TokenSource};
///
/// # fn main() -> Result<(), callpark_client::Error> {
/// let token = TokenSource::File("/run/secrets/callpark-token".into());
/// let client = Client::new(ClientOptions::new("http://127.0.0.1:50051").with_token(token))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Creates a client. Reads the files in [`ClientOptions::tls`], and does not connect yet.
    ///
    /// # Errors
    /// [`Origin::Options`](crate::Origin::Options) for an endpoint that is not an address, a file
    /// that cannot be read, or certificates that are not valid.
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        Ok(Self { connection: Connection::new(options, None)? })
    }

    /// Creates a client that obtains its connections from `connector`. An endpoint in the options
    /// names the server and decides whether TLS is used; it is not resolved.
    ///
    /// # Errors
    /// The errors of [`Client::new`].
    pub fn with_connector(options: ClientOptions, connector: Connector) -> Result<Self, Error> {
        Ok(Self { connection: Connection::new(options, Some(connector))? })
    }

    /// Returns the tools of the server.
    pub fn tools(&self) -> Tools<'_> {
        Tools::new(&self.connection)
    }

    /// Returns the background tasks of the server.
    pub fn tasks(&self) -> Tasks<'_> {
        Tasks::new(&self.connection)
    }

    /// Returns the sessions of the server.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions::new(&self.connection)
    }

    /// Returns the turns of the server's agents.
    pub fn turns(&self) -> Turns<'_> {
        Turns::new(&self.connection)
    }

    /// Returns the follow-ups of the server.
    pub fn follow_ups(&self) -> FollowUps<'_> {
        FollowUps::new(&self.connection)
    }

    /// Returns the version, the features and the bounds of the server.
    ///
    /// ```no_run
    /// use callpark_client::{Client, Error};
    ///
    /// # async fn show(client: Client) -> Result<(), Error> {
    /// let info = client.server_info().await?;
    /// let live_tasks_max = info.limits.unwrap_or_default().live_tasks_max;
    /// println!("callpark {}: {live_tasks_max} live tasks in a session", info.version);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Only the errors that every call may return.
    pub async fn server_info(&self) -> Result<v1::GetServerInfoResponse, Error> {
        let attempts =
            Attempts::new(&self.connection, "ToolRunner.GetServerInfo", RetryBudget::Start);
        let request = v1::GetServerInfoRequest::default();
        send(attempts, request, rpc!(tool_runner.get_server_info)).await
    }

    /// Returns whether the server is serving: `false` while it stops, and while its store takes no
    /// changes. Asks `grpc.health.v1.Health`, which needs no token.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use callpark_client::{Client, Error};
    ///
    /// # async fn probe(client: Client) -> Result<(), Error> {
    /// let client = client.with_deadline(Duration::from_secs(5));
    /// println!("{}", if client.is_serving().await? { "serving" } else { "not serving" });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Only the errors that every call may return: the server was not reached, or not in time.
    pub async fn is_serving(&self) -> Result<bool, Error> {
        let attempts = Attempts::new(&self.connection, "Health.Check", RetryBudget::Start);
        let answer = send(attempts, HealthCheckRequest::default(), rpc!(health.check)).await?;
        Ok(answer.status() == ServingStatus::Serving)
    }

    /// Returns a client for each endpoint alone, with the name of the endpoint, for probes. Resolves host
    /// names: each address of a host with several is an endpoint of its own.
    ///
    /// ```no_run
    /// use callpark_client::Client;
    ///
    /// # async fn probe(client: Client) {
    /// for (endpoint, client) in client.endpoints().await {
    ///     println!("{endpoint}: {:?}", client.is_serving().await);
    /// }
    /// # }
    /// ```
    pub async fn endpoints(&self) -> Vec<(String, Self)> {
        let split = self.connection.split().await;
        split.into_iter().map(|(name, connection)| (name, Self { connection })).collect()
    }

    /// Returns the options that the client was created from.
    pub fn options(&self) -> &ClientOptions {
        self.connection.options()
    }

    /// Returns the same client with another time limit for each call over all its attempts.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { connection: self.connection.with_deadline(Some(deadline)) }
    }

    /// Returns the same client without a time limit for its calls.
    #[must_use]
    pub fn without_deadline(&self) -> Self {
        Self { connection: self.connection.with_deadline(None) }
    }

    /// Returns the same client with another callback for retries.
    #[must_use]
    pub fn with_on_retry(&self, on_retry: OnRetry) -> Self {
        Self { connection: self.connection.with_on_retry(on_retry) }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connection", &self.connection).finish()
    }
}
