//! What a model and a person should know of a session's background tasks.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::words::{self, state_name};
use super::{Engine, Error};
use crate::model::limits::{PAGE_SIZE_DEFAULT, SUMMARY_RESULT_CHARACTERS_MAX};
use crate::model::{Call, CallId, Outcome, Principal, SessionId, State, Timestamp};
use crate::store::CallQuery;

/// A session's background tasks in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// For the system message of a model; empty when there are no tasks.
    pub context: String,
    /// For a person.
    pub text: String,
    /// How many have not ended.
    pub running: u32,
}

impl Engine {
    /// Sums up the newest background tasks of a session.
    pub async fn summarize(&self, who: &Principal, id: SessionId) -> Result<Summary, Error> {
        self.summarize_but(who, id, None).await
    }

    /// The same without one of them: the turn that asks.
    pub(super) async fn summarize_but(
        &self,
        who: &Principal,
        id: SessionId,
        asking: Option<CallId>,
    ) -> Result<Summary, Error> {
        self.own_session(who, id).await?;
        let query = CallQuery {
            tenant: who.tenant.clone(),
            session_id: Some(id),
            states: Vec::new(),
            kinds: Vec::new(),
            labels: Default::default(),
            created_after: None,
            cursor: None,
            limit: PAGE_SIZE_DEFAULT,
        };
        let page = self.shared.store.calls(query).await?;
        // Tasks that run are told of however old they are.
        let live = self.shared.store.live_calls(id).await?;
        let shown: HashSet<CallId> = page.calls.iter().map(|call| call.id).collect();
        let older = live.into_iter().filter(|call| call.is_task() && !shown.contains(&call.id));
        let all = page.calls.into_iter().chain(older);
        let calls: Vec<Call> = all.filter(|call| Some(call.id) != asking).collect();
        Ok(summarize(&calls, page.next.is_some(), self.now()))
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
        let what = if call.description.is_empty() { tool } else { &call.description };
        // Writing to a String can't fail.
        let _ = writeln!(text, "{id}  {:<10} {seconds:>6} s  {what}", state_name(call.state));
        let _ = writeln!(context, "- {id} ({tool}): {what}: {}", told(call, seconds));
    }
    if more {
        let rest = "Of those that have ended only the newest are shown; List gives all.\n";
        context.push_str(rest);
        text.push_str(rest);
    }
    context.push_str(
        "Wait for a running task with its id rather than starting it again or cancelling it.\n",
    );
    Summary { context, text, running: u32::try_from(running).unwrap_or(u32::MAX) }
}

fn told(call: &Call, seconds: u64) -> String {
    match call.state {
        State::Pending => "waiting to start".into(),
        State::Running => format!("running for {seconds} s"),
        State::InputRequired => format!("waits for an answer, for {seconds} s now"),
        State::Cancelling => "being cancelled".into(),
        State::Succeeded => format!("finished after {seconds} s. Result:\n{}", result_text(call)),
        State::Failed | State::TimedOut => {
            format!("failed ({}). Output:\n{}", call.reason, result_text(call))
        }
        State::Cancelled => format!("cancelled ({})", call.reason),
        State::Lost => format!("lost ({})", call.reason),
    }
}

/// The text of the result, cut to what a model can use.
fn result_text(call: &Call) -> String {
    let Some(Outcome::Result(result)) = &call.outcome else { return "(none)".into() };
    let all = words::content(&result.content);
    if all.trim().is_empty() {
        return "(no output)".into();
    }
    let characters = all.chars().count();
    if characters <= SUMMARY_RESULT_CHARACTERS_MAX {
        return all;
    }
    let cut: String = all.chars().take(SUMMARY_RESULT_CHARACTERS_MAX).collect();
    let left_out = characters - SUMMARY_RESULT_CHARACTERS_MAX;
    format!("{cut}\n[{left_out} more characters: ReadOutput gives them]")
}
