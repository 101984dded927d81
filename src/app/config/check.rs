//! Checks that concern several settings.

use super::address::ListenAddress;
use super::settings::Config;
use super::value::AuthMode;

/// Settings that exclude each other.
pub(super) struct Conflict {
    /// The keys. If one of them has an error of its own, there may be no conflict.
    pub(super) keys: &'static [&'static str],
    /// The error, and a way to solve it.
    pub(super) reason: String,
}

/// Returns the conflicts between settings that are right one by one. With a store of the program's own the
/// setting `store` has no meaning.
pub(super) fn conflicts(config: &Config, has_store: bool) -> Vec<Conflict> {
    let conflict = |keys, reason: Option<String>| Some(Conflict { keys, reason: reason? });
    [
        conflict(&["listen", "admin_listen"], listen(config)),
        conflict(&["listen", "tls_cert", "tls_key", "allow_remote_plaintext"], plain_text(config)),
        conflict(&["tls_cert", "tls_key", "tls_client_ca"], tls(config)),
        conflict(&["client_certificates", "tls_client_ca"], certificates(config)),
        conflict(&["auth", "listen"], auth(config)),
        conflict(&["store", "store_password_file", "store_ca"], store(config)),
        conflict(&["store", "data_dir"], data_folder(config)),
        conflict(&["store", "advertise", "replica_ca"], replica(config, has_store)),
        conflict(&["advertise", "listen", "tls_cert", "tls_key"], advertise(config)),
        conflict(&["heartbeat", "stream_age"], streams(config)),
        conflict(&["tenant_limits"], tenant_limits(config)),
        #[cfg(feature = "jwt")]
        conflict(&["jwt_issuers"], issuers(config)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns warnings about settings that are permitted but may be a mistake.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if let (None, Some(address)) = (&config.tls_cert, remote(&config.listen)) {
        warnings.push(format!(
            "{address} can be reached without encryption (allow-remote-plaintext): tokens and \
             output can be read on the way"
        ));
    }
    let admin = config.admin_listen.as_ref();
    if let Some(address) = admin.filter(|address| !address.is_loopback()) {
        warnings
            .push(format!("admin-listen {address}: everybody who reaches it can read the metrics"));
    }
    if config.auth == AuthMode::None && !config.client_certificates.is_empty() {
        warnings.push(
            "auth = `none`: everybody is let in, and client_certificates have no effect".to_owned(),
        );
    }
    #[cfg(feature = "jwt")]
    if config.auth == AuthMode::None && !config.jwt_issuers.is_empty() {
        warnings
            .push("auth = `none`: everybody is let in, and jwt_issuers have no effect".to_owned());
    }
    warnings
}

fn listen(config: &Config) -> Option<String> {
    if config.listen.is_empty() {
        return Some("listen names no address: name one such as 127.0.0.1:50051".to_owned());
    }
    let admin = config.admin_listen.clone().map(ListenAddress::Tcp);
    let addresses: Vec<_> = config.listen.iter().chain(&admin).collect();
    let is_any = |address: &ListenAddress| matches!(address, ListenAddress::Tcp(address) if address.port() == 0);
    let twice = addresses
        .iter()
        .enumerate()
        .find(|(index, address)| !is_any(address) && addresses[..*index].contains(address));
    twice.map(|(_, address)| {
        format!(
            "{address} is named twice in listen and admin-listen: each needs a port or a path of \
             its own"
        )
    })
}

fn plain_text(config: &Config) -> Option<String> {
    let address = remote(&config.listen)?;
    let is_safe = config.tls_cert.is_some() || config.tls_key.is_some();
    (!is_safe && !config.allow_remote_plaintext).then(|| {
        format!(
            "listen = `{address}` is beyond this machine, and nothing would be encrypted: set \
             tls-cert and tls-key, or listen on a loopback address such as 127.0.0.1:50051, or set \
             allow-remote-plaintext where something else encrypts"
        )
    })
}

fn tls(config: &Config) -> Option<String> {
    let reason = match (&config.tls_cert, &config.tls_key, &config.tls_client_ca) {
        (Some(_), None, _) => "tls-cert needs tls-key, the file with the key of the certificate",
        (None, Some(_), _) => "tls-key needs tls-cert, the file with the certificate of the key",
        (None, None, Some(_)) => {
            "tls-client-ca needs tls-cert and tls-key: without TLS clients show no certificate"
        }
        (Some(_), Some(_), _) | (None, None, None) => return None,
    };
    Some(reason.to_owned())
}

fn auth(config: &Config) -> Option<String> {
    let address = remote(&config.listen).filter(|_| config.auth == AuthMode::None)?;
    Some(format!(
        "auth = `none` lets everybody who reaches {address} run commands here: use auth = \
         `token`, or listen on a loopback address such as 127.0.0.1:50051"
    ))
}

fn store(config: &Config) -> Option<String> {
    let name = match (&config.store_password_file, &config.store_ca) {
        _ if !config.store.is_sqlite() => return None,
        (Some(_), _) => "store-password-file",
        (None, Some(_)) => "store-ca",
        (None, None) => return None,
    };
    Some(format!(
        "{name} is for a PostgreSQL database, and store = `sqlite`: name the URL of the database in \
         store, or leave {name} out"
    ))
}

fn replica(config: &Config, has_store: bool) -> Option<String> {
    match (&config.advertise, &config.replica_ca) {
        (Some(address), _) if config.store.is_sqlite() && !has_store => Some(format!(
            "advertise = `{address}` is for servers that share a PostgreSQL database, and store = \
             `sqlite`: name the URL of the database in store, or leave advertise out"
        )),
        (None, Some(_)) => Some(
            "replica-ca needs advertise, the address at which the other servers of the database reach \
             this one"
                .to_owned(),
        ),
        (Some(_) | None, _) => None,
    }
}

fn advertise(config: &Config) -> Option<String> {
    let address = config.advertise.as_ref()?;
    let has_tls = config.tls_cert.is_some();
    let is_network = |address: &ListenAddress| matches!(address, ListenAddress::Tcp(_));
    if address.contradicts(has_tls) {
        return Some(if has_tls {
            format!(
                "advertise = `{address}` is without TLS, and this server takes TLS only: begin the \
                 address with https://, or leave tls-cert and tls-key out"
            )
        } else {
            format!(
                "advertise = `{address}` is with TLS, and this server has none: set tls-cert and \
                 tls-key, or begin the address with http://"
            )
        });
    }
    (address.has_port_of_listener() && !config.listen.iter().any(is_network)).then(|| {
        format!(
            "advertise = `{address}` has the port of an address in listen, which names Unix domain \
             sockets only: name a port"
        )
    })
}

fn data_folder(config: &Config) -> Option<String> {
    let path = config.data_dir.as_ref().filter(|_| !config.store.is_sqlite())?;
    path.extension().is_some_and(|extension| extension == "db").then(|| {
        format!(
            "data-dir = `{}` names an SQLite database, and the store is a PostgreSQL database: name \
             a folder",
            path.display()
        )
    })
}

fn certificates(config: &Config) -> Option<String> {
    let is_unused = !config.client_certificates.is_empty() && config.tls_client_ca.is_none();
    is_unused.then(|| {
        "client_certificates need tls-client-ca, the authority of the certificates: without it no client \
         is asked for one"
            .to_owned()
    })
}

fn streams(config: &Config) -> Option<String> {
    (config.heartbeat >= config.stream_age)
        .then(|| "heartbeat must be shorter than stream-age".to_owned())
}

fn tenant_limits(config: &Config) -> Option<String> {
    let tables = &config.tenant_limits;
    let twice = |index: &usize| tables[..*index].iter().any(|t| t.name == tables[*index].name);
    let index = (0..tables.len()).find(twice)?;
    Some(format!(
        "tenant_limits = `{}` has the name of another table: each name has one table",
        tables[index].name
    ))
}

#[cfg(feature = "jwt")]
fn issuers(config: &Config) -> Option<String> {
    let issuers = &config.jwt_issuers;
    let twice = |index: usize| {
        let (issuer, before) = (&issuers[index], &issuers[..index]);
        before.iter().any(|other| other.issuer == issuer.issuer || other.name == issuer.name)
    };
    let index = (0..issuers.len()).find(|index| twice(*index))?;
    Some(format!(
        "jwt_issuers = `{}` has the name or the issuer of another table: each issuer has one table",
        issuers[index].name
    ))
}

/// Returns the first address that other machines can reach.
fn remote(addresses: &[ListenAddress]) -> Option<&ListenAddress> {
    addresses.iter().find(|address| !address.is_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::StoreAddress;

    fn errors(change: impl FnOnce(&mut Config)) -> String {
        let store = StoreAddress::Postgres("postgres://me@db/x".into());
        let mut config = Config { store, ..Config::default() };
        config.advertise = Some("127.0.0.1:0".parse().expect("an address"));
        change(&mut config);
        config.check().err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn with_tls(config: &mut Config) {
        (config.tls_cert, config.tls_key) = (Some("cert.pem".into()), Some("key.pem".into()));
    }

    fn advertise(config: &mut Config, text: &str) {
        config.advertise = Some(text.parse().expect("an address"));
    }

    #[test]
    fn an_advertised_address_fits_store_tls_and_listeners() {
        type Change = fn(&mut Config);
        let right: [Change; 3] = [|_| (), with_tls, |config| advertise(config, "http://one:7")];
        for change in right {
            assert_eq!(errors(change), "");
        }
        let wrong: [(Change, &str); 5] = [
            (|config| config.store = StoreAddress::Sqlite, "is for servers that share"),
            (
                |config| (config.advertise, config.replica_ca) = (None, Some("ca.pem".into())),
                "replica-ca needs",
            ),
            (|config| advertise(config, "https://one:7"), "set tls-cert and tls-key"),
            (
                |config| {
                    with_tls(config);
                    advertise(config, "http://one:7");
                },
                "begin the address with https://",
            ),
            (|config| config.listen = vec![ListenAddress::Unix("/run/x".into())], "name a port"),
        ];
        for (change, words) in wrong {
            let error = errors(change);
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[cfg(feature = "jwt")]
    #[test]
    fn an_issuer_of_tokens_has_one_table() {
        let issuer: crate::auth::jwt::JwtIssuerConfig = toml::from_str(
            "name = \"one\"\nissuer = \"x\"\naudience = \"y\"\njwks_file = \"z\"\ntenant = \"t\"",
        )
        .expect("a table");
        let mut other = issuer.clone();
        other.name = "two".into();
        let with = |tables: &[_]| errors(|config| config.jwt_issuers = tables.to_vec());
        assert!(with(&[issuer.clone(), other.clone()]).contains("each issuer has one table"));
        other.issuer = "https://y/".into();
        assert_eq!(with(&[issuer, other]), "");
    }

    #[test]
    fn a_store_of_the_program_may_have_replicas() {
        let mut config = Config::default();
        advertise(&mut config, "127.0.0.1:0");
        assert!(config.check().is_err());
        assert_eq!(config.check_with(true), Ok(()));
    }
}
