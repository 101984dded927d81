//! Histories that are longer than the context of a model. Their oldest parts are left out of the
//! requests of a turn; the stored history stays as it is.

use super::history::{History, SHORTENED_WEIGHT_MIN};
use super::run::TurnRun;
use crate::agent::{Model, ModelErrorCode};
use crate::model::{Compaction, CompactionReason, TurnError, TurnReport};

/// The number of times that one request is repeated with a shorter history.
pub(super) const COMPACTIONS_MAX: u32 = 6;

/// The part of the context that a compaction leaves in use, in percent. The rest is room for the
/// rounds that follow, whose requests begin with the same bytes until it is used up.
const FILLED_PERCENT: usize = 70;

/// The size that remains of an old result, in bytes.
const OLD_RESULT_WEIGHT_MAX: usize = 500;

/// Compacts the history if the next request would exceed the context of the model.
pub(super) async fn fit(run: &mut TurnRun, model: &dyn Model) -> Result<(), TurnError> {
    let Some(max) = model.context().and_then(|context| context.request_bytes_max()) else {
        return Ok(());
    };
    if run.request_bytes() > max {
        let target = (max / 100 * FILLED_PERCENT).saturating_sub(run.fixed_bytes);
        compact_and_record(run, CompactionReason::Limit, target).await?;
    }
    Ok(())
}

/// Compacts the history because the endpoint refused a request with `code`. Returns `false` if nothing
/// can be left out.
pub(super) async fn after_refusal(
    run: &mut TurnRun,
    model: &dyn Model,
    code: ModelErrorCode,
) -> Result<bool, TurnError> {
    if code == ModelErrorCode::ContextExceeded
        && let Some(context) = model.context()
    {
        context.refused(run.request_bytes());
    }
    let target = run.history.weight() / 2;
    compact_and_record(run, CompactionReason::Refused, target).await
}

async fn compact_and_record(
    run: &mut TurnRun,
    reason: CompactionReason,
    target: usize,
) -> Result<bool, TurnError> {
    let (request_bytes_before, omitted) = (run.request_bytes(), run.history.omitted());
    let results_shortened = compact(&mut run.history, target);
    let messages_omitted = run.history.omitted();
    if results_shortened == 0 && messages_omitted == omitted {
        return Ok(false);
    }
    run.record(TurnReport::Compacted(Compaction {
        reason,
        messages_omitted,
        results_shortened,
        request_bytes_before,
        request_bytes_after: run.request_bytes(),
    }))
    .await?;
    Ok(true)
}

/// Leaves out the oldest parts of a history until its weight is at most `target`, or only the prompt
/// of the turn and its last round are left. Returns the number of results that were shortened.
fn compact(history: &mut History, target: usize) -> usize {
    let mut shortened = 0;
    for index in 0..history.last_round() {
        if history.weight() <= target {
            return shortened;
        }
        shortened += usize::from(history.shorten_result(index, OLD_RESULT_WEIGHT_MAX));
    }
    while history.weight() > target && history.remove_oldest_round() {}
    if history.weight() <= target {
        return shortened;
    }
    // The results of the last round are new to the model: each keeps its beginning and its end.
    let results = history.last_results();
    let weights = results.iter().map(|index| history.weight_of(*index));
    let others = history.weight() - weights.sum::<usize>();
    let room = target.saturating_sub(others) / results.len().max(1);
    let cut = |index: &usize| history.shorten_result(*index, room.max(SHORTENED_WEIGHT_MIN));
    shortened + results.iter().map(cut).filter(|is_shorter| *is_shorter).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CallId, Message, ModelCall, Origin};

    fn user(text: &str) -> Message {
        Message::User { text: text.into(), attachments: Vec::new(), origin: Origin::Person }
    }

    /// Adds a round with a result of this size.
    fn round(history: &mut History, id: &str, bytes: usize) {
        let (id, tool, arguments) = (id.to_owned(), "t".into(), "{}".into());
        let call = ModelCall {
            id: id.clone(),
            tool,
            arguments,
            call_id: CallId::random(),
            provider_data: None,
        };
        let (text, calls) = (String::new(), vec![call]);
        let origin = Origin::Model;
        history.push(Message::Assistant { text, calls, provider_data: None, note: None, origin });
        let (text, pictures, origin) = ("x".repeat(bytes), Vec::new(), Origin::Tool);
        history.push(Message::Tool { id, text, pictures, origin });
    }

    /// Returns the sizes of the results, oldest first.
    fn results(history: &History) -> Vec<usize> {
        let messages = history.messages();
        let texts = messages.iter().filter_map(|message| match &**message {
            Message::Tool { text, .. } => Some(text.len()),
            _ => None,
        });
        texts.collect()
    }

    fn long_turn() -> History {
        let mut history = History::default();
        history.push(user("earlier"));
        round(&mut history, "a", 5_000);
        history.push_prompt(user("go"));
        for id in ["b", "c", "d"] {
            round(&mut history, id, 5_000);
        }
        history
    }

    #[test]
    fn the_oldest_results_are_shortened_first() {
        let mut history = long_turn();
        assert_eq!(compact(&mut history, 16_000), 2);
        let sizes = results(&history);
        assert!(sizes[0] <= 400 && sizes[1] <= 400 && sizes[2..] == [5_000, 5_000], "{sizes:?}");
        assert_eq!(history.omitted(), 0);
    }

    #[test]
    fn then_the_oldest_rounds_are_left_out() {
        let mut history = long_turn();
        assert_eq!(compact(&mut history, 6_000), 3);
        assert_eq!(history.omitted(), 5, "those before the turn, and its first round");
        assert_eq!(results(&history).last(), Some(&5_000));
    }

    #[test]
    fn the_results_of_the_last_round_are_cut_in_the_end() {
        let mut history = long_turn();
        assert_eq!(compact(&mut history, 3_000), 4);
        assert!(history.weight() <= 3_000, "{}", history.weight());
        assert_eq!((history.omitted(), results(&history).len()), (7, 1));
        assert_eq!(compact(&mut history, 1_500), 1);
        assert_eq!(compact(&mut history, 100), 1, "to the least that is useful");
        assert_eq!(compact(&mut history, 100), 0, "nothing is left to do");
    }
}
