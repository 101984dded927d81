//! The budget of a session, which its turns look at between two rounds.

use super::run::{TurnRun, turn_error};
use super::tool_calls::ModelVisibleResult;
use crate::agent::prompts::agent_answer;
use crate::engine::{Error, Shared};
use crate::model::{Budget, SessionId, StopReason, TurnError};

/// Returns whether the session of the turn has used up its budget, as it is at the moment.
pub(super) async fn is_used_up(run: &TurnRun) -> Result<bool, TurnError> {
    let left = left(&run.spec.engine.shared, run.spec.session_id).await;
    Ok(left.map_err(|error| turn_error(&error))?.is_none())
}

/// Returns the budget of an agent that works for a session: what the session has left.
///
/// # Errors
///
/// Fails with the text that the model is shown if nothing is left.
pub(super) async fn of_sub_agent(run: &TurnRun) -> Result<Budget, ModelVisibleResult> {
    let left = left(&run.spec.engine.shared, run.spec.session_id).await?;
    left.ok_or_else(|| {
        let answer = agent_answer("", &Ok(StopReason::BudgetUsedUp), 0);
        ModelVisibleResult::error(answer.render())
    })
}

/// Returns what is left of the budget of a session, or `None` if that is nothing.
async fn left(shared: &Shared, id: SessionId) -> Result<Option<Budget>, Error> {
    // The budget may have been changed, and other agents have used some of it.
    let session = shared.store.session(id).await?;
    let session = session.ok_or_else(|| Error::SessionNotFound(id.to_string()))?;
    let usage = session.usage.unwrap_or_default();
    let is_used_up = session.budget.is_used_up(&usage);
    Ok((!is_used_up).then(|| session.budget.left(&usage)))
}
