//! The decisions: one file for each command.

mod acknowledge;
mod adopt;
mod alive;
mod begin;
mod block_output;
mod cancel;
mod close;
mod create;
mod delete;
mod disconnect;
mod finish;
mod follow_up;
mod interrupt;
mod keep_handle;
mod lose;
mod output;
mod park;
mod progress;
mod restart;
mod resume;
mod start;
mod take_follow_ups;
mod timeout;
mod turn;
mod update;

use super::{Change, Command, Decision, Effect, Projection};
use crate::model::{CallId, Outcome, SessionState, State, Survivor, Timestamp};

/// Decides `command` in the session of `projection`.
pub fn decide(projection: &Projection, command: Command, now: Timestamp) -> Decision {
    let mut decision = decide_alone(projection, command, now);
    // Looked up once for all calls that end here: a call may be blocked by two of them.
    let ended = decision.ended();
    if !ended.is_empty() {
        let released = projection.released_by(&ended);
        decision.effects.extend(released.into_iter().map(Effect::Reserve));
    }
    decision
}

fn decide_alone(projection: &Projection, command: Command, now: Timestamp) -> Decision {
    match command {
        Command::Start(start) => start::decide(projection, *start, now),
        Command::Begin { call_id } => begin::decide(projection, call_id),
        Command::Alive { call_id } => alive::decide(projection, call_id),
        Command::Output { call_id, output } => output::decide(projection, call_id, output),
        Command::BlockOutput { call_id, cause } => block_output::decide(projection, call_id, cause),
        Command::Progress { call_id, progress } => progress::decide(projection, call_id, progress),
        Command::KeepHandle { call_id, handle } => keep_handle::decide(projection, call_id, handle),
        Command::Turn { call_id, report } => turn::decide(projection, call_id, report),
        Command::Finish(finish) => finish::decide(projection, *finish, now),
        Command::Park { call_id, reason } => park::decide(projection, call_id, reason),
        Command::Disconnect { call_id, reason } => {
            disconnect::decide(projection, call_id, reason, now)
        }
        Command::Timeout { call_id, cause } => timeout::decide(projection, call_id, cause),
        Command::Cancel(cancel) => cancel::decide(projection, cancel, now),
        Command::Interrupt { call_id, loss } => interrupt::decide(projection, call_id, loss),
        Command::Adopt { call_id } => adopt::decide(projection, call_id, now),
        Command::Resume { call_id } => resume::decide(projection, call_id, now),
        Command::Restart { call_id } => restart::decide(projection, call_id, now),
        Command::Lose { call_id, loss } => lose::decide(projection, call_id, loss),
        Command::Acknowledge { call, follow_up } => {
            acknowledge::decide(projection, call, follow_up, now)
        }
        Command::FollowUp { record, order } => follow_up::decide(projection, *record, order, now),
        Command::TakeFollowUps { call_id, records } => {
            take_follow_ups::decide(projection, call_id, records)
        }
        Command::Delete { call_id } => delete::decide(projection, call_id),
        Command::Update(update) => update::decide(projection, update),
        Command::Close(close) => close::decide(projection, close, now),
        Command::Create => create::decide(),
    }
}

/// The end of a live call.
struct CallEnd {
    call_id: CallId,
    state: State,
    reason: String,
    outcome: Outcome,
    survivors: Vec<Survivor>,
    end_time: Timestamp,
}

/// Ends a live call, and the log too if this was the last call of a closing session.
fn end(projection: &Projection, end: CallEnd) -> Decision {
    let CallEnd { call_id, state, reason, outcome, survivors, end_time } = end;
    let mut decision = Decision::nothing().change(Change::Ended {
        call_id,
        state,
        reason,
        outcome,
        survivors,
        end_time,
    });
    let is_last = projection.live.len() == 1;
    if is_last && projection.session.state == SessionState::Closing {
        decision = decision.change(Change::Closed);
    }
    decision
}
