//! The choice whether a response is compressed.

use http::{HeaderMap, HeaderValue};

/// The header that names the compressions that a client can read, in the order of its preference.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// The header that names the compression of the request.
const ENCODING: &str = "grpc-encoding";

const GZIP: &str = "gzip";
const IDENTITY: &str = "identity";

/// Leaves only a preference for gzip among the compressions that the client names. tonic would
/// compress each response to a client that names gzip at all, and most libraries name everything that
/// they can read, on each request.
pub(super) fn keep_if_asked_for(headers: &mut HeaderMap) {
    let is_gzip = headers.get(ENCODING).is_some_and(|value| value.as_bytes() == GZIP.as_bytes());
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let mut accepted = accepted.unwrap_or_default().split(',').map(str::trim);
    let preferred = accepted.find(|name| [GZIP, IDENTITY].contains(name));
    let can_read = preferred == Some(GZIP) || accepted.any(|name| name == GZIP);
    if preferred == Some(GZIP) || (is_gzip && can_read) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(GZIP));
    } else {
        headers.remove(ACCEPT_ENCODING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_kept_only_for_a_client_that_asks_for_it() {
        let kept = |accepted: Option<&'static str>, encoding: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [(ACCEPT_ENCODING, accepted), (ENCODING, encoding)] {
                headers.extend(value.map(|value| {
                    (http::HeaderName::from_static(name), HeaderValue::from_static(value))
                }));
            }
            keep_if_asked_for(&mut headers);
            headers.contains_key(ACCEPT_ENCODING)
        };
        assert!(kept(Some("gzip"), None));
        assert!(kept(Some("deflate, gzip,identity"), None));
        assert!(kept(Some("identity, deflate, gzip"), Some("gzip")));
        assert!(!kept(Some("identity, deflate, gzip"), None));
        assert!(!kept(Some("identity,deflate,gzip"), Some("identity")));
        assert!(!kept(Some("zstd"), Some("gzip")));
        assert!(!kept(None, Some("gzip")));
        assert!(!kept(None, None));
    }
}
