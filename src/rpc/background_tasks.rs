//! The service `callpark.v1.BackgroundTasks`.

use std::pin::Pin;

use callpark_proto::{stored, v1};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::convert::{
    self, Acknowledgement, BackgroundWork, FieldReader, background_id, fingerprint,
};
use super::deadline::{Deadline, answer_at, bounded, cap_wait};
use super::layer::{AuditedRequest, principal};
use crate::engine::{Engine, Started, TaskUpdate, WaitMode, Waited};
use crate::model::{Call, State, ToolKind};
use crate::store::{CallCursor, FollowUpWithTask};

pub(super) struct BackgroundTasks {
    engine: Engine,
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

impl BackgroundTasks {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Returns a task with as much of its output as an answer may hold. The future is boxed, so that a
    /// handler that waits needs no memory for it.
    fn full_task(&self, call: Call) -> BoxFuture<'_, Result<v1::Task, Status>> {
        async move {
            let (call, summary) = self.engine.calls().with_full_output(call).await?;
            let shim_pid = self.shim_pid(&call);
            let task = convert::task_with_summary(call, summary, self.engine.now());
            Ok(v1::Task { shim_pid, ..task })
        }
        .boxed()
    }

    /// Returns the process id of the shim that owns the process of a call, or 0.
    fn shim_pid(&self, call: &Call) -> i32 {
        let pid = self.engine.calls().shim_of(call);
        pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default()
    }

