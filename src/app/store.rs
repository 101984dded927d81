//! The store of a server, and the lock of its data folder.

#[cfg(feature = "postgres")]
use std::path::Path;
use std::sync::Arc;

use super::config::{Config, StoreAddress};
use super::error::Error;
use super::in_use::retry_while_in_use;
use crate::store::{DataLock, SqliteOptions, SqliteStore, Store, Synchronous};
use crate::telemetry::Metrics;

/// An opened store. No other server has it, or the data folder.
pub(super) struct OpenedStore {
    pub(super) store: Arc<dyn Store>,
    /// The kind, for GetServerInfo.
    pub(super) kind: &'static str,
    /// The lock of the data folder, unless the store has it.
    pub(super) lock: Option<DataLock>,
}

/// Opens the store that the configuration names, for a server whose first listener has this port.
#[cfg_attr(
    not(feature = "postgres"),
    expect(unused_variables, reason = "only replicas have a port")
)]
pub(super) async fn open_store(
    config: &Config,
    listener_port: u16,
    metrics: &Metrics,
) -> Result<OpenedStore, Error> {
    let path = config.data_dir.clone().unwrap_or_default();
    match &config.store {
        StoreAddress::Sqlite => {
            let options = SqliteOptions { path, synchronous: Synchronous::Full };
            let open = async || Ok(SqliteStore::open(&options, metrics.clone())?);
            let store = retry_while_in_use(open, Error::is_in_use).await?;
            Ok(OpenedStore { store: Arc::new(store), kind: "sqlite", lock: None })
        }
        #[cfg(feature = "postgres")]
        StoreAddress::Postgres(_) => {
            let lock = async || Ok(DataLock::acquire(&path)?);
            let lock = retry_while_in_use(lock, Error::is_in_use).await?;
            let Some(mut options) = postgres_options(config)? else {
                return Err(Error::NoPostgres);
            };
            if let Some(address) = &config.advertise {
                let address = address.url(config.tls_files().is_some(), listener_port);
                let home = lock.folder_id()?;
                options.replica = Some(crate::store::ReplicaOptions { address, home });
            }
            let open =
                async || Ok(crate::store::PostgresStore::open(&options, metrics.clone()).await?);
            let store = retry_while_in_use(open, Error::is_in_use).await?;
            Ok(OpenedStore { store: Arc::new(store), kind: "postgres", lock: Some(lock) })
        }
        #[cfg(not(feature = "postgres"))]
        StoreAddress::Postgres(_) => Err(Error::NoPostgres),
    }
}

/// Returns how to reach the PostgreSQL database of a configuration, or `None` if it has none.
#[cfg(feature = "postgres")]
pub(crate) fn postgres_options(
    config: &Config,
) -> Result<Option<crate::store::PostgresOptions>, Error> {
    let StoreAddress::Postgres(url) = &config.store else { return Ok(None) };
    let environment = super::config::Environment::capture();
    let password = config.store_password_file.as_deref().map(read_password).transpose()?;
    let passfile = environment.get("PGPASSFILE").map(Into::into);
    let own = || environment.get("HOME").map(|home| Path::new(home).join(".pgpass"));
    Ok(Some(crate::store::PostgresOptions {
        url: url.clone(),
        password,
        default_password: environment.get("PGPASSWORD").map(Into::into),
        passfile: passfile.or_else(own),
        root_certificates: config.store_ca.clone(),
        wait: config.store_wait,
        replica: None,
    }))
}

#[cfg(feature = "postgres")]
fn read_password(path: &Path) -> Result<secrecy::SecretString, Error> {
    crate::auth::GuardedFile::StorePassword.check_path(path)?;
    let unusable = |reason: String| {
        let value = path.display().to_string();
        let setting = super::config::SettingError::in_program("store-password-file", value, reason);
        Error::from(super::config::ConfigError { errors: vec![setting] })
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        unusable(format!("it cannot be read: {error}; name a file with the password"))
    })?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(unusable("it is empty: write the password into it".to_owned())),
        password => Ok(password.into()),
    }
}
