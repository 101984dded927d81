//! Summaries of a session's background tasks, for models and people.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::Calls;
use crate::engine::Error;
use crate::engine::text::{self, state_name};
use crate::model::limits::{PAGE_SIZE_DEFAULT, SUMMARY_RESULT_CHARACTERS_MAX};
use crate::model::{Call, CallId, Outcome, Principal, SessionId, State, Timestamp};
use crate::store::CallQuery;

/// A summary of a session's background tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// The text for the system message of a model, empty if there are no tasks.
    pub context: String,
    /// The text for people.
    pub text: String,
    /// The number of tasks that have not ended.
    pub running: u32,
}

impl Calls {
    /// Summarizes the newest background tasks of a session.
    ///
    /// # Errors
    ///
    /// [`Error::SessionNotFound`] if the caller has no such session.
    pub async fn summarize(&self, principal: &Principal, id: SessionId) -> Result<Summary, Error> {
        self.summarize_without(principal, id, None).await
    }

    /// Summarizes the tasks without one of them: the turn that asks for the summary.
    pub(crate) async fn summarize_without(
        &self,
        principal: &Principal,
        id: SessionId,
        excluded: Option<CallId>,
    ) -> Result<Summary, Error> {
        self.shared.own_session(principal, id).await?;
        let query = CallQuery {
            tenant: principal.tenant.clone(),
            session_id: Some(id),
            states: Vec::new(),
            kinds: Vec::new(),
            labels: Default::default(),
            created_after: None,
            cursor: None,
            limit: PAGE_SIZE_DEFAULT,
        };
        let page = self.shared.store.calls(query).await?;
        // Running tasks are included however old they are.
        let live = self.shared.store.live_calls(id).await?;
        let shown: HashSet<CallId> = page.calls.iter().map(|call| call.id).collect();
        let older = live.into_iter().filter(|call| call.is_task() && !shown.contains(&call.id));
        let all = page.calls.into_iter().chain(older);
        let calls: Vec<Call> = all.filter(|call| Some(call.id) != excluded).collect();
        Ok(summarize(&calls, page.next.is_some(), self.shared.now()))
    }
}

fn summarize(calls: &[Call], more: bool, now: Timestamp) -> Summary {
    if calls.is_empty() {
        return Summary { text: "No background tasks.".into(), ..Summary::default() };
    }
    let running = calls.iter().filter(|call| !call.state.is_terminal()).count();
    let mut context = String::from("Background tasks of this session, newest first:\n");
    let mut text = format!("{} background tasks, {running} running.\n", calls.len());
    for call in calls {
        let id = call.id.background();
        let seconds = call.elapsed(now).as_secs();
        let tool = if call.turn.is_some() { "agent" } else { call.tool.as_str() };
        let label = if call.description.is_empty() { tool } else { &call.description };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{id}  {:<10} {seconds:>6} s  {label}", state_name(call.state));
        let _ = writeln!(context, "- {id} ({tool}): {label}: {}", progress(call, seconds));
    }
    if more {
        let rest = "Only the newest of the ended tasks are shown; List returns all.\n";
        context.push_str(rest);
        text.push_str(rest);
    }
    context.push_str(
        "Wait for a running task with its id rather than starting it again or cancelling it.\n",
    );
    Summary { context, text, running: u32::try_from(running).unwrap_or(u32::MAX) }
}

fn progress(call: &Call, seconds: u64) -> String {
    match call.state {
        State::Pending => "waiting to start".into(),
        State::Running => format!("running for {seconds} s"),
        State::Cancelling => "being cancelled".into(),
        State::Succeeded => format!("finished after {seconds} s. Result:\n{}", result_text(call)),
        State::Failed | State::TimedOut => {
            format!("failed ({}). Output:\n{}", call.reason, result_text(call))
        }
        State::Cancelled => format!("cancelled ({})", call.reason),
        State::Lost => format!("lost ({})", call.reason),
    }
}

/// Returns the text of the result, truncated for the context of a model.
fn result_text(call: &Call) -> String {
    let Some(Outcome::Result(result)) = &call.outcome else { return "(none)".into() };
    let all = text::content(&result.content);
    if all.trim().is_empty() {
        return "(no output)".into();
    }
    let characters = all.chars().count();
    if characters <= SUMMARY_RESULT_CHARACTERS_MAX {
        return all;
    }
    let shown: String = all.chars().take(SUMMARY_RESULT_CHARACTERS_MAX).collect();
    let left_out = characters - SUMMARY_RESULT_CHARACTERS_MAX;
    format!("{shown}\n[{left_out} more characters: ReadOutput returns them]")
}
