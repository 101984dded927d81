//! Reads the body of a response as an answer.

use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::time::Instant;

use super::answer::AnswerBuilder;
use super::error::{self, AnswerError};
use super::sse::{BodyDecoder, BodyEnd};
use crate::agent::{ModelError, ModelErrorCode, ModelEvent};

/// The time for which an answer that has an end waits for its usage and for the mark of the end.
const AFTER_FINISH: Duration = Duration::from_secs(5);

/// A reader of one answer, which takes the bytes of its body.
pub(super) struct AnswerReader {
    url: String,
    content_type: String,
    decoder: BodyDecoder,
    answer: AnswerBuilder,
}

impl AnswerReader {
    pub(super) fn new(url: String, content_type: String, answer: AnswerBuilder) -> Self {
        Self { url, content_type, decoder: BodyDecoder::default(), answer }
    }

    /// Adds bytes, and appends what they say to `said`.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        said: &mut Vec<ModelEvent>,
    ) -> Result<(), AnswerError> {
        let mut events = Vec::new();
        let pushed = self.decoder.push(bytes, &mut events);
        events.iter().try_for_each(|event| self.answer.push(event, said))?;
        match pushed {
            Err(_) if !self.answer.is_over() => Err(error::too_large(&self.url).into()),
            _ => Ok(()),
        }
    }

    /// Ends the answer. `said` begins with the last of what it says.
    pub(super) fn finish(self, said: &mut Vec<ModelEvent>) -> Result<(), AnswerError> {
        let Self { url, content_type, decoder, mut answer } = self;
        let end = match decoder.finish() {
            BodyEnd::Events(last) => match last.map_or(Ok(()), |last| answer.push(&last, said)) {
                // An event that is cut takes nothing from an answer that has its end.
                Err(AnswerError { error, .. })
                    if error.code == ModelErrorCode::Malformed && answer.has_finished() =>
                {
                    Ok(())
                }
                pushed => pushed,
            },
            BodyEnd::Document(document) => answer.push_document(&document, &content_type, said),
            BodyEnd::Stray(words) if words.is_empty() => Ok(()),
            BodyEnd::Stray(words) => Err(error::not_an_answer(&content_type, &words, &url).into()),
        };
        answer.flush(said);
        said.push(ModelEvent::Used(answer.usage()));
        said.push(ModelEvent::Finished(end.and_then(|()| Ok(answer.finish()?))?));
        Ok(())
    }
}

/// Returns the events of the answer that these bytes are.
pub(super) fn read<E>(
    bytes: impl Stream<Item = Result<Bytes, E>>,
    transport_error: impl Fn(E) -> ModelError,
    mut reader: AnswerReader,
) -> impl Stream<Item = Result<ModelEvent, AnswerError>> {
    stream! {
        let mut bytes = std::pin::pin!(bytes);
        let mut said = Vec::new();
        let mut failure = None;
        let mut end = None;
        while failure.is_none() && !reader.answer.is_over() {
            if reader.answer.has_finished() {
                end.get_or_insert_with(|| Instant::now() + AFTER_FINISH);
            }
            let next = match end {
                // A connection that is lost, or that stays silent, takes nothing from the answer.
                Some(end) => match tokio::time::timeout_at(end, bytes.next()).await {
                    Ok(Some(Ok(bytes))) => Some(Ok(bytes)),
                    Ok(Some(Err(_)) | None) | Err(_) => None,
                },
                None => bytes.next().await,
            };
            failure = match next {
                None => break,
                Some(Ok(bytes)) => reader.push(&bytes, &mut said).err(),
                Some(Err(cause)) => Some(transport_error(cause).into()),
            };
            for event in said.drain(..) {
                yield Ok(event);
            }
        }
        let ended = match failure {
            Some(error) => {
                yield Ok(ModelEvent::Used(reader.answer.usage()));
                Err(error)
            }
            None => reader.finish(&mut said),
        };
        for event in said {
            yield Ok(event);
        }
        if let Err(error) = ended {
            yield Err(error);
        }
    }
}
