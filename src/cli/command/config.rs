//! `callpark config`: the settings of a server.

use crate::{
    app::config::Loaded,
    cli::{
        args::{connect::ConnectArgs, settings::SettingFlags},
        error::Failure,
        exit::Exit,
        print::{
            output::{Out, eprint_line, eprint_note},
            table::{Column, Table},
        },
    },
};

/// Show the settings that `callpark serve` would use, and where each comes from
///
/// Settings come from flags, environment variables or the configuration file; flags take
/// precedence, then variables.
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
        eprint_note(&format!("the configuration file is {}", file.display()));
    }
    for warning in warnings {
        eprint_line(&format!("warning: {warning}"));
    }
    if out.json {
        out.json(&rows).await?;
        return Ok(Exit::Success);
    }
    let mut table =
        Table::new([("SETTING", Column::Value), ("VALUE", Column::Text), ("SOURCE", Column::Text)]);
    for row in rows {
        table.row([row.name.to_owned(), row.value, row.origin.to_string()]);
    }
    out.table(&table).await?;
    Ok(Exit::Success)
}
