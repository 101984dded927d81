//! `callpark audit`: the audit log of a server.

use std::path::PathBuf;

use serde::Serialize;

use crate::audit::{AuditReport, BrokenChain, audit_files, verify};
use crate::cli::args::connect::ConnectArgs;
use crate::cli::args::settings::SettingFlags;
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::print::output::{Out, eprint_line, eprint_note};

/// Check the audit log of a server
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum AuditCommand {
    Verify(VerifyArgs),
}

/// Check that no line of the audit log was changed, removed or put in
///
/// Prints the number of the last line and its hash. A log that ends earlier than it did is a whole chain,
/// too: keep the last hash elsewhere, and look for it later with --hash. Exits with 1 if the chain is broken.
#[derive(Clone, Debug, clap::Args)]
struct VerifyArgs {
    /// Files of one log, in any order; by default those of the setting `audit-file`
    files: Vec<PathBuf>,

    /// Hash that a line must have, such as one that was printed before
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
}

/// The result of a check in JSON.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    intact: bool,
    files: u64,
    lines: u64,
    first_sequence: u64,
    last_sequence: u64,
    last_hash: String,
    lost_entries: u64,
    damaged_bytes: u64,
    ends_in_part: bool,
    /// The first line that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<Place>,
}

#[derive(Serialize)]
struct Place {
    file: String,
    line: u64,
    problem: String,
}

pub(crate) async fn run(
    args: AuditArgs,
    connect: ConnectArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let AuditCommand::Verify(VerifyArgs { files, hash }) = args.command;
    let files = if files.is_empty() { configured_files(connect)? } else { files };
    let checked = tokio::task::spawn_blocking(move || {
        let checked = verify(&files, hash.as_deref());
        (checked, hash)
    });
    let (checked, hash) = checked.await.map_err(|error| Failure::io(error.to_string()))?;
    match checked {
        Ok(report) => show(&report, hash.as_deref(), out).await,
        Err(BrokenChain::Line { path, line, problem }) if out.json => {
            let broken = Some(Place { file: path.display().to_string(), line, problem });
            out.json(&Document { broken, ..Document::default() }).await?;
            Ok(Exit::Failed)
        }
        Err(error @ BrokenChain::Line { .. }) => {
            Err(Failure::new(Exit::Failed, format!("the chain is broken at {error}")))
        }
        Err(error @ BrokenChain::File { .. }) => Err(Failure::io(error.to_string())),
    }
}

async fn show(report: &AuditReport, hash: Option<&str>, out: &mut Out) -> Result<Exit, Failure> {
    let missing = hash.filter(|_| !report.hash_found);
    if out.json {
        let AuditReport { files, lines, first_sequence, last_sequence, .. } = *report;
        out.json(&Document {
            intact: missing.is_none(),
            files,
            lines,
            first_sequence,
            last_sequence,
            last_hash: report.last_hash.clone(),
            lost_entries: report.lost_entries,
            damaged_bytes: report.damaged_bytes,
            ends_in_part: report.ends_in_part,
            broken: None,
        })
        .await?;
    } else {
        notes(report);
        if report.lines > 0 {
            out.line(&format!("{} {}", report.last_sequence, report.last_hash)).await?;
        }
    }
    match missing {
        None => Ok(Exit::Success),
        Some(hash) => {
            eprint_line(&format!(
                "error: the chain is whole, and no line of it has the hash {hash}"
            ));
            Ok(Exit::Failed)
        }
    }
}

/// Prints what a person should know beside the last line.
fn notes(report: &AuditReport) {
    let AuditReport { files, lines, first_sequence, lost_entries, damaged_bytes, .. } = report;
    let last = (*first_sequence + *lines).saturating_sub(1);
    eprint_note(&format!("the chain is whole: lines {first_sequence} to {last}, files: {files}"));
    if *lost_entries > 0 {
        eprint_note(&format!("{lost_entries} entries were lost, as lines `lost` say"));
    }
    if *damaged_bytes > 0 {
        eprint_note(&format!(
            "{damaged_bytes} bytes were damaged, as by a crash, as lines `repaired` say"
        ));
    }
    if report.ends_in_part {
        eprint_note("the last line has no end: it is being written, or a crash has torn it");
    }
}

/// Returns the files of the log that `callpark serve` would write.
fn configured_files(connect: ConnectArgs) -> Result<Vec<PathBuf>, Failure> {
    let config = SettingFlags::default().load(connect)?.config;
    let Some(path) = config.audit_file else {
        let message = "there is no audit log: name its files, or set audit-file";
        return Err(Failure::new(Exit::Config, message));
    };
    let failed = |error| Failure::io(format!("{} cannot be read: {error}", path.display()));
    let files = audit_files(&path).map_err(failed)?;
    if files.is_empty() {
        return Err(Failure::io(format!("{} does not exist", path.display())));
    }
    Ok(files)
}
