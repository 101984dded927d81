//! Access without a token for the user of the server, on a Unix domain socket.

use std::sync::Arc;

use super::{AuthError, Credentials, OpenVerifier, Peer, Verifier};
use crate::model::Principal;

/// Accepts callers on a Unix domain socket that run as one user and send no credentials. Everything
/// else is left to another verifier: credentials that are sent must be right.
pub struct SocketUserVerifier {
    uid: u32,
    user: OpenVerifier,
    others: Arc<dyn Verifier>,
}

impl SocketUserVerifier {
    /// Creates a verifier that accepts the user of this process.
    pub fn of_this_user(others: Arc<dyn Verifier>) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self { uid, user: OpenVerifier::default(), others }
    }
}

impl Verifier for SocketUserVerifier {
    fn verify(&self, credentials: &Credentials<'_>) -> Result<Principal, AuthError> {
        match credentials {
            Credentials { authorization: None, peer: Some(Peer::Process { uid }) }
                if *uid == self.uid =>
            {
                self.user.verify(credentials)
            }
            _ => self.others.verify(credentials),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::auth::TokenVerifier;

    #[test]
    fn only_this_user_on_a_socket_needs_no_token() {
        const TOKEN: &str = "0123456789abcdef0123456789abcdef";
        let tokens = Arc::new(TokenVerifier::new(SecretString::from(TOKEN)));
        let verifier = SocketUserVerifier::of_this_user(tokens.clone());
        let uid = rustix::process::geteuid().as_raw();
        let verify = |authorization, peer| {
            let answer = verifier.verify(&Credentials { authorization, peer });
            answer.map(|principal| principal.tenant.as_str().to_owned())
        };
        let own = Some(Peer::Process { uid });
        let other = Some(Peer::Process { uid: uid + 1 });
        let remote = Some(Peer::Network(([127, 0, 0, 1], 1).into()));
        let with_token = format!("Bearer {TOKEN}");
        assert_eq!(verify(None, own), Ok("local".to_owned()));
        for peer in [other, remote, None] {
            assert_eq!(verify(None, peer), Err(AuthError::Missing), "{peer:?}");
            assert_eq!(verify(Some(&with_token), peer), Ok("local".to_owned()), "{peer:?}");
        }
        assert_eq!(verify(Some("Bearer wrong"), own), Err(AuthError::Invalid));
    }
}
