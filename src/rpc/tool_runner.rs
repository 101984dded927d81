//! `callpark.v1.ToolRunner`.

use std::pin::Pin;

use async_stream::try_stream;
use callpark_proto::stored::SessionUpdate;
use callpark_proto::v1::session_update::Control;
use callpark_proto::{stored, v1};
use futures::{FutureExt as _, Stream, StreamExt};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::convert::{self, Fields, fingerprint};
use super::deadline::{answer_at, bounded};
use super::layer::principal;
use super::status::invalid;
use crate::engine::{CallHandle, CallRequest, Engine, Error, LogItem, Started, TurnRequest};
use crate::model::limits::TEXT_BYTES_MAX;
use crate::model::{Call, CallId, ParkReason, Principal, Session};
use crate::store::SessionCursor;

/// The service.
pub(super) struct ToolRunner {
    engine: Engine,
}

type UpdateStream = Pin<Box<dyn Stream<Item = Result<SessionUpdate, Status>> + Send>>;

impl ToolRunner {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn start_turn(&self, who: &Principal, wanted: TurnRequest) -> Result<CallHandle, Status> {
        match self.engine.start_turn(who, wanted).boxed().await? {
            Started::Call(handle) => Ok(handle),
            Started::DryRun(_) => Err(Error::Internal("a turn was not started".into()).into()),
        }
    }

    /// The answer to a call that has settled. Its future is large: a handler that waits puts it on
    /// the heap when its time has come.
    async fn run_answer(&self, call: Call, replayed: bool) -> Result<v1::RunToolResponse, Status> {
        use v1::run_tool_response::Outcome;
        let (session_id, call_id) = (call.session_id.to_string(), call.id.to_string());
        // Once parked, always parked: what has ended since is in the task.
        let is_parked = call.is_task();
        let (call, summary) = self.engine.complete(call).await?;
        let outcome = if is_parked {
            Outcome::Parked(convert::parked_call(call, summary, self.engine.now()))
        } else {
            match call.outcome.map(convert::outcome_result) {
                Some(Ok(result)) => Outcome::Result(result),
                // A call that was lost in the foreground failed, as far as its caller goes.
                Some(Err(failure)) => Outcome::Result(v1::ToolResult {
                    is_error: true,
                    error_message: failure.message,
                    ..Default::default()
                }),
                None => {
                    let cause = format!("{call_id} has ended without an outcome");
                    return Err(Error::Internal(cause).into());
                }
            }
        };
        Ok(v1::RunToolResponse {
            session_id,
            call_id,
            outcome: Some(outcome),
            replayed,
            dry_run: false,
        })
    }
}

#[tonic::async_trait]
impl stored::tool_runner_server::ToolRunner for ToolRunner {
    type StreamToolStream = UpdateStream;
    type StreamTurnStream = UpdateStream;
    type StreamSessionStream = UpdateStream;

    async fn list_tools(
        &self,
        request: Request<v1::ListToolsRequest>,
    ) -> Result<Response<v1::ListToolsResponse>, Status> {
        let who = principal(&request)?;
        let v1::ListToolsRequest { session_id } = request.into_inner();
        let mut fields = Fields::default();
        let session_id = fields.session_id("session_id", &session_id);
        let session_id = fields.finish(session_id).map_err(invalid)?;
        let (tools, unavailable) = self.engine.tools(&who, session_id).await?;
        let tools = tools.into_iter().map(convert::tool).collect();
        let unavailable = unavailable.into_iter().map(convert::unavailable).collect();
        Ok(Response::new(v1::ListToolsResponse { tools, unavailable }))
    }

    async fn run_tool(
        &self,
        request: Request<v1::RunToolRequest>,
    ) -> Result<Response<v1::RunToolResponse>, Status> {
        let who = principal(&request)?;
        let park_at = answer_at(&request);
        let wanted = convert::call_request(request.into_inner()).map_err(invalid)?;
        let mut handle = match self.engine.start(&who, wanted).boxed().await? {
            Started::Call(handle) => handle,
            Started::DryRun(dry_run) => {
                let session_id = dry_run.session_id.map(|id| id.to_string()).unwrap_or_default();
                let answer =
                    v1::RunToolResponse { session_id, dry_run: true, ..Default::default() };
                return Ok(Response::new(answer));
            }
        };
        let call = handle.settled(park_at).await?;
        Ok(Response::new(self.run_answer(call, handle.replayed).boxed().await?))
    }

