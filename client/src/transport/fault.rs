//! The reasons why a connection carries no gRPC.

use std::{
    error::Error as StdError,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{AlertDescription, CertificateError, Error as TlsError, OtherError};

/// The reason why a connection to the server is of no use, although something answers at its address.
///
/// [`Display`](fmt::Display) prints one sentence that says what to change.
///
/// ```
/// use callpark_client::{ConnectFault, Error};
///
/// fn needs_https(error: &Error) -> bool {
///     error.connect_fault() == Some(&ConnectFault::ServerSpeaksTls)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectFault {
    /// The endpoint is `http`, and the server expects TLS.
    ServerSpeaksTls,
    /// The endpoint is `http`, and the server answers in HTTP/1.
    ServerSpeaksHttp1,
    /// The endpoint is `https`, and the answer is not TLS.
    ServerSpeaksNoTls,
    /// The endpoint is `https`, and the server closed the connection before it answered.
    ClosedInHandshake,
    /// No trusted authority has issued the certificate of the server.
    CertificateNotTrusted,
    /// The certificate of the server is one of an authority, which servers cannot show.
    CertificateOfAuthority,
    /// The certificate of the server is for other names.
    CertificateForOtherName {
        /// The name that the client expects.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The certificate of the server has expired, or is not valid yet.
    CertificateNotInForce,
    /// The certificate of the server cannot be used for another reason.
    CertificateInvalid(String),
    /// The server demands a client certificate, and the client has none.
    ClientCertificateRequired,
    /// The server refuses the certificate of the client.
    ClientCertificateRefused(String),
    /// The server does not offer HTTP/2 over TLS.
    NoHttp2,
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerSpeaksTls => {
                f.write_str("the server expects TLS: use https:// instead of http://")
            }
            Self::ServerSpeaksHttp1 => f.write_str(
                "the answer is HTTP/1, and gRPC needs HTTP/2: another program listens there, or a \
                 proxy that does not pass HTTP/2 on",
            ),
            Self::ServerSpeaksNoTls => {
                f.write_str("the server does not speak TLS: use http:// instead of https://")
            }
            Self::ClosedInHandshake => f.write_str(
                "the server closed the connection when TLS began: if it does not use TLS, use \
                 http:// instead of https://",
            ),
            Self::CertificateNotTrusted => f.write_str(
                "the certificate of the server is self-signed, or its authority is not trusted \
                 here: if it is yours, name it or its authority as the CA file",
            ),
            Self::CertificateOfAuthority => f.write_str(
                "the certificate of the server is self-signed as one of an authority (CA:TRUE), \
                 which a server cannot show: give the server one with CA:FALSE, such as with \
                 `openssl req -x509 -addext basicConstraints=critical,CA:FALSE`",
            ),
            Self::CertificateForOtherName { expected, presented } => {
                let names = presented.join(", ");
                write!(f, "the certificate of the server is for {names}, not for `{expected}`")
            }
            Self::CertificateNotInForce => f.write_str(
                "the certificate of the server has expired or is not valid yet: renew it, or \
                 correct the clock of this machine",
            ),
            Self::CertificateInvalid(reason) => {
                write!(f, "the certificate of the server cannot be used: {reason}")
            }
            Self::ClientCertificateRequired => f.write_str(
                "the server demands a client certificate: name one that it trusts, and its key",
            ),
            Self::ClientCertificateRefused(reason) => {
                write!(f, "the server refuses the client certificate: {reason}")
            }
            Self::NoHttp2 => f.write_str(
                "the server offers no HTTP/2 over TLS, which gRPC needs: another program listens \
                 there, or a proxy that does not pass HTTP/2 on",
            ),
        }
    }
}

impl StdError for ConnectFault {}

impl ConnectFault {
    /// Finds the fault in the first bytes that a server sends on a connection without TLS. They
    /// should be a frame of HTTP/2.
    pub(crate) fn in_first_bytes(bytes: &[u8]) -> Option<Self> {
        // An alert of TLS, and the beginning of its version.
        if bytes.starts_with(&[0x15, 0x03]) {
            return Some(Self::ServerSpeaksTls);
        }
        bytes.starts_with(b"HTTP/1.").then_some(Self::ServerSpeaksHttp1)
    }

    /// Finds the fault in an error of the TLS handshake.
    pub(crate) fn in_handshake(error: &io::Error, has_identity: bool) -> Option<Self> {
        if let Some(error) = tls_error(error) {
            return Self::in_tls(error, has_identity);
        }
        let is_closed = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        );
        is_closed.then_some(Self::ClosedInHandshake)
    }

    /// Finds the fault in an error of an open TLS connection. A server looks at the certificate of the
    /// client only after the client has finished its handshake.
    pub(crate) fn in_connection(error: &io::Error, has_identity: bool) -> Option<Self> {
        match tls_error(error)? {
            error @ TlsError::AlertReceived(_) => Self::in_tls(error, has_identity),
            _ => None,
        }
    }

    fn in_tls(error: &TlsError, has_identity: bool) -> Option<Self> {
        match error {
            TlsError::InvalidMessage(_) => Some(Self::ServerSpeaksNoTls),
            TlsError::InvalidCertificate(error) => Some(Self::in_certificate(error)),
            TlsError::NoApplicationProtocol => Some(Self::NoHttp2),
            TlsError::AlertReceived(alert) => Self::in_alert(*alert, has_identity),
            _ => None,
        }
    }

    fn in_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::CertificateNotTrusted,
            CertificateError::NotValidForNameContext { expected, presented } => {
                Self::CertificateForOtherName {
                    expected: expected.to_str().into_owned(),
                    presented: presented.clone(),
                }
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::CertificateNotInForce,
            CertificateError::Other(other) if is_of_authority(other) => {
                Self::CertificateOfAuthority
            }
            other => Self::CertificateInvalid(other.to_string()),
        }
    }

    fn in_alert(alert: AlertDescription, has_identity: bool) -> Option<Self> {
        match alert {
            AlertDescription::NoApplicationProtocol => Some(Self::NoHttp2),
            AlertDescription::CertificateRequired => Some(Self::ClientCertificateRequired),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => match has_identity {
                true => Some(Self::ClientCertificateRefused(format!("{alert:?}"))),
                false => Some(Self::ClientCertificateRequired),
            },
            _ => None,
        }
    }
}

/// webpki is not a dependency of its own, and its error has no other public name.
fn is_of_authority(error: &OtherError) -> bool {
    error.0.to_string() == "CaUsedAsEndEntity"
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// The fault of one connection. An error of a request does not carry it: by then, HTTP/2 has turned the
/// error of its connection into text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Option<ConnectFault>>>);

impl Faults {
    pub(crate) fn record(&self, fault: ConnectFault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    pub(crate) fn newest(&self) -> Option<ConnectFault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The connection had ended before the request was sent.
#[derive(Debug)]
pub(crate) struct Ended;

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection has ended")
    }
}

impl StdError for Ended {}

/// No address can be reached.
#[derive(Debug)]
pub(crate) struct Unreachable {
    pub(super) addresses: usize,
    /// The fault that all of them have in common.
    pub(super) fault: Option<ConnectFault>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addresses {
            1 => f.write_str("the connection was lost"),
            addresses => write!(f, "none of {addresses} endpoints can be reached"),
        }
    }
}

impl StdError for Unreachable {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.fault.as_ref().map(|fault| fault as &(dyn StdError + 'static))
    }
}
