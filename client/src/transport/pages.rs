//! Walks over pages.

use crate::error::Error;

/// Returns the token of the next page, or `None` after the last page.
///
/// # Errors
/// The server returned the token of the page itself, so that the walk would never end.
pub(crate) fn next_page_token(
    rpc: &'static str,
    token: &str,
    next: String,
) -> Result<Option<String>, Error> {
    if next.is_empty() {
        Ok(None)
    } else if next == token {
        Err(Error::answer("the next page has the token of the page before it").of(rpc, 1))
    } else {
        Ok(Some(next))
    }
}
