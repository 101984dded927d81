//! The server below gRPC: frames of HTTP/2 and bytes of TCP that no client would send. Each of
//! them is met in order, and no other client of the server notices.

mod bodies;
mod crowd;
mod faults;
mod floods;
mod flow;
mod frames;
mod gzip;
mod handshakes;
mod heads;
mod hpack;
mod neighbour;
mod requests;
mod resets;
mod unread;
