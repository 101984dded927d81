//! Tokens and certificates.

use std::path::PathBuf;

use secrecy::SecretString;

/// The source of the bearer token.
///
/// After UNAUTHENTICATED the token is fetched again and the request is sent once more. That attempt
/// draws on no retry budget.
///
/// ```
/// use callpark_client::TokenSource;
///
/// let token = TokenSource::File("/run/secrets/callpark-token".into());
/// assert!(matches!(token, TokenSource::File(_)));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum TokenSource {
    /// No token is sent.
    #[default]
    None,
    /// A fixed token.
    Value(SecretString),
    /// A file that contains the token. White space at both ends is removed. The file is read again
    /// when it has changed.
    File(PathBuf),
    /// A command that prints the token to its standard output. White space at both ends is removed.
    ///
    /// The command runs before the first request and after UNAUTHENTICATED, for at most 30 s. It
    /// inherits the standard error of this process.
    Command {
        /// The program.
        program: PathBuf,
        /// The arguments of the program.
        args: Vec<String>,
    },
}

/// Certificates for an `https` endpoint. All files are PEM and are read when the client is created.
///
/// ```
/// use callpark_client::TlsOptions;
///
/// let tls = TlsOptions::new().with_ca_file("/etc/callpark/ca.pem");
/// assert_eq!(tls.ca_file.unwrap().to_str(), Some("/etc/callpark/ca.pem"));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsOptions {
    /// The certificate authorities to trust, or `None` for those of the operating system.
    pub ca_file: Option<PathBuf>,

    /// The certificate of the client with its chain, or `None` if the client shows none.
    pub certificate_file: Option<PathBuf>,

    /// The private key of `certificate_file`.
    pub key_file: Option<PathBuf>,

    /// The name that the server's certificate must contain, or `None` for the host of the endpoint.
    pub server_name: Option<String>,
}

impl TlsOptions {
    /// Creates options that trust the operating system's authorities and show no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the authorities in this file instead of those of the operating system.
    #[must_use]
    pub fn with_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Shows a client certificate. `certificate_file` contains the certificate with its chain,
    /// `key_file` its private key.
    #[must_use]
    pub fn with_identity(
        mut self,
        certificate_file: impl Into<PathBuf>,
        key_file: impl Into<PathBuf>,
    ) -> Self {
        self.certificate_file = Some(certificate_file.into());
        self.key_file = Some(key_file.into());
        self
    }

    /// Sets the name that the server's certificate must contain.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { ca_file, certificate_file, key_file, server_name } = self;
        ca_file.is_none()
            && certificate_file.is_none()
            && key_file.is_none()
            && server_name.is_none()
    }
}
