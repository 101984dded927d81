//! The service `callpark.v1.ToolRunner`.

use std::pin::Pin;

use callpark_proto::stored::SessionUpdate;
use callpark_proto::{stored, v1};
use futures::{FutureExt as _, Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::convert::{self, FieldReader, ToolView, fingerprint};
use super::deadline::{Deadline, answer_at, bounded};
use super::layer::{AuditedRequest, caller, principal};
use super::server_info::ServerInfo;
use super::updates::{call_updates, session_update, turn_updates};
use crate::engine::{CallRequest, Engine, Error, Started};
use crate::model::limits::TEXT_BYTES_MAX;
use crate::model::{Call, CallId, Scope, Session, Tool};
use crate::store::SessionCursor;

pub(super) struct ToolRunner {
    engine: Engine,
    info: ServerInfo,
}

type UpdateStream = Pin<Box<dyn Stream<Item = Result<SessionUpdate, Status>> + Send>>;

impl ToolRunner {
    pub(super) fn new(engine: Engine, info: ServerInfo) -> Self {
        Self { engine, info }
    }

    /// Returns the answer to a call that has settled. Its future is large, so a handler boxes it after
    /// its wait instead of holding it during the wait.
    async fn call_answer(&self, call: Call, replayed: bool) -> Result<v1::RunToolResponse, Status> {
        use v1::run_tool_response::Outcome;
        let (session_id, call_id) = (call.session_id.to_string(), call.id.to_string());
        // A call that was parked is answered as parked, even if it has ended since.
        let is_parked = call.is_task();
        let (call, summary) = self.engine.calls().with_full_output(call).await?;
        let outcome = if is_parked {
            Outcome::Parked(convert::parked_call(call, summary, self.engine.now()))
        } else {
            let result = convert::foreground_result(call).ok_or_else(|| {
                Error::Internal(format!("{call_id} has ended without an outcome"))
            })?;
            Outcome::Result(result)
        };
        Ok(v1::RunToolResponse {
            session_id,
            call_id,
            outcome: Some(outcome),
            replayed,
            dry_run: false,
        })
    }

    /// Returns the answer to a turn that has settled.
    async fn turn_answer(&self, call: Call, replayed: bool) -> Result<v1::RunTurnResponse, Status> {
        use v1::run_turn_response::Outcome;
        let (session_id, call_id) = (call.session_id.to_string(), call.id.to_string());
        let turn_id = call.turn_id.map(|id| id.to_string()).unwrap_or_default();
        let outcome = if call.is_task() {
            Outcome::Parked(convert::parked_call(call, None, self.engine.now()))
        } else {
            Outcome::Result(convert::turn_result(self.engine.turns().outcome(call).await?))
        };
        Ok(v1::RunTurnResponse {
            session_id,
            turn_id,
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
        let principal = principal(&request)?;
        let (query, view) =
            convert::list_tools_query(request.into_inner(), &self.engine.page_token_key())?;
        let (mut tools, unavailable) =
            self.engine.calls().list_tools(&principal, query.session_id).await?;
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        let unavailable = match &query.cursor {
            None => unavailable.into_iter().map(convert::unavailable).collect(),
            Some(_) => Vec::new(),
        };
        if let Some(last) = &query.cursor {
            tools.retain(|tool| tool.name > *last);
        }
        let limit = query.limit as usize;
        let next = (tools.len() > limit).then(|| tools[limit - 1].name.clone());
        tools.truncate(limit);
        let convert_tool = |tool| match view {
            ToolView::Full => convert::tool(tool),
            ToolView::Basic => convert::summary_tool(tool),
        };
        let (tools, next) =
            convert::fit_page(tools, next, convert_tool, |tool: &Tool| tool.name.clone());
        let next_page_token = query.tokens.next(next);
        Ok(Response::new(v1::ListToolsResponse { tools, unavailable, next_page_token }))
    }

    async fn run_tool(
        &self,
        request: Request<v1::RunToolRequest>,
    ) -> Result<Response<v1::RunToolResponse>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let deadline = Deadline::of(&request);
        let call = convert::call_request(request.into_inner())?;
        let call = CallRequest { answer_at: answer_at(&self.engine, deadline), ..call };
        let mut handle = match self.engine.calls().start(&principal, call).boxed().await? {
            Started::Call(handle) => handle,
            Started::DryRun(dry_run) => {
                audited.changes_nothing();
                let session_id = dry_run.session_id.map(|id| id.to_string()).unwrap_or_default();
                let answer =
                    v1::RunToolResponse { session_id, dry_run: true, ..Default::default() };
                return Ok(Response::new(answer));
            }
        };
        audited.done(handle.call_id);
        let call = handle.wait_settled(|| answer_at(&self.engine, deadline)).await?;
        Ok(Response::new(self.call_answer(call, handle.replayed).boxed().await?))
    }

    async fn stream_tool(
        &self,
        request: Request<v1::RunToolRequest>,
    ) -> Result<Response<UpdateStream>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let deadline = Deadline::of(&request);
        let call = convert::call_request(request.into_inner())?;
        let call = CallRequest { answer_at: answer_at(&self.engine, deadline), ..call };
        let handle = match self.engine.calls().start(&principal, call).await? {
            Started::Call(handle) => handle,
            Started::DryRun(_) => {
                audited.changes_nothing();
                return Ok(Response::new(futures::stream::empty().boxed()));
            }
        };
        audited.done(handle.call_id);
        let engine = self.engine.clone();
        let leave_at = move || answer_at(&engine, deadline);
        let updates = call_updates(self.engine.clone(), handle, leave_at).await?;
        Ok(Response::new(updates.boxed()))
    }

    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let mut request = request.into_inner();
        let (request_id, digest) = fingerprint!("CreateSession", request);
        let mut fields = FieldReader::default();
        let key = fields.request_id("request_id", request_id, digest);
        let session = convert::new_session(&mut fields, request);
        let session = fields.finish(session)?;
        let created = self.engine.sessions().create(&principal, session, key.as_ref()).await?;
        audited.done(created.session.id);
        Ok(Response::new(v1::CreateSessionResponse {
            session: Some(convert::session(created.session)),
            replayed: created.replayed,
        }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let principal = principal(&request)?;
        let v1::GetSessionRequest { session_id } = request.into_inner();
        let mut fields = FieldReader::default();
        let session_id = fields.required_session_id("session_id", &session_id);
        let session_id = fields.finish(session_id)?;
        let session = self.engine.sessions().get(&principal, session_id).await?;
        let session = Some(convert::session(session));
        Ok(Response::new(v1::GetSessionResponse { session }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let principal = principal(&request)?;
        let key = self.engine.page_token_key();
        let (query, tokens) = convert::list_sessions_query(&principal, request.into_inner(), &key)?;
        let page = self.engine.sessions().list(query).await?;
        let cursor =
            |session: &Session| SessionCursor { create_time: session.create_time, id: session.id };
        let (sessions, next) =
            convert::fit_page(page.sessions, page.next, convert::summary_session, cursor);
        let next_page_token = tokens.next(next);
        let unreadable_sessions = convert::size(page.unreadable.len());
        let answer = v1::ListSessionsResponse { sessions, next_page_token, unreadable_sessions };
        Ok(Response::new(answer))
    }

    async fn update_session(
        &self,
        request: Request<v1::UpdateSessionRequest>,
    ) -> Result<Response<v1::UpdateSessionResponse>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let (session_id, update, key) = convert::update_session_request(request.into_inner())?;
        audited.about(session_id);
        let updated =
            self.engine.sessions().update(&principal, session_id, update, key.as_ref()).await?;
        Ok(Response::new(v1::UpdateSessionResponse {
            session: Some(convert::session(updated.session)),
            replayed: updated.replayed,
        }))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let mut request = request.into_inner();
        let (request_id, digest) = fingerprint!("CloseSession", request);
        let v1::CloseSessionRequest { session_id, request_id: _, reason } = request;
        let mut fields = FieldReader::default();
        let key = fields.request_id("request_id", request_id, digest);
        let session_id = fields.required_session_id("session_id", &session_id);
        let reason = fields.text("reason", reason, TEXT_BYTES_MAX);
        let (session_id, reason) = fields.finish((session_id, reason))?;
        audited.about(session_id);
        let closed =
            self.engine.sessions().close(&principal, session_id, reason, key.as_ref()).await?;
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        Ok(Response::new(v1::CloseSessionResponse {
            session: Some(convert::session(closed.session)),
            cancelled_tasks: count(closed.cancelled_tasks),
            detached_tasks: count(closed.detached_tasks),
            replayed: closed.replayed,
        }))
    }

    async fn list_messages(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let principal = principal(&request)?;
        let (session_id, query) =
            convert::list_messages_query(request.into_inner(), &self.engine.page_token_key())?;
        let after = query.cursor.unwrap_or(0);
        let sessions = self.engine.sessions();
        let page = sessions.messages(&principal, session_id, after, query.limit).await?;
        let (messages, next) =
            convert::fit_page(page.messages, page.next, convert::message, |message| message.0);
        let next_page_token = query.tokens.next(next);
        Ok(Response::new(v1::ListMessagesResponse { messages, next_page_token }))
    }

    async fn run_turn(
        &self,
        request: Request<v1::RunTurnRequest>,
    ) -> Result<Response<v1::RunTurnResponse>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let deadline = Deadline::of(&request);
        let turn = convert::turn_request(request.into_inner())?;
        let mut handle = match self.engine.turns().start(&principal, turn).boxed().await? {
            Started::Call(handle) => handle,
            Started::DryRun(dry_run) => {
                audited.changes_nothing();
                let session_id = dry_run.session_id.map(|id| id.to_string()).unwrap_or_default();
                let answer =
                    v1::RunTurnResponse { session_id, dry_run: true, ..Default::default() };
                return Ok(Response::new(answer));
            }
        };
        audited.done(handle.call_id);
        let call = handle.wait_settled(|| answer_at(&self.engine, deadline)).await?;
        Ok(Response::new(self.turn_answer(call, handle.replayed).boxed().await?))
    }

    async fn stream_turn(
        &self,
        request: Request<v1::RunTurnRequest>,
    ) -> Result<Response<UpdateStream>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let deadline = Deadline::of(&request);
        let turn = convert::turn_request(request.into_inner())?;
        let handle = match self.engine.turns().start(&principal, turn).boxed().await? {
            Started::Call(handle) => handle,
            Started::DryRun(_) => {
                audited.changes_nothing();
                return Ok(Response::new(futures::stream::empty().boxed()));
            }
        };
        audited.done(handle.call_id);
        let engine = self.engine.clone();
        let leave_at = move || answer_at(&engine, deadline);
        let updates = turn_updates(self.engine.clone(), handle, leave_at).await?;
        Ok(Response::new(updates.boxed()))
    }

    async fn cancel_turn(
        &self,
        request: Request<v1::CancelTurnRequest>,
    ) -> Result<Response<v1::CancelTurnResponse>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let v1::CancelTurnRequest { session_id, turn_id, request_id, reason } =
            request.into_inner();
        let mut fields = FieldReader::default();
        let session_id = fields.required_session_id("session_id", &session_id);
        let turn_id = fields.turn_id("turn_id", &turn_id);
        // A second cancellation changes nothing, so the id is checked and not recorded.
        fields.request_id("request_id", request_id, convert::Fingerprint::none());
        let reason = fields.text("reason", reason, TEXT_BYTES_MAX);
        let (session_id, turn_id, reason) = fields.finish((session_id, turn_id, reason))?;
        match turn_id {
            Some(turn_id) => audited.about(turn_id),
            None => audited.about(session_id),
        }
        let cancelled = self.engine.turns().cancel(&principal, session_id, turn_id, reason).await?;
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
        let principal = principal(&request)?;
        let end_at = answer_at(&self.engine, Deadline::of(&request));
        let query = convert::stream_query(request.into_inner())?;
        let items = self.engine.events().session(principal, query).await?;
        let updates = items.map(|item| item.map(session_update).map_err(Status::from));
        Ok(Response::new(bounded(updates, end_at).boxed()))
    }

    async fn get_server_info(
        &self,
        request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let caller = caller(&request)?;
        // Processes of the machine are of no concern to a tenant.
        let is_admin = caller.principal.scopes.contains(Scope::Admin);
        let shims = if is_admin { self.engine.shims() } else { Vec::new() };
        Ok(Response::new(self.info.response(shims, caller, self.engine.now())))
    }
}