    async fn stream_tool(
        &self,
        request: Request<v1::StreamToolRequest>,
    ) -> Result<Response<UpdateStream>, Status> {
        let who = principal(&request)?;
        let park_at = answer_at(&request);
        let wanted: CallRequest = convert::stream_request(request.into_inner()).map_err(invalid)?;
        let handle = match self.engine.start(&who, wanted).await? {
            Started::Call(handle) => handle,
            Started::DryRun(_) => return Ok(Response::new(futures::stream::empty().boxed())),
        };
        let after = handle.start_sequence().await?.saturating_sub(1);
        let updates = call_updates(self.engine.clone(), handle, after, park_at);
        Ok(Response::new(updates.boxed()))
    }

    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        let who = principal(&request)?;
        let mut request = request.into_inner();
        let (request_id, digest) = fingerprint!("CreateSession", request);
        let mut fields = Fields::default();
        let key = fields.request_id(request_id, digest);
        let wanted = convert::new_session(&mut fields, request);
        let wanted = fields.finish(wanted).map_err(invalid)?;
        let created = self.engine.create_session(&who, wanted, key.as_ref()).await?;
        Ok(Response::new(v1::CreateSessionResponse {
            session: Some(convert::session(created.session)),
            replayed: created.replayed,
        }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let who = principal(&request)?;
        let v1::GetSessionRequest { session_id } = request.into_inner();
        let mut fields = Fields::default();
        let session_id = fields.required_session_id("session_id", &session_id);
        let session_id = fields.finish(session_id).map_err(invalid)?;
        let session = self.engine.get_session(&who, session_id).await?;
        let session = Some(convert::session(session));
        Ok(Response::new(v1::GetSessionResponse { session }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let who = principal(&request)?;
        let (query, filters) = convert::list_sessions_query(&who, request.into_inner())?;
        let page = self.engine.list_sessions(query).await?;
        let behind =
            |session: &Session| SessionCursor { create_time: session.create_time, id: session.id };
        let (sessions, next) =
            convert::fit(page.sessions, page.next, convert::brief_session, behind);
        let next_page_token = convert::next_session_token(next, filters);
        Ok(Response::new(v1::ListSessionsResponse { sessions, next_page_token }))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let who = principal(&request)?;
        let mut request = request.into_inner();
        let (request_id, digest) = fingerprint!("CloseSession", request);
        let v1::CloseSessionRequest { session_id, request_id: _, reason } = request;
        let mut fields = Fields::default();
        let key = fields.request_id(request_id, digest);
        let session_id = fields.required_session_id("session_id", &session_id);
        let reason = fields.text("reason", reason, TEXT_BYTES_MAX);
        let (session_id, reason) = fields.finish((session_id, reason)).map_err(invalid)?;
        let closed = self.engine.close_session(&who, session_id, reason, key.as_ref()).await?;
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        Ok(Response::new(v1::CloseSessionResponse {
            session: Some(convert::session(closed.session)),
            cancelled_tasks: count(closed.cancelled_tasks),
            detached_tasks: count(closed.detached_tasks),
            replayed: closed.replayed,
        }))
    }

    async fn run_turn(
        &self,
        request: Request<v1::RunTurnRequest>,
    ) -> Result<Response<v1::RunTurnResponse>, Status> {
        let who = principal(&request)?;
        let until = answer_at(&request);
        let wanted = convert::turn_request(request.into_inner()).map_err(invalid)?;
        let mut handle = self.start_turn(&who, wanted).await?;
        let call = handle.wait_ended(until).await?;
        let outcome = self.engine.turn_outcome(call).boxed().await?;
        Ok(Response::new(convert::turn_response(outcome, handle.replayed)))
    }

    async fn stream_turn(
        &self,
        request: Request<v1::StreamTurnRequest>,
    ) -> Result<Response<UpdateStream>, Status> {
        let who = principal(&request)?;
        let end_at = answer_at(&request);
        let wanted = convert::stream_turn_request(request.into_inner()).map_err(invalid)?;
        let handle = self.start_turn(&who, wanted).await?;
        let after = handle.start_sequence().await?.saturating_sub(1);
        let updates = turn_updates(self.engine.clone(), handle, after);
        Ok(Response::new(bounded(updates, end_at).boxed()))
    }

    async fn cancel_turn(
        &self,
        request: Request<v1::CancelTurnRequest>,
    ) -> Result<Response<v1::CancelTurnResponse>, Status> {
        let who = principal(&request)?;
        let v1::CancelTurnRequest { session_id, turn_id, request_id, reason } =
            request.into_inner();
        let mut fields = Fields::default();
        let session_id = fields.required_session_id("session_id", &session_id);
        let turn_id = fields.turn_id("turn_id", &turn_id);
        // Stopping twice changes nothing, with an id or without one.
        fields.request_id(request_id, convert::Fingerprint::none());
        let reason = fields.text("reason", reason, TEXT_BYTES_MAX);
        let wanted = fields.finish((session_id, turn_id, reason)).map_err(invalid)?;
        let (session_id, turn_id, reason) = wanted;
        let cancelled = self.engine.cancel_turn(&who, session_id, turn_id, reason).await?;
        Ok(Response::new(v1::CancelTurnResponse {
            turn_id: cancelled.turn_id.map(|id| id.to_string()).unwrap_or_default(),
            running_background_ids: cancelled.running.iter().map(CallId::background).collect(),
            replayed: cancelled.replayed,
        }))
    }

    async fn stream_session(
        &self,
        request: Request<v1::StreamSessionRequest>,
    ) -> Result<Response<UpdateStream>, Status> {
        let who = principal(&request)?;
        let end_at = answer_at(&request);
        let query = convert::log_query(request.into_inner()).map_err(invalid)?;
        let items = self.engine.stream_session(who, query);
        let updates = items.map(|item| item.map(update).map_err(Status::from));
        Ok(Response::new(bounded(updates, end_at).boxed()))
    }
}

/// The events of a call while its caller listens. Going away before it has settled counts as going
/// away from the call, because the handle goes with the stream.
fn call_updates(
    engine: Engine,
    mut handle: CallHandle,
    after: u64,
    park_at: Option<Instant>,
) -> impl Stream<Item = Result<SessionUpdate, Status>> + Send {
    try_stream! {
        let items = engine.stream_call(handle.session_id, handle.call_id, after);
        let mut items = std::pin::pin!(items);
        let mut park_at = park_at;
        loop {
            let step = tokio::select! {
                item = items.next() => Some(item),
                () = crate::engine::sleep_until(park_at) => None,
            };
            match step {
                Some(Some(Ok(item))) => yield update(item),
                Some(Some(Err(error))) => {
                    if error == Error::Draining {
                        handle.stay();
                    }
                    Err(error)?;
                }
                Some(None) => break,
                None => {
                    park_at = None;
                    handle.park(ParkReason::Deadline).await?;
                }
            }
        }
        handle.release();
    }
}

/// The events of a turn while its caller listens. Going away before its end parks it.
fn turn_updates(
    engine: Engine,
    mut handle: CallHandle,
    after: u64,
) -> impl Stream<Item = Result<SessionUpdate, Status>> + Send {
    try_stream! {
        let items = engine.stream_turn(handle.session_id, handle.turn_id(), after);
        let mut items = std::pin::pin!(items);
        while let Some(item) = items.next().await {
            match item {
                Ok(item) => yield update(item),
                Err(error) => {
                    if error == Error::Draining {
                        handle.stay();
                    }
                    Err(error)?;
                }
            }
        }
        handle.release();
    }
}

/// A step of a stream as a message. The events travel as the bytes that were stored.
fn update(item: LogItem) -> SessionUpdate {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let control = match item {
        LogItem::Events(events) => {
            return SessionUpdate { events, control: None };
        }
        LogItem::Snapshot(session) => Control::Snapshot(v1::Snapshot {
            head_sequence: signed(session.head_sequence),
            first_sequence: signed(session.first_sequence),
            stream_epoch: session.stream_epoch.clone(),
            session: Some(convert::session(*session)),
        }),
        LogItem::CaughtUp { head } => {
            Control::CaughtUp(v1::CaughtUp { head_sequence: signed(head) })
        }
        LogItem::Heartbeat { head } => {
            Control::Heartbeat(v1::Heartbeat { head_sequence: signed(head) })
        }
        LogItem::Gap { from, to } => {
            Control::Gap(v1::Gap { from_sequence: signed(from), to_sequence: signed(to) })
        }
        LogItem::Draining { retry_after, last_sequence } => Control::Draining(v1::Draining {
            retry_after: Some(convert::duration(retry_after)),
            last_sequence: signed(last_sequence),
        }),
    };
    SessionUpdate { events: Vec::new(), control: Some(control) }
}
