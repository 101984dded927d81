//! Pages of lists, and the tokens between them.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::InvalidRequest;
use crate::model::limits::PAGE_BYTES_MAX;

/// The longest token that is decoded, in characters. The server's own tokens are shorter.
const TOKEN_CHARACTERS_MAX: usize = 1_024;

/// The content of a page token: the end of the page before, and a digest of the filters that it was
/// made for.
#[derive(Serialize, Deserialize)]
struct Token<C> {
    cursor: C,
    filters: String,
}

/// An error in a request for a page.
pub(crate) enum PageError {
    Invalid(InvalidRequest),
    Token,
}

impl From<InvalidRequest> for PageError {
    fn from(request: InvalidRequest) -> Self {
        Self::Invalid(request)
    }
}

/// Returns a digest of the filters of a request. Its page size and page token must be unset.
pub(super) fn digest(filters: &impl prost::Message) -> String {
    let digest = sha2::Sha256::digest(filters.encode_to_vec());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the token of the page after `cursor`.
pub(crate) fn encode_token<C: Serialize>(cursor: C, filters: String) -> String {
    let json = serde_json::to_vec(&Token { cursor, filters }).unwrap_or_default();
    json.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the token of the next page, or the empty string if there is none.
pub(crate) fn next_page_token<C: Serialize>(next: Option<C>, filters: String) -> String {
    next.map(|cursor| encode_token(cursor, filters)).unwrap_or_default()
}

/// Reads the cursor of a token that was made for the same filters. The empty token has none.
pub(super) fn decode_token<C>(text: &str, filters: &str) -> Result<Option<C>, PageError>
where
    C: Clone + Serialize + for<'a> Deserialize<'a>,
{
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > TOKEN_CHARACTERS_MAX || !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(PageError::Token);
    }
    let digit = |index: usize| u8::from_str_radix(&text[index..index + 2], 16);
    let bytes: Result<Vec<u8>, _> = (0..text.len()).step_by(2).map(digit).collect();
    let bytes = bytes.map_err(|_| PageError::Token)?;
    let Token { cursor, .. }: Token<C> =
        serde_json::from_slice(&bytes).map_err(|_| PageError::Token)?;
    // The comparison refuses tokens of other filters, and any other encoding of the same cursor.
    let expected = encode_token(cursor.clone(), filters.to_owned());
    if expected == text { Ok(Some(cursor)) } else { Err(PageError::Token) }
}

/// Returns a count for a field of the contract.
pub(crate) fn size(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Converts the records that fit into an answer, at least one of them. Returns them with the cursor of
/// the next page.
pub(crate) fn fit_page<R, M: prost::Message, C>(
    records: Vec<R>,
    next: Option<C>,
    convert: impl Fn(R) -> M,
    cursor: impl Fn(&R) -> C,
) -> (Vec<M>, Option<C>) {
    let mut page = Vec::with_capacity(records.len());
    let (mut bytes, mut last) = (0, None);
    for record in records {
        let after = cursor(&record);
        let message = convert(record);
        bytes += message.encoded_len();
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            return (page, last);
        }
        page.push(message);
        last = Some(after);
    }
    (page, next)
}

#[cfg(test)]
mod tests {
    use callpark_proto::v1;

    use super::*;

    #[test]
    fn a_page_ends_where_it_would_be_too_large() {
        let entry = |number: u32| v1::Task {
            description: "x".repeat(PAGE_BYTES_MAX / 3),
            attempt: i32::try_from(number).unwrap(),
            ..Default::default()
        };
        let (page, next) = fit_page(vec![1, 2, 3, 4], None, entry, |number| *number);
        assert_eq!((page.len(), next), (2, Some(2)));
        let (page, next) = fit_page(vec![3, 4], Some(9), entry, |number| *number);
        assert_eq!((page.len(), next), (2, Some(9)));
    }
}
