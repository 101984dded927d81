//! The gRPC contract of callpark, a service that runs the tool calls of AI agents and parks the
//! slow ones.
//!
//! - [`v1`] holds the messages of `callpark.v1`, their clients (feature `client`) and their servers
//!   (feature `server`).
//! - `stored` (feature `server`) holds the same servers, with a session stream that sends events as
//!   the bytes that were stored.
//! - [`google::rpc`] holds `google.rpc.Status`, which tasks and events carry.
//! - [`FILE_DESCRIPTOR_SET`] describes all of it, for reflection and for JSON.
//!
//! All `bytes` fields are [`bytes::Bytes`], all maps are [`BTreeMap`](std::collections::BTreeMap):
//! the same message always encodes to the same bytes. Times, spans and JSON values are those of
//! [`prost_types`].
//!
//! The crate brings no transport: a client is made with `ToolRunnerClient::new(channel)`, from a
//! `tonic::transport::Channel` or anything else that is a gRPC service.

// The module path is that of the protobuf package: generated code finds its neighbours by it.
mod callpark {
    /// Messages, clients and servers of `callpark.v1`.
    #[expect(clippy::large_enum_variant, reason = "the messages are as large as the contract says")]
    #[cfg_attr(
        any(feature = "client", feature = "server"),
        expect(
            clippy::allow_attributes_without_reason,
            reason = "the attributes are the generator's"
        )
    )]
    #[cfg_attr(
        feature = "server",
        expect(clippy::allow_attributes, reason = "the attributes are the generator's")
    )]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/callpark.v1.rs"));
    }
}

pub use callpark::v1;

/// Messages of Google's common packages.
pub mod google {
    /// The error model of gRPC.
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
    }
}

#[cfg(any(feature = "client", feature = "server"))]
pub mod codec;
#[cfg(feature = "server")]
pub mod stored;

/// The encoded `google.protobuf.FileDescriptorSet` of `callpark.v1` and of all that it imports, with
/// comments.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
