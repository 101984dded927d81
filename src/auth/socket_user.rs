//! Access without a token for the user of the server, on a Unix domain socket.

use super::{AuthError, Caller, Credentials, OpenVerifier, Peer, Verifier};

/// Accepts callers on a Unix domain socket that run as one user and send no credentials. Credentials
/// that are sent must be right.
pub struct SocketUserVerifier {
    uid: u32,
    user: OpenVerifier,
}

impl SocketUserVerifier {
    /// Creates a verifier that accepts the user of this process.
    pub fn of_this_user() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self { uid, user: OpenVerifier::default() }
    }
}

impl Verifier for SocketUserVerifier {
    fn verify(&self, credentials: &Credentials<'_>) -> Option<Result<Caller, AuthError>> {
        match credentials {
            Credentials { authorization: None, peer: Some(Peer::Process { uid }), .. }
                if *uid == self.uid =>
            {
                self.user.verify(credentials)
            }
            _ => None,
        }
    }
}
