//! The address of a chat endpoint.

use reqwest::Url;

/// The path behind the endpoint's own.
const PATH: &str = "/chat/completions";

/// The address that requests go to.
pub(super) struct EndpointUrl(Url);

impl EndpointUrl {
    /// Puts the path of the protocol behind that of the endpoint, before a query.
    pub(super) fn new(endpoint: &str) -> Result<Self, String> {
        let mut url = Url::parse(endpoint).map_err(|error| format!("endpoint: {error}"))?;
        let path = url.path().trim_end_matches('/');
        if !path.ends_with(PATH) {
            let path = format!("{path}{PATH}");
            url.set_path(&path);
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    pub(super) fn url(&self) -> Url {
        self.0.clone()
    }

    /// Returns the address for messages. A query or a user may hold a key.
    pub(super) fn shown(&self) -> String {
        let mut url = self.0.clone();
        url.set_query(None);
        // A URL of HTTP has a host, so this can't fail.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_stands_before_the_query() {
        for (endpoint, expected) in [
            ("http://h:1/v1", "http://h:1/v1/chat/completions"),
            ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
            ("http://h:1", "http://h:1/chat/completions"),
            ("http://h:1/v1/chat/completions", "http://h:1/v1/chat/completions"),
            (
                "https://h/openai/deployments/d?api-version=2025-01-01",
                "https://h/openai/deployments/d/chat/completions?api-version=2025-01-01",
            ),
        ] {
            let url = EndpointUrl::new(endpoint).expect("a URL");
            assert_eq!(url.url().as_str(), expected);
        }
    }

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let url = EndpointUrl::new("https://me:pw@h/v1?key=k").expect("a URL");
        assert_eq!(url.shown(), "https://h/v1/chat/completions");
        assert!(url.url().as_str().contains("key=k"));
    }
}
