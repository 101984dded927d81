//! The server-sent events of an answer.

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use sse_stream::SseByteStream;

use super::error;
use crate::agent::ModelError;
use crate::model::limits::{MODEL_ANSWER_BYTES_MAX, MODEL_STREAM_BYTES_MAX};

/// The data of the event after which an answer has no further events.
const FINAL_MARKER: &str = "[DONE]";

/// Returns the data of each event, up to the final marker. `url` is for errors.
pub(super) fn data<E>(
    bytes: impl Stream<Item = Result<Bytes, E>>,
    transport_error: impl Fn(E) -> ModelError,
    url: &str,
) -> impl Stream<Item = Result<String, ModelError>> {
    let (mut room, mut line) = (MODEL_STREAM_BYTES_MAX, 0);
    let (read_url, url) = (url.to_owned(), url.to_owned());
    let bounded = bytes.map_err(transport_error).and_then(move |bytes| {
        // The parser buffers a line until it is complete.
        line = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => bytes.len() - end - 1,
            None => line + bytes.len(),
        };
        let left = room.checked_sub(bytes.len()).filter(|_| line <= MODEL_ANSWER_BYTES_MAX);
        room = left.unwrap_or_default();
        let bounded = left.map(|_| bytes).ok_or_else(|| error::too_large(&read_url));
        futures::future::ready(bounded)
    });
    SseByteStream::new(bounded)
        .map_err(move |cause| error::stream_error(cause, &url))
        // An event without data, such as one that only sets an id, is not part of an answer.
        .try_filter_map(|event| futures::future::ready(Ok(event.data)))
        .try_take_while(|data| futures::future::ready(Ok(data != FINAL_MARKER)))
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _, stream};

    use super::*;
    use crate::agent::ModelErrorCode;

    /// Reads the same bytes in pieces of each size, and returns the data or the code of the error.
    fn read(text: &[u8]) -> Result<Vec<String>, ModelErrorCode> {
        let in_pieces_of = |size: usize| {
            let pieces = text.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece)));
            let data = data(stream::iter(pieces), |error: ModelError| error, "http://model");
            let data = data.try_collect::<Vec<String>>().now_or_never().unwrap();
            data.map_err(|error| error.code)
        };
        let whole = in_pieces_of(text.len());
        for size in 1..text.len() {
            assert_eq!(in_pieces_of(size), whole, "in pieces of {size} bytes");
        }
        whole
    }

    #[test]
    fn every_form_of_an_event_is_read() {
        for text in [
            "data: a\n\ndata: b\n\ndata: [DONE]\n\ndata: c\n\n",
            "data: a\r\n\r\ndata: b\r\n\r\n",
            "data: a\r\rdata: b\r\r",
            "\u{feff}data:a\n\ndata:b\n\n",
            ": a comment\n\ndata: a\n: another\n\n:\ndata: b\n\n",
            "id: 1\nid: 2\nretry: soon\nevent: message\ndata: a\n\nid: 3\n\ndata: b\n\n",
            "unknown: x\ndata: a\nno colon\n\n{\"object\": 1}\ndata: b\n\n",
            // An event without its final empty line is incomplete.
            "data: a\n\ndata: b\n\ndata: c\n",
        ] {
            assert_eq!(read(text.as_bytes()), Ok(vec!["a".to_owned(), "b".to_owned()]), "{text:?}");
        }
        assert_eq!(read(b"data: a\ndata: b\n\n"), Ok(vec!["a\nb".to_owned()]));
    }

    #[test]
    fn text_that_is_not_utf8_is_malformed() {
        assert_eq!(read(b"data: a\n\ndata: \xff\n\n"), Err(ModelErrorCode::Malformed));
    }

    #[test]
    fn an_error_of_the_connection_passes_through() {
        let lost = ModelError { code: ModelErrorCode::Connection, message: "lost".into() };
        let pieces = [Ok(Bytes::from_static(b"data: a\n\n")), Err(lost.clone())];
        let data = data(stream::iter(pieces), |error| error, "http://model");
        let data: Vec<_> = data.collect().now_or_never().unwrap();
        assert_eq!(data, [Ok("a".to_owned()), Err(lost)]);
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        let piece = Bytes::from(vec![b'x'; MODEL_ANSWER_BYTES_MAX]);
        let pieces = [Ok::<_, ModelError>(piece.clone()), Ok(piece)];
        let data = data(stream::iter(pieces), |error| error, "http://model");
        let data: Vec<_> = data.collect().now_or_never().unwrap();
        let codes: Vec<_> = data.into_iter().map(|data| data.map_err(|e| e.code)).collect();
        assert_eq!(codes, [Err(ModelErrorCode::TooLarge)]);
    }
}
