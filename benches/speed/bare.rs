//! The base line: the same messages over the same transport, with nothing behind them.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use callpark_proto::{stored, v1};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::model::proxied;

/// Answers `RunTool` and `Wait` at once, `StreamSession` with so many events as the request says
/// behind which sequence to begin, and `StreamTurn` with what its model says.
#[derive(Debug, Clone)]
pub(crate) struct Bare {
    /// The address of the model.
    pub(crate) model: Arc<str>,
}

/// Events in a message, as the server sends them in a replay.
const EVENTS: usize = 64;

/// The size of an event in bytes.
pub(crate) const EVENT_BYTES: usize = 200;

/// A service under the name of one of the contract's.
#[derive(Debug, Clone)]
pub(crate) struct ToolRunner(pub(crate) Bare);

/// The other.
#[derive(Debug, Clone)]
pub(crate) struct BackgroundTasks(pub(crate) Bare);

impl NamedService for ToolRunner {
    const NAME: &'static str = "callpark.v1.ToolRunner";
}

impl NamedService for BackgroundTasks {
    const NAME: &'static str = "callpark.v1.BackgroundTasks";
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl tower::Service<Request<Body>> for ToolRunner {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        answer(self.0.clone(), request)
    }
}

impl tower::Service<Request<Body>> for BackgroundTasks {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        answer(self.0.clone(), request)
    }
}

fn answer(bare: Bare, request: Request<Body>) -> Answer {
    async move {
        Ok(match request.uri().path() {
            "/callpark.v1.ToolRunner/RunTool" => {
                let codec = ProstCodec::<v1::RunToolResponse, v1::RunToolRequest>::default();
                Grpc::new(codec).unary(bare, request).await
            }
            "/callpark.v1.BackgroundTasks/Wait" => {
                let codec = ProstCodec::<v1::WaitResponse, v1::WaitRequest>::default();
                Grpc::new(codec).unary(bare, request).await
            }
            "/callpark.v1.ToolRunner/StreamSession" => {
                let codec =
                    ProstCodec::<stored::SessionUpdate, v1::StreamSessionRequest>::default();
                Grpc::new(codec).server_streaming(bare, request).await
            }
            "/callpark.v1.ToolRunner/StreamTurn" => {
                let codec = ProstCodec::<stored::SessionUpdate, v1::RunTurnRequest>::default();
                Grpc::new(codec).server_streaming(bare, request).await
            }
            _ => Status::new(Code::Unimplemented, "not a part of the base line").into_http(),
        })
    }
    .boxed()
}

type Answered<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

impl UnaryService<v1::RunToolRequest> for Bare {
    type Response = v1::RunToolResponse;
    type Future = Answered<v1::RunToolResponse>;

    fn call(&mut self, request: tonic::Request<v1::RunToolRequest>) -> Self::Future {
        let session_id = request.into_inner().session_id;
        let outcome = v1::run_tool_response::Outcome::Result(v1::ToolResult::default());
        let answer =
            v1::RunToolResponse { session_id, outcome: Some(outcome), ..Default::default() };
        async move { Ok(tonic::Response::new(answer)) }.boxed()
    }
}

impl UnaryService<v1::WaitRequest> for Bare {
    type Response = v1::WaitResponse;
    type Future = Answered<v1::WaitResponse>;

    fn call(&mut self, _: tonic::Request<v1::WaitRequest>) -> Self::Future {
        async { Ok(tonic::Response::new(v1::WaitResponse::default())) }.boxed()
    }
}

impl ServerStreamingService<v1::StreamSessionRequest> for Bare {
    type Response = stored::SessionUpdate;
    type ResponseStream = BoxStream<'static, Result<stored::SessionUpdate, Status>>;
    type Future = Answered<Self::ResponseStream>;

    fn call(&mut self, request: tonic::Request<v1::StreamSessionRequest>) -> Self::Future {
        let count = request.into_inner().start_after_sequence.unwrap_or_default();
        let count = usize::try_from(count).unwrap_or_default();
        let event = Bytes::from(vec![b'x'; EVENT_BYTES]);
        let messages = (0..count).step_by(EVENTS).map(move |sent| {
            let events = vec![event.clone(); EVENTS.min(count - sent)];
            Ok(stored::SessionUpdate { events, control: None })
        });
        let messages = stream::iter(messages).boxed();
        async move { Ok(tonic::Response::new(messages)) }.boxed()
    }
}

impl ServerStreamingService<v1::RunTurnRequest> for Bare {
    type Response = stored::SessionUpdate;
    type ResponseStream = BoxStream<'static, Result<stored::SessionUpdate, Status>>;
    type Future = Answered<Self::ResponseStream>;

    fn call(&mut self, request: tonic::Request<v1::RunTurnRequest>) -> Self::Future {
        let (model, prompt) = (self.model.clone(), request.into_inner().prompt);
        async move {
            let updates = proxied(&model, &prompt).await;
            let updates = updates.map_err(|error| Status::unavailable(error.to_string()))?;
            Ok(tonic::Response::new(updates))
        }
        .boxed()
    }
}
