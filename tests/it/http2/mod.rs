//! The server below gRPC: frames of HTTP/2 and bytes of TCP that no client would send. Each of
//! them is met in order, and nobody else on the server notices.

mod faults;
mod flow;
mod frames;
mod handshakes;
mod hpack;
mod neighbour;
mod requests;
mod resets;
