//! The limits on connections, in all and from one peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::Peer;
use crate::telemetry::ConnectionRefusal;

/// A limit on the number of connections, including those whose handshake is under way.
#[derive(Clone)]
pub(super) struct Gate(Arc<Shared>);

struct Shared {
    connections_max: usize,
    connections_per_peer_max: usize,
    counts: Mutex<Counts>,
}

/// The numbers of connections. The accept loop and each connection that ends lock them for a few
/// instructions.
#[derive(Default)]
struct Counts {
    total: usize,
    /// The peers that have a connection: at most as many entries as connections.
    peers: HashMap<PeerKey, usize>,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // The counts are consistent after every step, so a panic of another holder does no harm.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    pub(super) fn new(connections_max: usize, connections_per_peer_max: usize) -> Self {
        let counts = Mutex::default();
        Self(Arc::new(Shared { connections_max, connections_per_peer_max, counts }))
    }

    /// Returns a slot for a connection of this peer, or the reason why there is none.
    pub(super) fn enter(&self, peer: Peer) -> Result<ConnectionSlot, ConnectionRefusal> {
        let peer = PeerKey::of(peer);
        let mut counts = self.0.counts();
        if counts.total >= self.0.connections_max {
            return Err(ConnectionRefusal::TooManyConnections);
        }
        let of_peer = counts.peers.get(&peer).copied().unwrap_or(0);
        if of_peer >= self.0.connections_per_peer_max {
            return Err(ConnectionRefusal::TooManyFromPeer);
        }
        counts.total += 1;
        counts.peers.insert(peer, of_peer + 1);
        Ok(ConnectionSlot { shared: self.0.clone(), peer })
    }
}

/// The slot of a connection, released when it is dropped.
pub(super) struct ConnectionSlot {
    shared: Arc<Shared>,
    peer: PeerKey,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut counts = self.shared.counts();
        counts.total -= 1;
        if let Some(of_peer) = counts.peers.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                counts.peers.remove(&self.peer);
            }
        }
    }
}

/// The peer whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PeerKey {
    /// An IPv4 address, in either notation, or the /64 network of an IPv6 address, all of which a
    /// single host usually owns.
    Network(IpAddr),
    /// A user of this machine.
    User(u32),
}

impl PeerKey {
    fn of(peer: Peer) -> Self {
        match peer {
            Peer::Process { uid } => Self::User(uid),
            Peer::Network(address) => Self::Network(match address.ip().to_canonical() {
                IpAddr::V6(address) if !address.is_loopback() => {
                    IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
                }
                other => other,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Peer {
        let address: IpAddr = text.parse().expect("an address");
        Peer::Network((address, 1).into())
    }

    #[test]
    fn the_processes_of_a_user_are_one_peer() {
        let gate = Gate::new(10, 1);
        let _held = gate.enter(Peer::Process { uid: 1 });
        let refused = gate.enter(Peer::Process { uid: 1 }).err();
        assert_eq!(refused, Some(ConnectionRefusal::TooManyFromPeer));
        assert!(gate.enter(Peer::Process { uid: 2 }).is_ok());
    }

    #[test]
    fn a_peer_at_its_cap_leaves_room_for_others() {
        let gate = Gate::new(10, 2);
        let _held = [gate.enter(ip("10.0.0.1")), gate.enter(ip("::ffff:10.0.0.1"))];
        assert_eq!(gate.enter(ip("10.0.0.1")).err(), Some(ConnectionRefusal::TooManyFromPeer));
        assert!(gate.enter(ip("10.0.0.2")).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let gate = Gate::new(10, 1);
        let _held = gate.enter(ip("2001:db8::1"));
        assert_eq!(gate.enter(ip("2001:db8::2")).err(), Some(ConnectionRefusal::TooManyFromPeer));
        assert!(gate.enter(ip("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn a_slot_is_released_and_its_peer_forgotten() {
        let gate = Gate::new(1, 1);
        let slot = gate.enter(ip("10.0.0.1")).ok();
        assert!(slot.is_some());
        assert_eq!(gate.enter(ip("10.0.0.2")).err(), Some(ConnectionRefusal::TooManyConnections));
        drop(slot);
        assert!(gate.0.counts().peers.is_empty());
        assert!(gate.enter(ip("10.0.0.2")).is_ok());
    }
}
