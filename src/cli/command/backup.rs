//! `callpark backup` and `callpark restore`: copies of a store.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::args::{connect::ConnectArgs, store::StoreArgs};
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::print::output::{Out, eprint_line, eprint_note};
use crate::cli::print::text::count;
use crate::store::{self, BackupError, OpenError, RestoreOptions, Verification};

/// Copy the store to a file, also while the server runs
///
/// The copy is of one moment, and is verified. The server goes on meanwhile. `callpark restore` puts
/// it back.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// File to create
    file: PathBuf,

    #[command(flatten)]
    store: StoreArgs,
}

/// Put a backup in the place of the store; the server must be stopped
///
/// Clients that follow a session start again from its first event: what they have seen after the
/// backup is not in it. Calls that were running are reported as lost when the server starts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// Backup
    file: PathBuf,

    /// Move the present store, if there is one, to a folder beside it
    #[arg(long)]
    replace: bool,

    /// Take a backup with damaged records, which stay unreadable
    #[arg(long)]
    accept_damage: bool,

    #[command(flatten)]
    store: StoreArgs,
}

pub(crate) async fn backup(
    args: BackupArgs,
    connect: ConnectArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let folder = args.store.folder(connect)?;
    let target = args.file.clone();
    let verification = blocking(move || store::backup(&folder, &target)).await?;
    if out.json {
        out.json(&json!({"file": args.file, "verification": document(&verification)})).await?;
    } else {
        out.line(&format!("{}: {}", args.file.display(), summary(&verification))).await?;
    }
    Ok(report_problems(&verification))
}

pub(crate) async fn restore(
    args: RestoreArgs,
    connect: ConnectArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let folder = args.store.folder(connect)?;
    let options = RestoreOptions { replace: args.replace, accept_damage: args.accept_damage };
    let restored = blocking(move || store::restore(&args.file, &folder, options)).await?;
    if restored.may_be_incomplete {
        eprint_note(
            "this file was not made by `callpark backup`: if it was copied while a server ran, \
             without the file that ends in -wal, its newest records are missing",
        );
    }
    let verification = &restored.verification;
    if out.json {
        let document = json!({
            "database": restored.database,
            "previous": restored.previous,
            "mayBeIncomplete": restored.may_be_incomplete,
            "verification": document(verification),
        });
        out.json(&document).await?;
    } else {
        out.line(&format!("{}: {}", restored.database.display(), summary(verification))).await?;
        if let Some(previous) = &restored.previous {
            out.line(&format!("the store that was there is in {}", previous.display())).await?;
        }
    }
    Ok(report_problems(verification))
}

/// Runs work that waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
    done.map_err(|error| {
        let exit = match &error {
            BackupError::Missing { .. } => Exit::NotFound,
            BackupError::Exists { .. } | BackupError::InPlace { .. } => Exit::Usage,
            BackupError::Open(OpenError::Locked { .. }) => Exit::InUse,
            BackupError::Io { .. } | BackupError::Sqlite { .. } => Exit::Io,
            BackupError::Older { .. } | BackupError::Damaged { .. } | BackupError::Open(_) => {
                Exit::Failed
            }
        };
        Failure::new(exit, error.to_string())
    })
}

/// Returns what was verified, as a part of a sentence.
pub(super) fn summary(verification: &Verification) -> String {
    let Verification { events, records, problems_total, .. } = verification;
    let found = match problems_total {
        0 => "no damage".to_owned(),
        some => count(*some, "problem"),
    };
    format!("{}, {}, {found}", count(*events, "event"), count(*records, "other record"))
}

/// Returns what was verified, as JSON.
pub(super) fn document(verification: &Verification) -> serde_json::Value {
    let Verification { events, records, problems, problems_total } = verification;
    json!({
        "events": events, "records": records, "problems": problems,
        "problemsTotal": problems_total,
    })
}

/// Prints the problems, and returns the exit for them.
fn report_problems(verification: &Verification) -> Exit {
    for problem in &verification.problems {
        eprint_line(&format!("damaged: {problem}"));
    }
    match verification.problems_total {
        0 => Exit::Success,
        _ => Exit::Failed,
    }
}
