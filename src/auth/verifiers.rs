//! Several kinds of credentials side by side.

use std::sync::Arc;

use super::{AuthError, Caller, Credentials, Verifier};

/// Verifiers, of which the first one that knows the kind of the credentials decides.
#[derive(Clone)]
pub struct Verifiers(Vec<Arc<dyn Verifier>>);

impl Verifiers {
    /// Asks these verifiers in this order.
    pub fn new(verifiers: Vec<Arc<dyn Verifier>>) -> Self {
        Self(verifiers)
    }

    /// Returns the caller with these credentials.
    ///
    /// # Errors
    ///
    /// There are no credentials, or they are refused.
    pub fn verify(&self, credentials: &Credentials<'_>) -> Result<Caller, AuthError> {
        let verified = self.0.iter().find_map(|verifier| verifier.verify(credentials));
        let is_missing = credentials.authorization.is_none_or(|text| text.trim().is_empty());
        let none = if is_missing { AuthError::Missing } else { AuthError::Invalid };
        verified.unwrap_or(Err(none))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::auth::{Peer, SocketUserVerifier, TokenVerifier};

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_this_user_on_a_socket_needs_no_token() {
        let verifiers = Verifiers::new(vec![
            Arc::new(SocketUserVerifier::of_this_user()),
            Arc::new(TokenVerifier::new(SecretString::from(TOKEN))),
        ]);
        let uid = rustix::process::geteuid().as_raw();
        let verify = |authorization, peer| {
            let answer =
                verifiers.verify(&Credentials { authorization, peer, ..Credentials::default() });
            answer.map(|caller| caller.principal.tenant.as_str().to_owned())
        };
        let own = Some(Peer::Process { uid });
        let other = Some(Peer::Process { uid: uid + 1 });
        let remote = Some(Peer::Network(([127, 0, 0, 1], 1).into()));
        let with_token = format!("Bearer {TOKEN}");
        assert_eq!(verify(None, own), Ok("local".to_owned()));
        for peer in [other, remote, None] {
            for missing in [None, Some(""), Some(" ")] {
                assert_eq!(verify(missing, peer), Err(AuthError::Missing), "{peer:?}");
            }
            assert_eq!(verify(Some(&with_token), peer), Ok("local".to_owned()), "{peer:?}");
        }
        for wrong in ["Bearer wrong", "Bearer ", "Bearer", "Basic eA==", TOKEN] {
            assert_eq!(verify(Some(wrong), own), Err(AuthError::Invalid), "{wrong}");
        }
    }
}
