//! `Lose`: the work of a call is lost.

use super::super::{Decision, Loss, LossCause, Projection};
use crate::model::{CallId, Failure, FailureCode, Outcome, State, TurnLoss};

/// Ends the call as lost, without a result.
pub(super) fn decide(projection: &Projection, call_id: CallId, loss: Loss) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    let (reason, message) = match loss.cause {
        LossCause::ServerStopped if call.state == State::Pending => {
            ("the server stopped", "the server stopped before this call could run: start it again")
        }
        LossCause::ServerStopped => (
            "the server stopped",
            "the server stopped while this call ran, and its work with it: its output up to then \
             can be read; start it again if it is safe to repeat",
        ),
        LossCause::OwnerEnded => (
            "the shim that ran its process ended",
            "the shim that ran the process of this call ended, and the process was killed: its \
             output up to then can be read; start it again if it is safe to repeat",
        ),
        LossCause::ServerSilent => (
            "its server had given no sign for too long",
            "the process of this call was killed, because its server had given no sign for so long that \
             another one could have taken the call over: its output up to then can be read; start it again if \
             it is safe to repeat",
        ),
        LossCause::HandleForgotten => (
            "the server of the tool no longer knows its task",
            "callpark was started again while this call ran, and the server of the tool no longer knows \
             the task that it had made of it: start it again if it is safe to repeat",
        ),
        LossCause::Turn(loss) => (loss.reason(), turn_message(loss)),
    };
    let failure = Failure { code: FailureCode::HostLost, message: message.into() };
    let end = super::CallEnd {
        call_id,
        state: State::Lost,
        reason: reason.into(),
        outcome: Outcome::Failure(failure),
        survivors: Vec::new(),
        // The real end is unknown: the last known activity is the closest time.
        end_time: call.update_time.max(loss.last_known),
    };
    super::end(projection, end)
}

/// Returns the message for the caller of a turn with which no server can go on.
fn turn_message(loss: TurnLoss) -> &'static str {
    match loss {
        TurnLoss::OnRestart => {
            "the server stopped while this turn ran, and its session has on_restart = LOSE: send the \
             prompt again, or set on_restart to RESUME"
        }
        TurnLoss::ExternalAgent => {
            "the server stopped while this turn ran, and its agent runs its own loop, with which a \
             later server cannot go on: send the prompt again"
        }
        TurnLoss::ModelUnknown => {
            "the server stopped while this turn ran, and its model is no longer configured: add the \
             model to the configuration, or send the prompt again with another model"
        }
        TurnLoss::RecordOlder => {
            "an older version of callpark recorded this turn, without what is needed to go on with \
             it: send the prompt again"
        }
        TurnLoss::TranscriptTooLarge => {
            "the server stopped while this turn delivered follow-ups, and its messages are too large \
             to be kept: the follow-ups are delivered again"
        }
        TurnLoss::NoProgress => {
            "the server was started again several times while this turn ran, and the turn recorded \
             no new message between them: see the server's log for the cause, then send the prompt \
             again"
        }
        TurnLoss::StoppedWithRuns => {
            "the server was stopped with everything that ran (stop-runs): send the prompt again"
        }
        TurnLoss::ParentEnded => {
            "the server stopped while this turn ran, and the call that it worked for has ended: \
             start the agent again"
        }
    }
}
