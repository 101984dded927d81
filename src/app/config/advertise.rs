//! The address at which the other servers of a store reach this one.

use std::fmt;

use super::address::TcpAddress;
use super::value::{InvalidValue, Value};

const HTTP: &str = "http";
const HTTPS: &str = "https";

/// The address at which the other servers of a store reach this one: `http://HOST:PORT`,
/// `https://HOST:PORT`, or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedAddress {
    /// `true` for `https://`, `false` for `http://`, or `None` if that follows from the settings of TLS.
    is_https: Option<bool>,
    address: TcpAddress,
}

impl AdvertisedAddress {
    /// Returns whether the address names a scheme that a server with TLS, or without it, does not have.
    pub(super) fn contradicts(&self, has_tls: bool) -> bool {
        self.is_https.is_some_and(|is_https| is_https != has_tls)
    }

    /// Returns whether the port is that of the first address of the network that takes gRPC.
    pub(super) fn has_port_of_listener(&self) -> bool {
        self.address.port() == 0
    }

    /// Returns the address as `http://HOST:PORT` or `https://HOST:PORT`, for a server with TLS or without
    /// it, whose first listener has the port `listener_port`.
    pub fn url(&self, has_tls: bool, listener_port: u16) -> String {
        let scheme = if self.is_https.unwrap_or(has_tls) { HTTPS } else { HTTP };
        let mut address = self.address.clone();
        if self.has_port_of_listener() {
            match &mut address {
                TcpAddress::Ip(address) => address.set_port(listener_port),
                TcpAddress::Name { port, .. } => *port = listener_port,
            }
        }
        format!("{scheme}://{address}")
    }
}

impl Value for AdvertisedAddress {
    fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            "an address and a port such as 10.0.0.1:50051, http://10.0.0.1:50051 or \
             https://callpark-1.example.com:50051 is expected"
                .to_owned()
        };
        let (is_https, address) = match text.split_once("://") {
            Some((HTTP, address)) => (Some(false), address),
            Some((HTTPS, address)) => (Some(true), address),
            Some(_) => return Err(expected()),
            None => (None, text),
        };
        let address = TcpAddress::parse(address.strip_suffix('/').unwrap_or(address));
        let address = address.map_err(|_| expected())?;
        match &address {
            TcpAddress::Ip(ip) if ip.ip().is_unspecified() => Err(format!(
                "{ip} stands for all addresses: name one at which other servers reach \
                             this one, such as 10.0.0.1:50051"
            )),
            _ => Ok(Self { is_https, address }),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for AdvertisedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_https, address } = self;
        match is_https {
            Some(true) => write!(f, "{HTTPS}://{address}"),
            Some(false) => write!(f, "{HTTP}://{address}"),
            None => address.fmt(f),
        }
    }
}

impl std::str::FromStr for AdvertisedAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Value::parse(text).map_err(InvalidValue::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_urls() {
        for (text, has_tls, url) in [
            ("10.0.0.1:50051", false, "http://10.0.0.1:50051"),
            ("10.0.0.1:50051", true, "https://10.0.0.1:50051"),
            ("http://[fd00::1]:7/", false, "http://[fd00::1]:7"),
            ("https://One.example.com:7", true, "https://one.example.com:7"),
            ("127.0.0.1:0", false, "http://127.0.0.1:99"),
            ("http://one:0", false, "http://one:99"),
        ] {
            let address: AdvertisedAddress = text.parse().expect(text);
            assert_eq!(address.url(has_tls, 99), url);
            assert_eq!(address.show().parse(), Ok(address), "{text}");
        }
    }

    #[test]
    fn addresses_that_others_cannot_reach_are_refused() {
        for (text, words) in [
            ("10.0.0.1", "such as 10.0.0.1:50051"),
            ("grpc://10.0.0.1:50051", "such as 10.0.0.1:50051"),
            ("http://10.0.0.1:50051/path", "such as 10.0.0.1:50051"),
            ("http://me@box:50051", "such as 10.0.0.1:50051"),
            ("unix:/run/callpark.sock", "such as 10.0.0.1:50051"),
            ("0.0.0.0:50051", "stands for all addresses"),
            ("http://[::]:50051", "stands for all addresses"),
        ] {
            let error = text.parse::<AdvertisedAddress>().expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
