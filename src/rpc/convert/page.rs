//! Pages of lists, and the tokens between them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Digest as _;

use super::InvalidRequest;
use crate::model::limits::PAGE_BYTES_MAX;
use crate::store::PageTokenKey;

/// The longest token that is decoded, in characters. The server's own tokens are shorter.
const TOKEN_CHARACTERS_MAX: usize = 1_024;

/// The binding of page tokens to the server's store and to the filters of a request. A token of other
/// filters, or one that the server has not made, is refused.
pub(crate) struct PageTokens {
    key: PageTokenKey,
    filters: [u8; 32],
}

impl PageTokens {
    /// Binds tokens to a request of this RPC. Its page size and page token must be unset.
    pub(super) fn new(key: &PageTokenKey, rpc: &str, filters: &impl prost::Message) -> Self {
        let digest = sha2::Sha256::new().chain_update(rpc).chain_update([0]);
        let filters = digest.chain_update(filters.encode_to_vec()).finalize().into();
        Self { key: key.clone(), filters }
    }

    /// Reads the cursor of a token. The empty token has none.
    pub(super) fn read<C: DeserializeOwned>(&self, token: &str) -> Result<Option<C>, PageError> {
        if token.is_empty() {
            return Ok(None);
        }
        if token.len() > TOKEN_CHARACTERS_MAX {
            return Err(PageError::Token);
        }
        let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| PageError::Token)?;
        let cursor = self.key.verify(&self.filters, &token).ok_or(PageError::Token)?;
        serde_json::from_slice(cursor).map(Some).map_err(|_| PageError::Token)
    }

    /// Returns the token of the page after a cursor, or the empty string if there is none.
    pub(crate) fn next<C: Serialize>(&self, cursor: Option<C>) -> String {
        let Some(cursor) = cursor else { return String::new() };
        let cursor = serde_json::to_vec(&cursor).unwrap_or_default();
        let code = self.key.authenticate(&self.filters, &cursor);
        URL_SAFE_NO_PAD.encode([&code[..], &cursor].concat())
    }
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
