//! The gRPC service that follows the scripts.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Weak},
};

use callpark_client::v1;
use callpark_proto::v1::{
    background_tasks_server::BackgroundTasks, tool_runner_server::ToolRunner,
};
use futures::Stream;
use tokio::time::sleep;
use tonic::{Request, Response, Status};

use crate::fake::{Play, SETTLE, Scripts, Step, Streamed, Unary, Wires};

pub(crate) struct Service {
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) wires: Weak<Wires>,
}

impl Service {
    async fn cut(&self) {
        sleep(SETTLE).await;
        if let Some(wires) = self.wires.upgrade() {
            wires.cut();
        }
        std::future::pending().await
    }

    async fn play<Q: Clone, A>(
        &self,
        script: &Unary<Q, A>,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        match script.next(request)? {
            Play::Answer(answer) => Ok(Response::new(answer)),
            Play::Fail(status) => Err(status),
            Play::After(delay, answer) => {
                sleep(delay).await;
                Ok(Response::new(answer))
            }
            Play::FailAfter(delay, status) => {
                sleep(delay).await;
                Err(status)
            }
            Play::Cut => {
                self.cut().await;
                Err(Status::aborted("cut"))
            }
            Play::Never => std::future::pending().await,
        }
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

async fn stream<Q: Clone, M: Send + 'static>(
    service: &Arc<Scripts>,
    wires: &Weak<Wires>,
    script: impl FnOnce(&Scripts) -> &Streamed<Q, M>,
    request: Request<Q>,
) -> Result<Response<Messages<M>>, Status> {
    let steps = script(service).next(request)?;
    // Like a handler that refuses, a stream that fails at once fails before its headers.
    let mut steps = VecDeque::from(steps);
    if let Some(Step::Fail(status)) = steps.pop_front_if(|step| matches!(step, Step::Fail(_))) {
        return Err(status);
    }
    if let Some(Step::Never) = steps.front() {
        std::future::pending().await
    }
    let service = Service { scripts: Arc::clone(service), wires: wires.clone() };
    let messages = futures::stream::unfold((steps, service), async |(mut steps, service)| {
        loop {
            let item = match steps.pop_front()? {
                Step::Send(message) => Ok(message),
                Step::Fail(status) => Err(status),
                Step::Wait(time) => {
                    sleep(time).await;
                    continue;
                }
                Step::Cut => {
                    service.cut().await;
                    continue;
                }
                Step::Hang | Step::Never => std::future::pending().await,
            };
            return Some((item, (steps, service)));
        }
    });
    Ok(Response::new(Box::pin(messages)))
}

fn none<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not scripted"))
}

#[tonic::async_trait]
impl ToolRunner for Service {
    async fn list_tools(
        &self,
        request: Request<v1::ListToolsRequest>,
    ) -> Result<Response<v1::ListToolsResponse>, Status> {
        self.play(&self.scripts.list_tools, request).await
    }

    async fn run_tool(
        &self,
        request: Request<v1::RunToolRequest>,
    ) -> Result<Response<v1::RunToolResponse>, Status> {
        self.play(&self.scripts.run_tool, request).await
    }

    type StreamToolStream = Messages<v1::SessionUpdate>;

    async fn stream_tool(
        &self,
        request: Request<v1::RunToolRequest>,
    ) -> Result<Response<Self::StreamToolStream>, Status> {
        stream(&self.scripts, &self.wires, |scripts| &scripts.stream_tool, request).await
    }

    async fn create_session(
        &self,
        _: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        none()
    }

    async fn get_session(
        &self,
        _: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        none()
    }

    async fn list_sessions(
        &self,
        _: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        none()
    }

    async fn update_session(
        &self,
        request: Request<v1::UpdateSessionRequest>,
    ) -> Result<Response<v1::UpdateSessionResponse>, Status> {
        self.play(&self.scripts.update_session, request).await
    }

    async fn list_messages(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        self.play(&self.scripts.list_messages, request).await
    }

    async fn get_server_info(
        &self,
        request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        self.play(&self.scripts.server_info, request).await
    }

    async fn close_session(
        &self,
        _: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        none()
    }

    async fn run_turn(
        &self,
        request: Request<v1::RunTurnRequest>,
    ) -> Result<Response<v1::RunTurnResponse>, Status> {
        self.play(&self.scripts.run_turn, request).await
    }

    type StreamTurnStream = Messages<v1::SessionUpdate>;

    async fn stream_turn(
        &self,
        request: Request<v1::RunTurnRequest>,
    ) -> Result<Response<Self::StreamTurnStream>, Status> {
        stream(&self.scripts, &self.wires, |scripts| &scripts.stream_turn, request).await
    }

    async fn cancel_turn(
        &self,
        _: Request<v1::CancelTurnRequest>,
    ) -> Result<Response<v1::CancelTurnResponse>, Status> {
        none()
    }

    type StreamSessionStream = Messages<v1::SessionUpdate>;

    async fn stream_session(
        &self,
        request: Request<v1::StreamSessionRequest>,
    ) -> Result<Response<Self::StreamSessionStream>, Status> {
        stream(&self.scripts, &self.wires, |scripts| &scripts.stream_session, request).await
    }
}

#[tonic::async_trait]
impl BackgroundTasks for Service {
    async fn start(
        &self,
        request: Request<v1::StartRequest>,
    ) -> Result<Response<v1::StartResponse>, Status> {
        self.play(&self.scripts.start, request).await
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        self.play(&self.scripts.get, request).await
    }

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        none()
    }

    async fn wait(
        &self,
        request: Request<v1::WaitRequest>,
    ) -> Result<Response<v1::WaitResponse>, Status> {
        self.play(&self.scripts.wait, request).await
    }

    async fn wait_many(
        &self,
        request: Request<v1::WaitManyRequest>,
    ) -> Result<Response<v1::WaitManyResponse>, Status> {
        self.play(&self.scripts.wait_many, request).await
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        self.play(&self.scripts.cancel, request).await
    }

    async fn delete(
        &self,
        _: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        none()
    }

    async fn read_output(
        &self,
        request: Request<v1::ReadOutputRequest>,
    ) -> Result<Response<v1::ReadOutputResponse>, Status> {
        self.play(&self.scripts.read_output, request).await
    }

    type WatchStream = Messages<v1::WatchResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        stream(&self.scripts, &self.wires, |scripts| &scripts.watch, request).await
    }

    async fn summarize(
        &self,
        _: Request<v1::SummarizeRequest>,
    ) -> Result<Response<v1::SummarizeResponse>, Status> {
        none()
    }

    async fn list_follow_ups(
        &self,
        request: Request<v1::ListFollowUpsRequest>,
    ) -> Result<Response<v1::ListFollowUpsResponse>, Status> {
        self.play(&self.scripts.list_follow_ups, request).await
    }

    async fn lease_follow_ups(
        &self,
        request: Request<v1::LeaseFollowUpsRequest>,
    ) -> Result<Response<v1::LeaseFollowUpsResponse>, Status> {
        self.play(&self.scripts.lease_follow_ups, request).await
    }

    async fn acknowledge_follow_up(
        &self,
        request: Request<v1::AcknowledgeFollowUpRequest>,
    ) -> Result<Response<v1::AcknowledgeFollowUpResponse>, Status> {
        self.play(&self.scripts.acknowledge_follow_up, request).await
    }

    async fn retry_follow_up(
        &self,
        request: Request<v1::RetryFollowUpRequest>,
    ) -> Result<Response<v1::RetryFollowUpResponse>, Status> {
        self.play(&self.scripts.retry_follow_up, request).await
    }
}
