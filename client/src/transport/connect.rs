//! Functions that open connections.

use std::{io, sync::Arc};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A boxed byte stream that carries one connection. A [`Connector`] returns it.
///
/// ```
/// let (client_end, _server_end) = tokio::io::duplex(1024);
/// let connection: callpark_client::BoxIo = Box::new(client_end);
/// # drop(connection);
/// ```
pub type BoxIo = Box<dyn Io>;

/// A function that opens a connection to an endpoint of the options each time it is called.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use callpark_client::{BoxIo, Client, ClientOptions, Connector};
/// use futures::FutureExt as _;
/// use tokio::net::UnixStream;
///
/// # fn main() -> Result<(), callpark_client::Error> {
/// let connector: Connector = Arc::new(|_endpoint| {
///     async { Ok(Box::new(UnixStream::connect("/run/callpark.sock").await?) as BoxIo) }.boxed()
/// });
/// let client = Client::with_connector(ClientOptions::default(), connector)?;
/// # Ok(())
/// # }
/// ```
pub type Connector = Arc<dyn Fn(&str) -> BoxFuture<'static, io::Result<BoxIo>> + Send + Sync>;

/// The requirements on a connection. Implemented for every type that meets them; sealed.
///
/// ```
/// fn check(_: &impl callpark_client::Io) {}
///
/// let (client_end, _server_end) = tokio::io::duplex(1024);
/// check(&client_end);
/// ```
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + sealed::Sealed {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

mod sealed {
    use super::{AsyncRead, AsyncWrite};

    pub trait Sealed {}

    impl<T: AsyncRead + AsyncWrite + Send + Unpin> Sealed for T {}
}