    /// Returns the answer to a Wait. The future is boxed for the same reason.
    fn wait_answer(&self, waited: Waited) -> BoxFuture<'_, Result<v1::WaitResponse, Status>> {
        async move {
            let still_running = !waited.call.state.is_terminal();
            let output_tail = match still_running {
                true => {
                    let (tail, dropped_bytes) =
                        self.engine.calls().output_tail(&waited.call).await?;
                    // Only commands have output streams before they have written something.
                    let has_output = waited.call.kind == ToolKind::Command || !tail.is_empty();
                    has_output.then(|| convert::output_tail(tail, dropped_bytes))
                }
                false => None,
            };
            Ok(v1::WaitResponse {
                task: Some(self.full_task(waited.call).await?),
                still_running,
                waited: Some(convert::duration(waited.waited)),
                output_tail,
            })
        }
        .boxed()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl stored::background_tasks_server::BackgroundTasks for BackgroundTasks {
    type WatchStream = WatchStream;

    async fn start(
        &self,
        request: Request<v1::StartRequest>,
    ) -> Result<Response<v1::StartResponse>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let work = convert::start_request(request.into_inner())?;
        let started = match work {
            BackgroundWork::Call(call) => self.engine.calls().start(&principal, *call).await?,
            BackgroundWork::Turn(turn) => {
                self.engine.turns().start(&principal, *turn).boxed().await?
            }
        };
        match started {
            Started::DryRun(_) => {
                audited.changes_nothing();
                Ok(Response::new(v1::StartResponse { dry_run: true, ..Default::default() }))
            }
            Started::Call(handle) => {
                audited.done(handle.call_id);
                let call = self.engine.calls().get_task(&principal, handle.call_id).await?;
                let task = Some(self.full_task(call).await?);
                let replayed = handle.replayed;
                Ok(Response::new(v1::StartResponse { task, replayed, dry_run: false }))
            }
        }
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let principal = principal(&request)?;
        let v1::GetRequest { background_id: id } = request.into_inner();
        let call = self.engine.calls().get_task(&principal, background_id(&id)?).await?;
        Ok(Response::new(v1::GetResponse { task: Some(self.full_task(call).await?) }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let principal = principal(&request)?;
        let key = self.engine.page_token_key();
        let (query, tokens) = convert::list_query(&principal, request.into_inner(), &key)?;
        if let Some(id) = query.session_id {
            self.engine.sessions().get(&principal, id).await?;
        }
        let page = self.engine.calls().list(query).await?;
        let now = self.engine.now();
        let cursor = |call: &Call| CallCursor { create_time: call.create_time, id: call.id };
        let summary = |call: Call| {
            let shim_pid = self.shim_pid(&call);
            v1::Task { shim_pid, ..convert::summary_task(call, now) }
        };
        let (tasks, next) = convert::fit_page(page.calls, page.next, summary, cursor);
        Ok(Response::new(v1::ListResponse {
            tasks,
            next_page_token: tokens.next(next),
            watch_sequence: signed(page.change),
            unreadable_tasks: convert::size(page.unreadable.len()),
        }))
    }

    async fn wait(
        &self,
        request: Request<v1::WaitRequest>,
    ) -> Result<Response<v1::WaitResponse>, Status> {
        let principal = principal(&request)?;
        let answer_at = answer_at(&self.engine, Deadline::of(&request));
        let v1::WaitRequest { background_id: id, wait, acknowledge } = request.into_inner();
        let id = background_id(&id)?;
        let wait = cap_wait(convert::wait_span(wait), answer_at);
        let waited = self.engine.calls().wait(&principal, id, wait, acknowledge).await?;
        Ok(Response::new(self.wait_answer(waited).await?))
    }

    async fn wait_many(
        &self,
        request: Request<v1::WaitManyRequest>,
    ) -> Result<Response<v1::WaitManyResponse>, Status> {
        let principal = principal(&request)?;
        let answer_at = answer_at(&self.engine, Deadline::of(&request));
        let v1::WaitManyRequest { background_ids, mode, wait, acknowledge } = request.into_inner();
        let mut fields = FieldReader::default();
        let ids = convert::many_ids(&mut fields, &background_ids);
        let mode = match fields.choice::<v1::WaitMode>("mode", mode) {
            v1::WaitMode::Unspecified | v1::WaitMode::Any => WaitMode::Any,
            v1::WaitMode::All => WaitMode::All,
        };
        let ids = fields.finish(ids)?;
        let wait = cap_wait(convert::wait_span(wait), answer_at);
        let waited =
            self.engine.calls().wait_many(&principal, &ids, mode, wait, acknowledge).await?;
        let settled_count = waited.settled.len();
        let calls = waited.settled.into_iter().chain(waited.pending).collect();
        let mut settled = convert::fit_tasks(calls, self.engine.now());
        let pending = settled.split_off(settled_count);
        Ok(Response::new(v1::WaitManyResponse {
            settled,
            pending,
            waited: Some(convert::duration(waited.waited)),
        }))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let answer_at = answer_at(&self.engine, Deadline::of(&request));
        let cancel = convert::cancel_request(request.into_inner(), answer_at)?;
        let dry_run = cancel.dry_run;
        match dry_run {
            true => audited.changes_nothing(),
            false => audited.about(cancel.id),
        }
        let mut cancelled = self.engine.calls().cancel(&principal, cancel).await?;
        let survivors = cancelled.call.cancellation.iter_mut().flat_map(|c| c.survivors.drain(..));
        let survivors: Vec<v1::Process> = survivors
            .map(|process| v1::Process {
                pid: i32::try_from(process.pid).unwrap_or(i32::MAX),
                command: process.command,
            })
            .collect();
        if dry_run && !cancelled.call.state.is_terminal() {
            cancelled.call.state = State::Cancelled;
            cancelled.call.reason = "[dry-run] would be cancelled; nothing was changed".into();
        }
        let still_running = !cancelled.call.state.is_terminal();
        Ok(Response::new(v1::CancelResponse {
            task: Some(self.full_task(cancelled.call).await?),
            dry_run,
            survivors,
            still_running,
            replayed: cancelled.replayed,
        }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let principal = principal(&request)?;
        let audited = AuditedRequest::of(&request);
        let mut request = request.into_inner();
        let (request_id, digest) = fingerprint!("Delete", request);
        let v1::DeleteRequest { background_id, request_id: _ } = request;
        let mut fields = FieldReader::default();
        let id = fields.background_id("background_id", &background_id);
        let key = fields.request_id("request_id", request_id, digest);
        let (id, key) = fields.finish((id, key))?;
        audited.about(id);
        let replayed = self.engine.calls().delete(&principal, id, key.as_ref()).await?;
        Ok(Response::new(v1::DeleteResponse { replayed }))
    }

    async fn read_output(
        &self,
        request: Request<v1::ReadOutputRequest>,
    ) -> Result<Response<v1::ReadOutputResponse>, Status> {
        let principal = principal(&request)?;
        let answer_at = answer_at(&self.engine, Deadline::of(&request));
        let mut read = convert::output_request(request.into_inner())?;
        read.wait = cap_wait(read.wait, answer_at);
        let slice = self.engine.calls().read_output(&principal, read).await?;
        Ok(Response::new(v1::ReadOutputResponse {
            data: slice.data,
            next_offset: signed(slice.next_offset),
            total_bytes: signed(slice.total_bytes),
            dropped_bytes: signed(slice.dropped_bytes),
            eof: slice.eof,
            offset: signed(slice.offset),
        }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let principal = principal(&request)?;
        let end_at = answer_at(&self.engine, Deadline::of(&request));
        let v1::WatchRequest { session_id, watch_sequence } = request.into_inner();
        let mut fields = FieldReader::default();
        let session_id = fields.session_id("session_id", &session_id);
        let after = watch_sequence.map(|number| fields.unsigned("watch_sequence", number));
        let (session_id, after) = fields.finish((session_id, after))?;
        let engine = self.engine.clone();
        let items = self.engine.events().task_changes(principal, session_id, after);
        let answers =
            items.map(move |item| item.map(|item| changes(item, &engine)).map_err(Status::from));
        Ok(Response::new(bounded(answers, end_at).boxed()))
    }

    async fn summarize(
        &self,
        request: Request<v1::SummarizeRequest>,
    ) -> Result<Response<v1::SummarizeResponse>, Status> {
        let principal = principal(&request)?;
        let v1::SummarizeRequest { session_id } = request.into_inner();
        let mut fields = FieldReader::default();
        let session_id = fields.required_session_id("session_id", &session_id);
        let session_id = fields.finish(session_id)?;
        let summary = self.engine.calls().summarize(&principal, session_id).await?;
        Ok(Response::new(v1::SummarizeResponse {
            context: summary.context,
            text: summary.text,
            running: i32::try_from(summary.running).unwrap_or(i32::MAX),
        }))
    }

    async fn list_follow_ups(
        &self,
        request: Request<v1::ListFollowUpsRequest>,
    ) -> Result<Response<v1::ListFollowUpsResponse>, Status> {
        let principal = principal(&request)?;
        let key = self.engine.page_token_key();
        let (query, tokens) = convert::follow_ups_query(&principal, request.into_inner(), &key)?;
        if let Some(id) = query.session_id {
            self.engine.sessions().get(&principal, id).await?;
        }
        let page = self.engine.follow_ups().list(query).await?;
        let now = self.engine.now();
        let cursor = |entry: &FollowUpWithTask| CallCursor {
            create_time: entry.record.create_time,
            id: entry.record.call_id,
        };
        let summary = |entry| convert::summary_follow_up(entry, now);
        let (follow_ups, next) = convert::fit_page(page.follow_ups, page.next, summary, cursor);
        let next_page_token = tokens.next(next);
        let unreadable_follow_ups = convert::size(page.unreadable.len());
        let answer =
            v1::ListFollowUpsResponse { follow_ups, next_page_token, unreadable_follow_ups };
        Ok(Response::new(answer))
    }

    async fn lease_follow_ups(
        &self,
        request: Request<v1::LeaseFollowUpsRequest>,
    ) -> Result<Response<v1::LeaseFollowUpsResponse>, Status> {
        let principal = principal(&request)?;
        let answer_at = answer_at(&self.engine, Deadline::of(&request));
        let mut lease = convert::lease_request(request.into_inner())?;
        lease.wait = cap_wait(lease.wait, answer_at);
        let leases = self.engine.follow_ups().lease(&principal, lease).boxed().await?;
        let now = self.engine.now();
        let leased = |leased| convert::leased_follow_up(leased, now);
        Ok(Response::new(v1::LeaseFollowUpsResponse {
            follow_ups: leases.follow_ups.into_iter().map(leased).collect(),
            replayed: leases.replayed,
        }))
    }

    async fn acknowledge_follow_up(
        &self,
        request: Request<v1::AcknowledgeFollowUpRequest>,
    ) -> Result<Response<v1::AcknowledgeFollowUpResponse>, Status> {
        let principal = principal(&request)?;
        let Acknowledgement { id, token, outcome, request } =
            convert::acknowledge_request(request.into_inner())?;
        let follow_ups = self.engine.follow_ups();
        let acknowledge = follow_ups.acknowledge(&principal, id, token, outcome, request.as_ref());
        let changed = acknowledge.boxed().await?;
        let follow_up = Some(convert::follow_up_with_message(changed.follow_up, self.engine.now()));
        let replayed = changed.replayed;
        Ok(Response::new(v1::AcknowledgeFollowUpResponse { follow_up, replayed }))
    }

    async fn retry_follow_up(
        &self,
        request: Request<v1::RetryFollowUpRequest>,
    ) -> Result<Response<v1::RetryFollowUpResponse>, Status> {
        let principal = principal(&request)?;
        let (id, request) = convert::retry_request(request.into_inner())?;
        let changed =
            self.engine.follow_ups().retry(&principal, id, request.as_ref()).boxed().await?;
        let follow_up = Some(convert::follow_up_with_message(changed.follow_up, self.engine.now()));
        let replayed = changed.replayed;
        Ok(Response::new(v1::RetryFollowUpResponse { follow_up, replayed }))
    }
}

fn changes(item: TaskUpdate, engine: &Engine) -> v1::WatchResponse {
    match item {
        TaskUpdate::Changed { calls, change } => {
            let now = engine.now();
            let tasks = calls.into_iter().map(|call| convert::summary_task(call, now)).collect();
            v1::WatchResponse { tasks, watch_sequence: signed(change), heartbeat: false }
        }
        TaskUpdate::Heartbeat { change } => {
            v1::WatchResponse { tasks: Vec::new(), watch_sequence: signed(change), heartbeat: true }
        }
    }
}
