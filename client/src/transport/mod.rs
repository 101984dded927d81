//! Connections to the server, and the attempts of each call.

mod address;
pub(crate) mod attempts;
pub(crate) mod connect;
pub(crate) mod connection;
mod connection_handle;
pub(crate) mod dial;
pub(crate) mod fault;
pub(crate) mod handle;
pub(crate) mod http_answer;
pub(crate) mod pages;
pub(crate) mod pool;
pub(crate) mod request_id;
pub(crate) mod retry;
mod tls;
pub(crate) mod token;
pub(crate) mod unary;
