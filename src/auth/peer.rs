//! The peer of a connection, as the operating system reports it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::ClientCertificate;

/// The peer of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A program at an address of the network.
    Network(SocketAddr),
    /// A process on this machine, on a Unix domain socket.
    Process {
        /// The user that it ran as when it connected.
        uid: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Process { uid } => write!(f, "a process of user {uid}"),
        }
    }
}

/// The peer of a connection, and the certificate that it has shown. Each request has it in its extensions.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The peer.
    pub peer: Peer,
    /// The certificate of the client, or `None` if it has shown none that can be read.
    pub certificate: Option<Arc<ClientCertificate>>,
}
