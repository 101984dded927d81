//! New connections to other replicas.

use std::io::{self, ErrorKind};
use std::pin::Pin;

use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// A stream of bytes to a replica, with TLS or without.
pub(super) type Socket = Pin<Box<dyn Stream>>;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// Connects to the address `http://HOST:PORT`, or with `tls` to `https://HOST:PORT`.
pub(super) async fn connect(address: &str, tls: Option<&TlsConnector>) -> io::Result<Socket> {
    let invalid = |error: &str| io::Error::new(ErrorKind::InvalidInput, error.to_owned());
    let uri: Uri = address.parse().map_err(|_| invalid("the address is not a URI"))?;
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
        return Err(invalid("the address has no host or no port"));
    };
    let host = host.trim_matches(['[', ']']);
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    if uri.scheme_str() != Some("https") {
        return Ok(Box::pin(socket));
    }
    let tls = tls.ok_or_else(|| invalid("this server has no TLS for other servers"))?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| invalid("the host can't be in a certificate"))?;
    Ok(Box::pin(tls.connect(name, socket).await?))
}
