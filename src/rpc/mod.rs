//! The gRPC services over the engine, with conversions, statuses, and the layer around every request.

mod audited;
mod background_tasks;
mod convert;
mod deadline;
mod forward;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod layer;
mod scopes;
mod server_info;
mod status;
mod tool_runner;
mod updates;

use callpark_proto::stored::background_tasks_server::BackgroundTasksServer;
use callpark_proto::stored::tool_runner_server::ToolRunnerServer;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

use crate::engine::Engine;

pub use convert::WireCodec;
pub use forward::{Forwarder, ForwarderOptions};
pub use layer::{RequestLayer, RequestOptions, RequestService};
pub use server_info::ServerInfo;

/// The limits on the sizes of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// The largest request, in bytes.
    pub request_bytes_max: usize,
    /// The largest response, or message of a stream, in bytes.
    pub response_bytes_max: usize,
}

/// The names of the services, for health and reflection.
pub const SERVICES: [&str; 2] = ["callpark.v1.ToolRunner", "callpark.v1.BackgroundTasks"];

/// The name of a method, and its kind of streaming.
pub(crate) struct MethodKind {
    /// `package.Service/Method`.
    pub(crate) name: String,
    pub(crate) server_streaming: bool,
    pub(crate) client_streaming: bool,
}

/// Returns all methods, from the descriptors, so that a new one cannot be forgotten.
pub(crate) fn method_kinds() -> Vec<MethodKind> {
    use prost::Message as _;
    let set = prost_types::FileDescriptorSet::decode(callpark_proto::FILE_DESCRIPTOR_SET);
    let mut kinds = Vec::new();
    for file in set.map(|set| set.file).unwrap_or_default() {
        for service in &file.service {
            let service_name = format!("{}.{}", file.package(), service.name());
            kinds.extend(service.method.iter().map(|method| MethodKind {
                name: format!("{service_name}/{}", method.name()),
                server_streaming: method.server_streaming(),
                client_streaming: method.client_streaming(),
            }));
        }
    }
    kinds
}

/// Returns the names of all methods, as `package.Service/Method`.
pub fn methods() -> Vec<String> {
    method_kinds().into_iter().map(|kind| kind.name).collect()
}

/// Returns all services over one engine.
pub fn routes(engine: &Engine, info: ServerInfo) -> Routes {
    let MessageLimits { request_bytes_max, response_bytes_max } = info.limits;
    let tool_runner = ToolRunnerServer::new(tool_runner::ToolRunner::new(engine.clone(), info))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(request_bytes_max)
        .max_encoding_message_size(response_bytes_max);
    let background_tasks =
        BackgroundTasksServer::new(background_tasks::BackgroundTasks::new(engine.clone()))
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .send_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(request_bytes_max)
            .max_encoding_message_size(response_bytes_max);
    Routes::new(tool_runner).add_service(background_tasks)
}
