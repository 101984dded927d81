//! Public access to the reader of answers for the fuzz target in `fuzz/`. Compiled only with
//! `--cfg fuzzing`.

use std::sync::Arc;

use super::answer::AnswerBuilder;
use super::names::ToolNames;
use super::reading::AnswerReader;
use crate::agent::{ModelError, ModelEvent};

/// Reads a body, which arrives in these pieces, as an answer.
///
/// # Errors
///
/// Fails if the body is not a complete answer. The events before the failure are lost.
pub fn read_answer<'b>(
    pieces: impl IntoIterator<Item = &'b [u8]>,
) -> Result<Vec<ModelEvent>, ModelError> {
    let url = "http://model".to_owned();
    let answer = AnswerBuilder::new(url.clone(), "model".into(), Arc::new(ToolNames::default()));
    let mut reader = AnswerReader::new(url, "text/event-stream".into(), answer);
    let mut said = Vec::new();
    for piece in pieces {
        reader.push(piece, &mut said).map_err(|failure| failure.error)?;
    }
    reader.finish(&mut said).map_err(|failure| failure.error)?;
    Ok(said)
}
