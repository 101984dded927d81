//! The store that a command works on.

use std::path::PathBuf;

use crate::cli::args::{connect::ConnectArgs, settings::SettingFlags};
use crate::cli::error::Failure;
use crate::cli::exit::Exit;

/// The folder of a store.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// Folder of the store, as for `callpark serve` [env: CALLPARK_DATA_DIR]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

impl StoreArgs {
    /// Returns the folder that `callpark serve` would use with this flag.
    pub(crate) fn folder(self, connect: ConnectArgs) -> Result<PathBuf, Failure> {
        let is_named = self.data_dir.is_some();
        let config = SettingFlags::data_dir(self.data_dir).load(connect)?.config;
        if !config.store.is_sqlite() && !is_named {
            let text = format!(
                "the store is {}: copy it with pg_dump and pg_restore, the programs of PostgreSQL; for \
                 an SQLite store name its folder with --data-dir",
                config.store
            );
            return Err(Failure::new(Exit::Usage, text));
        }
        config.data_dir.ok_or_else(|| {
            Failure::new(Exit::Config, "there is no folder for a store: name one with --data-dir")
        })
    }
}
