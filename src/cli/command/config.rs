//! `callpark config`: the settings of a server.

use super::settings::SettingFlags;
use crate::{
    app::config::Loaded,
    cli::{
        connect::ConnectArgs,
        exit::Exit,
        failure::Failure,
        output::{Out, Table, tell},
    },
};

/// Show the settings that `callpark serve` would have, and where each comes from
///
/// A flag wins over a variable of the environment, and that over the configuration file.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    settings: SettingFlags,
}

pub(crate) async fn run(
    args: ConfigArgs,
    connect: ConnectArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let Loaded { rows, warnings, file, .. } = args.settings.load(connect)?;
    if let Some(file) = file {
        tell(&format!("callpark: the configuration file is {}", file.display()));
    }
    for warning in warnings {
        tell(&format!("warning: {warning}"));
    }
    if out.json {
        out.json(&rows, true).await?;
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
    for row in rows {
        table.row([row.name.to_owned(), row.value, row.origin.to_string()]);
    }
    out.table(&table).await?;
    Ok(Exit::Success)
}
