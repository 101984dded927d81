//! Connections to the server, and the attempts of each call.

pub(crate) mod attempts;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod handle;
pub(crate) mod pages;
pub(crate) mod request_id;
pub(crate) mod retry;
pub(crate) mod token;
pub(crate) mod unary;
