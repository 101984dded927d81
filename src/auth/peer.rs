//! The peer of a connection, as the operating system reports it.

use std::fmt;
use std::net::SocketAddr;

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
