//! `callpark.v1.ToolWorker`.

use callpark_proto::{stored, v1};
use futures::stream::Empty;
use tonic::{Request, Response, Status, Streaming};

use super::status::unimplemented;

/// The service. This server has no workers.
pub(super) struct ToolWorker;

#[tonic::async_trait]
impl stored::tool_worker_server::ToolWorker for ToolWorker {
    type ConnectStream = Empty<Result<v1::ServerMessage, Status>>;

    async fn connect(
        &self,
        _request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        Err(unimplemented("ToolWorker.Connect"))
    }
}
