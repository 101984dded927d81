//! The ways in which callers show who they are, and the log of what they do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use super::audit::{key_observer, open_audit_log};
use super::config::{AuthMode, Config};
use super::error::Error;
use crate::audit::AuditLog;
#[cfg(feature = "jwt")]
use crate::auth::jwt::JwtVerifier;
use crate::auth::keys::{KeyFile, KeyUpkeep, KeyVerifier};
use crate::auth::{
    CertificateVerifier, OpenVerifier, SocketUserVerifier, TokenFile, TokenVerifier, Verifier,
    Verifiers,
};
use crate::engine::Clock;
use crate::redact::remember;
use crate::telemetry::Metrics;

/// The verifiers of a server, and what they have to keep up to date.
pub(super) struct Access {
    verifiers: Verifiers,
    /// The file with the token, or `None` if callers need no credentials.
    token_file: Option<PathBuf>,
    /// The API keys, or `None` if callers need no credentials.
    keys: Option<Arc<KeyVerifier>>,
    /// The audit log, which also has the changes of the keys, or `None` if there is none.
    audit: Option<AuditLog>,
    /// The issuers of tokens, or `None` if there are none.
    #[cfg(feature = "jwt")]
    issuers: Option<Arc<JwtVerifier>>,
}

impl Access {
    /// Opens the audit log, reads what the verifiers need, and creates the token if there is none.
    pub(super) fn open(
        config: &Config,
        metrics: &Metrics,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let mut access = Self {
            verifiers: Verifiers::new(vec![Arc::new(OpenVerifier::default())]),
            token_file: None,
            keys: None,
            audit: open_audit_log(config, metrics, clock)?,
            #[cfg(feature = "jwt")]
            issuers: None,
        };
        if config.auth == AuthMode::None {
            return Ok(access);
        }
        let mut verifiers: Vec<Arc<dyn Verifier>> = Vec::new();
        if config.socket_user_auth {
            verifiers.push(Arc::new(SocketUserVerifier::of_this_user()));
        }
        if !config.client_certificates.is_empty() {
            verifiers.push(Arc::new(CertificateVerifier::new(&config.client_certificates)));
        }
        let keys_file = config.keys_file.as_ref().filter(|file| !file.as_os_str().is_empty());
        if let Some(file) = keys_file {
            let mut keys = KeyVerifier::open(KeyFile::new(file))?;
            if let Some(log) = &access.audit {
                let (observer, since) = key_observer(log, clock);
                keys.observe(observer, since);
            }
            access.keys = Some(Arc::new(keys));
        }
        verifiers.extend(access.keys.clone().map(|keys| keys as _));
        #[cfg(feature = "jwt")]
        if !config.jwt_issuers.is_empty() {
            let issuers = JwtVerifier::open(&config.jwt_issuers)
                .map_err(|(name, reason)| Error::unusable("jwt_issuers", &name, reason))?;
            access.issuers = Some(Arc::new(issuers));
            verifiers.extend(access.issuers.clone().map(|issuers| issuers as _));
        }
        let Some(token_file) = &config.token_file else {
            return Err(Error::unusable("token_file", "none", "name a file".to_owned()));
        };
        let token = TokenFile::load_or_create(token_file)?;
        remember(token.token().expose_secret());
        // Last: it refuses every token that is not its own.
        verifiers.push(Arc::new(TokenVerifier::new(token.token().clone())));
        access.verifiers = Verifiers::new(verifiers);
        access.token_file = Some(token_file.clone());
        Ok(access)
    }

    pub(super) fn verifiers(&self) -> Verifiers {
        self.verifiers.clone()
    }

    pub(super) fn audit(&self) -> Option<AuditLog> {
        self.audit.clone()
    }

    pub(super) fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    /// Keeps up to date what the verifiers know, until `over` is cancelled.
    pub(super) async fn keep_up(self, over: &CancellationToken) {
        let keys = async {
            if let Some(keys) = self.keys {
                KeyUpkeep::new(keys).run(over.clone()).await;
            }
        };
        let issuers = async {
            #[cfg(feature = "jwt")]
            if let Some(issuers) = self.issuers {
                issuers.keep_up(over).await;
            }
        };
        tokio::join!(keys, issuers);
    }
}
