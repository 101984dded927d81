//! The part of a replica in an engine: its lease, the sessions that it takes over, and what it does when
//! others have declared it dead.

mod peers;

pub use peers::Peers;
