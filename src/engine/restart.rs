//! Calls of an earlier server whose work is begun, goes on or is done again although this server has no
//! run of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::iter;
use serde_json::Value;

use super::call::Calls;
use super::{Error, Shared};
use crate::exec::OutputBefore;
use crate::model::limits::RUN_ATTEMPTS_MAX;
use crate::model::{Call, CallId, OnDisconnect, Session, State, ToolKind, WorkHandle};
use crate::redact::HIDDEN;
use crate::store::{EventQuery, OutputFrom, OutputQuery, OutputSelection};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::tool::{Arguments, ResolvedTool, Work};

/// The longest time for which a start of the server waits for the provider of a tool.
const PROVIDER_WAIT: Duration = Duration::from_secs(5);

/// Calls that are prepared at the same time.
const AT_ONCE: usize = 16;

/// The numbers up to which every integer is exact in the arguments of an event.
const EXACT_NUMBERS_MAX: f64 = 9_007_199_254_740_992.0;

/// The way in which a call without a run is taken up.
pub(crate) enum Restart {
    /// The work is done again, as another attempt if it had begun.
    Again {
        /// The work.
        work: Work,
        /// The output of the attempts before.
        output_before: OutputBefore,
    },
    /// The work goes on, or begins because it had not.
    GoOn {
        /// The work, which gives all output of the attempt.
        work: Work,
        /// The size of the output that the log has already, in bytes.
        logged_bytes: u64,
    },
    /// The call ends, because it was to be stopped before its work began.
    End,
}

/// The work of calls that are done again, until their actors take it.
#[derive(Default)]
pub(crate) struct Restarts(Mutex<HashMap<CallId, Restart>>);

impl Restarts {
    /// Adds the work of calls.
    pub(super) fn add(&self, restarts: HashMap<CallId, Restart>) {
        self.lock().extend(restarts);
    }

