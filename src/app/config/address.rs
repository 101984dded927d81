//! The addresses of listeners, and the mode of the files of Unix domain sockets.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::value::{InvalidValue, Value};

/// The prefix of the address of a Unix domain socket.
const UNIX: &str = "unix:";

/// The longest path of a Unix domain socket on Linux, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// An address of the network, as a setting names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpAddress {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// The name of a host, which is resolved when the server starts, and a port.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

impl TcpAddress {
    /// Returns the port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Ip(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }

    /// Returns whether only this machine reaches the address. Of names, only `localhost` and those
    /// below it are certain to be of that kind (RFC 6761).
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Name { host, .. } => host == "localhost" || host.ends_with(".localhost"),
        }
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl From<SocketAddr> for TcpAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl Value for TcpAddress {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let name = text.rsplit_once(':').and_then(|(host, port)| {
            let host = host.to_ascii_lowercase();
            is_host_name(&host).then_some(Self::Name { host, port: port.parse().ok()? })
        });
        name.ok_or_else(|| {
            "an address and a port such as 127.0.0.1:50051, [::1]:50051, 0.0.0.0:50051 or \
             localhost:50051 is expected"
                .to_owned()
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Returns whether a text can be the name of a host. A mistyped IP address is none.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// An address that takes gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address of the network.
    Tcp(TcpAddress),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Returns whether only this machine reaches the address.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address.into())
    }
}

impl From<([u8; 4], u16)> for ListenAddress {
    fn from(address: ([u8; 4], u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<&Path> for ListenAddress {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl Value for ListenAddress {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix(UNIX) else {
            let address = TcpAddress::parse(text).map(Self::Tcp);
            return address.map_err(|error| format!("{error}, or unix:/run/callpark/socket"));
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') {
            return Err("the whole path of a socket such as unix:/run/callpark/socket is expected"
                .to_owned());
        }
        if path.len() > SOCKET_PATH_BYTES_MAX {
            return Err(format!(
                "the path of a socket has at most {SOCKET_PATH_BYTES_MAX} bytes, and this one has \
                 {}: choose a shorter one",
                path.len()
            ));
        }
        Ok(Self::Unix(path.into()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The permissions of the file of a Unix domain socket. A process that may write to the file can
/// connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(u32);

impl SocketMode {
    /// Only the user of the server can connect.
    pub const OWNER: Self = Self(0o600);

    /// Returns the permissions as bits of `chmod`.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl Value for SocketMode {
    fn parse(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 => Ok(Self(mode)),
            _ => Err("permissions in octal, with 6 for the owner, are expected: 600 for the \
                      server's user only, 660 also for its group, 666 for everybody"
                .to_owned()),
        }
    }

    fn show(&self) -> String {
        format!("{:o}", self.0)
    }
}

macro_rules! from_str {
    ($($type:ty),+) => {$(
        impl std::str::FromStr for $type {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                Value::parse(text).map_err(InvalidValue::new)
            }
        }
    )+};
}

from_str!(TcpAddress, ListenAddress, SocketMode);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_in_the_form_in_which_they_are_read() {
        for text in ["127.0.0.1:50051", "[::1]:0", "localhost:50051", "unix:/run/callpark.sock"] {
            assert_eq!(ListenAddress::parse(text).map(|address| address.show()), Ok(text.into()));
        }
        assert_eq!(ListenAddress::parse("LocalHost:1"), ListenAddress::parse("localhost:1"));
        assert_eq!(ListenAddress::parse("unix:///run/x"), ListenAddress::parse("unix:/run/x"));
    }

    #[test]
    fn only_this_machine_reaches_loopback_and_sockets() {
        let is_local = |text| ListenAddress::parse(text).expect("an address").is_local();
        for text in ["127.0.0.1:1", "[::1]:1", "localhost:1", "a.localhost:1", "unix:/x"] {
            assert!(is_local(text), "{text}");
        }
        for text in ["0.0.0.0:1", "localhost.example.com:1", "box:1", "[::]:1"] {
            assert!(!is_local(text), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_address_are_refused_with_examples() {
        let long = format!("unix:/{}", "x".repeat(200));
        for (text, words) in [
            ("localhost", "a port such as"),
            (":50051", "a port such as"),
            ("127.0.0.300:50051", "a port such as"),
            ("http://localhost:50051", "a port such as"),
            ("localhost:70000", "a port such as"),
            ("-x:1", "a port such as"),
            ("unix:callpark.sock", "the whole path"),
            ("unix:", "the whole path"),
            (&long, "at most 107 bytes, and this one has 201"),
        ] {
            let error = ListenAddress::parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_mode_is_octal_and_lets_the_server_in() {
        assert_eq!(SocketMode::parse("0660").map(|mode| mode.show()), Ok("660".to_owned()));
        for text in ["", "rw", "888", "1777", "066", "-600"] {
            assert!(SocketMode::parse(text).is_err(), "{text}");
        }
    }
}
