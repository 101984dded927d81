//! Requests, and what their answers say.

use std::collections::BTreeMap;

use callpark_proto::v1::background_tasks_client::BackgroundTasksClient;
use callpark_proto::v1::tool_runner_client::ToolRunnerClient;
use callpark_proto::{stored, v1};
use prost_types::{Struct, Value, value::Kind};
use tonic::Streaming;
use tonic::transport::Channel;

use crate::{Result, tools};

/// A connection to both services.
#[derive(Clone)]
pub(crate) struct Client {
    /// Tools and sessions.
    pub(crate) tools: ToolRunnerClient<Channel>,
    /// Background tasks.
    pub(crate) tasks: BackgroundTasksClient<Channel>,
    channel: Channel,
}

impl Client {
    /// Both services over one connection.
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            tools: ToolRunnerClient::new(channel.clone()),
            tasks: BackgroundTasksClient::new(channel.clone()),
            channel,
        }
    }

    /// A new session.
    pub(crate) async fn session(&mut self) -> Result<String> {
        let request = v1::CreateSessionRequest::default();
        let session = self.tools.create_session(request).await?.into_inner().session;
        Ok(session.ok_or("no session")?.session_id)
    }

    /// Calls the tool that does nothing.
    pub(crate) async fn run_nothing(&mut self, session_id: &str) -> Result<()> {
        let request = request(session_id, tools::NOTHING, &[]);
        self.tools.run_tool(request).await?;
        Ok(())
    }

    /// Calls `bash`.
    pub(crate) async fn run_bash(&mut self, command: &str) -> Result<()> {
        let command = Value { kind: Some(Kind::StringValue(command.to_owned())) };
        let fields = BTreeMap::from([("command".to_owned(), command)]);
        let arguments = Some(Struct { fields });
        let request =
            v1::RunToolRequest { tool: "bash".to_owned(), arguments, ..Default::default() };
        self.tools.run_tool(request).await?;
        Ok(())
    }

    /// Starts a tool in the background and gives its id.
    pub(crate) async fn start(
        &mut self,
        session_id: &str,
        tool: &str,
        arguments: &[(&str, f64)],
    ) -> Result<String> {
        self.start_call(request(session_id, tool, arguments)).await
    }

    /// Starts a command in the background.
    pub(crate) async fn start_bash(&mut self, session_id: &str, command: &str) -> Result<String> {
        let command = Value { kind: Some(Kind::StringValue(command.to_owned())) };
        let fields = BTreeMap::from([("command".to_owned(), command)]);
        let call = v1::RunToolRequest {
            session_id: session_id.to_owned(),
            tool: "bash".to_owned(),
            arguments: Some(Struct { fields }),
            ..Default::default()
        };
        self.start_call(call).await
    }

    /// Starts this call in the background and gives its id.
    pub(crate) async fn start_call(&mut self, call: v1::RunToolRequest) -> Result<String> {
        let work = Some(v1::start_request::Work::ToolCall(call));
        let request = v1::StartRequest { work, ..Default::default() };
        let task = self.tasks.start(request).await?.into_inner().task;
        Ok(task.ok_or("no task")?.background_id)
    }

    /// Waits for a task's end and gives it.
    pub(crate) async fn wait(&mut self, background_id: &str) -> Result<v1::Task> {
        let wait = Some(prost_types::Duration { seconds: 500, nanos: 0 });
        let background_id = background_id.to_owned();
        let request = v1::WaitRequest { background_id, wait, acknowledge: false };
        let task = self.tasks.wait(request).await?.into_inner().task;
        Ok(task.unwrap_or_default())
    }

    /// Lists the newest tasks.
    pub(crate) async fn list(&mut self) -> Result<usize> {
        Ok(self.tasks.list(v1::ListRequest::default()).await?.into_inner().tasks.len())
    }

    /// Ends a task.
    pub(crate) async fn cancel(&mut self, background_id: &str) -> Result<()> {
        let background_id = background_id.to_owned();
        self.tasks.cancel(v1::CancelRequest { background_id, ..Default::default() }).await?;
        Ok(())
    }

    /// A session's events as the bytes that were stored: what a client does with them isn't the
    /// server's speed.
    pub(crate) async fn stream(
        &self,
        request: v1::StreamSessionRequest,
    ) -> Result<Streaming<stored::SessionUpdate>> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc = grpc.max_decoding_message_size(64 << 20);
        grpc.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/callpark.v1.ToolRunner/StreamSession");
        let codec = tonic_prost::ProstCodec::default();
        let answer = grpc.server_streaming(tonic::Request::new(request), path, codec).await?;
        Ok(answer.into_inner())
    }
}

/// A call of a tool of the benchmark.
pub(crate) fn request(
    session_id: &str,
    tool: &str,
    arguments: &[(&str, f64)],
) -> v1::RunToolRequest {
    let number = |value: f64| Value { kind: Some(Kind::NumberValue(value)) };
    let fields: BTreeMap<_, _> =
        arguments.iter().map(|(name, value)| ((*name).to_owned(), number(*value))).collect();
    v1::RunToolRequest {
        session_id: session_id.to_owned(),
        tool: tool.to_owned(),
        arguments: Some(Struct { fields }),
        ..Default::default()
    }
}

/// Reads a session's log from its start, or from now on.
pub(crate) fn log_request(
    session_id: &str,
    from_now: bool,
    follow: bool,
) -> v1::StreamSessionRequest {
    v1::StreamSessionRequest {
        session_id: session_id.to_owned(),
        from_now,
        follow: Some(follow),
        ..Default::default()
    }
}