    /// Forgets all work.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Takes the work of a call, if there is any.
    pub(super) fn take(&self, call_id: CallId) -> Option<Restart> {
        self.lock().remove(&call_id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CallId, Restart>> {
        // The map is consistent after a panic: every change to it is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns those calls of an earlier server that can be taken up. `live` have no run any more.
pub(super) async fn prepare(calls: &Calls, live: Vec<Call>) -> HashMap<CallId, Restart> {
    let prepared = iter(live.into_iter().filter(|call| call.kind != ToolKind::Agent));
    let prepared = prepared.map(|call| async move {
        let id = call.id;
        let restart = match &call.work_handle {
            Some(handle) => go_on(calls, &call, handle).await,
            None if was_not_started(&calls.shared, &call) => begin(calls, &call).await,
            None => run_again(calls, &call).await,
        };
        logged(id, restart).map(|restart| (id, restart))
    });
    prepared.buffer_unordered(AT_ONCE).filter_map(async |found| found).collect().await
}

/// Returns the way in which a live call of a server that is gone is taken up, if it can be. What that server had
/// begun is not known here, also if the owner of the process is there: it was ordered to end it.
pub(super) async fn prepare_taken_over(shared: &Arc<Shared>, call: &Call) -> Option<Restart> {
    let calls = Calls::new(shared);
    let restart = match &call.work_handle {
        _ if call.kind == ToolKind::Agent => return None,
        Some(handle) => go_on(&calls, call, handle).await,
        None => run_again(&calls, call).await,
    };
    let restart = logged(call.id, restart)?;
    if matches!(restart, Restart::Again { .. }) {
        // The owner of an earlier run must not take the next one for it.
        shared.runner.release(call.id);
    }
    Some(restart)
}

/// Returns the work of a call that is live and whose run is lost, if it can be done again.
pub(super) async fn prepare_lost(shared: &Arc<Shared>, id: CallId) -> Option<Restart> {
    let call = shared.store.call(id).await.ok()??;
    logged(id, run_again(&Calls::new(shared), &call).await)
}

fn logged(call_id: CallId, restart: Result<Restart, String>) -> Option<Restart> {
    let not_again = |reason: &String| tracing::info!(%call_id, reason, "a call cannot be taken up");
    restart.inspect_err(not_again).ok()
}

/// Returns whether the process of a call was never started: its owner is there and does not know it.
fn was_not_started(shared: &Shared, call: &Call) -> bool {
    call.run_owner.is_some_and(|owner| shared.runner.has_owner(owner))
}

/// Returns whether a caller may still want the result of a call that has not begun.
fn is_wanted(call: &Call) -> bool {
    let stays = call.is_task() || call.policy.on_disconnect == OnDisconnect::Park;
    stays && call.stopping.is_none()
}

/// Goes on with work that is found again under a handle.
async fn go_on(calls: &Calls, call: &Call, handle: &WorkHandle) -> Result<Restart, String> {
    let (session, found) = origin(&calls.shared, call).await?;
    let work = found.tool().take_up(handle, &calls.context_of(&session));
    let work = work.ok_or("its tool does not go on with calls of an earlier server")?;
    let logged_bytes = output_before(&calls.shared, call).await?.combined.total_bytes;
    Ok(Restart::GoOn { work, logged_bytes })
}

/// Begins a process that was not started before the last server was killed.
async fn begin(calls: &Calls, call: &Call) -> Result<Restart, String> {
    if !is_wanted(call) {
        return Ok(Restart::End);
    }
    match work_of(calls, call).await? {
        work @ Work::Process(_) => Ok(Restart::GoOn { work, logged_bytes: 0 }),
        Work::InProcess(_) | Work::Followed(_) => Err("its tool is another one now".into()),
    }
}

async fn run_again(calls: &Calls, call: &Call) -> Result<Restart, String> {
    if call.kind == ToolKind::Agent || !is_wanted(call) {
        return Err("it is not to be run again".into());
    }
    let work = work_again(calls, call).await?;
    Ok(Restart::Again { work, output_before: output_before(&calls.shared, call).await? })
}

/// Returns the session and the tool of a call.
async fn origin(shared: &Shared, call: &Call) -> Result<(Session, ResolvedTool), String> {
    let found = shared.tools.find(&call.tool, PROVIDER_WAIT).await;
    let found = found.ok_or("its tool is not there any more")?;
    let session = shared.store.session(call.session_id).await.map_err(|e| e.to_string())?;
    Ok((session.ok_or("its session is not there any more")?, found))
}

/// Returns the work of a call whose run is lost, if it may be done again.
async fn work_again(calls: &Calls, call: &Call) -> Result<Work, String> {
    if call.state != State::Pending {
        let (_, found) = origin(&calls.shared, call).await?;
        if !found.tool().describe().idempotent {
            return Err("its tool is not idempotent".into());
        }
        if call.attempt >= RUN_ATTEMPTS_MAX {
            return Err(format!("it has been run {} times", call.attempt));
        }
    }
    work_of(calls, call).await
}

/// Returns the work of a call from its arguments.
async fn work_of(calls: &Calls, call: &Call) -> Result<Work, String> {
    let (session, found) = origin(&calls.shared, call).await?;
    let arguments = arguments(&calls.shared, call).await?;
    calls.work_of(&session, &found, &arguments).map_err(|error: Error| error.to_string())
}

async fn output_before(shared: &Shared, call: &Call) -> Result<OutputBefore, String> {
    let (selection, from) = (OutputSelection::Combined, OutputFrom::Tail(0));
    let query = OutputQuery { call_id: call.id, selection, from, bytes_max: 0 };
    let page = shared.store.output(query).await.map_err(|error| error.to_string())?;
    Ok(page.map_or_else(OutputBefore::default, |page| OutputBefore {
        stdout: page.stdout,
        stderr: page.stderr,
        combined: page.combined,
    }))
}

/// Returns the arguments of a call from the event of its acceptance.
async fn arguments(shared: &Shared, call: &Call) -> Result<Arguments, String> {
    let query = EventQuery {
        session_id: call.session_id,
        after: call.accept_sequence.saturating_sub(1),
        kinds: Vec::new(),
        call_id: Some(call.id),
        scan_max: 1,
        bytes_max: usize::MAX,
    };
    let page = shared.store.events(query).await.map_err(|error| error.to_string())?;
    let event = page.events.into_iter().next().ok_or("its first event was trimmed")?;
    let accepted = shared.codec.decode_accepted(event.sequence, &event.bytes);
    let accepted = accepted.map_err(|error| error.to_string())?;
    let accepted = accepted.ok_or("its first event is another one")?;
    if accepted.stdin_bytes > 0 {
        return Err("its standard input is not kept".into());
    }
    let arguments = accepted.arguments.ok_or("its arguments are too large to be kept")?;
    // Also if the tool has other secrets by now.
    if arguments.values().any(|value| value == HIDDEN) {
        return Err("a secret argument of it is not kept".into());
    }
    match arguments.values().all(is_exact) {
        true => Ok(arguments),
        false => Err("its arguments hold a number that is not kept exactly".into()),
    }
}

fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|n| n.abs() < EXACT_NUMBERS_MAX),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}
