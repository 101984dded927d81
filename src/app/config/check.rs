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

/// Returns the conflicts between settings that are right one by one.
pub(super) fn conflicts(config: &Config) -> Vec<Conflict> {
    let conflict = |keys, reason: Option<String>| Some(Conflict { keys, reason: reason? });
    [
        conflict(&["listen", "admin_listen"], listen(config)),
        conflict(&["listen", "tls_cert", "tls_key", "allow_remote_plaintext"], plain_text(config)),
        conflict(&["tls_cert", "tls_key", "tls_client_ca"], tls(config)),
        conflict(&["auth", "listen"], auth(config)),
        conflict(&["store", "store_password_file", "store_ca"], store(config)),
        conflict(&["store", "data_dir"], data_folder(config)),
        conflict(&["heartbeat", "stream_age"], streams(config)),
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

fn streams(config: &Config) -> Option<String> {
    (config.heartbeat >= config.stream_age)
        .then(|| "heartbeat must be shorter than stream-age".to_owned())
}

/// Returns the first address that other machines can reach.
fn remote(addresses: &[ListenAddress]) -> Option<&ListenAddress> {
    addresses.iter().find(|address| !address.is_local())
}
