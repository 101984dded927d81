//! `callpark doctor`: checks of a server's store, files and machine.

mod folder;
mod machine;
#[cfg(feature = "postgres")]
mod postgres;
mod shims;
mod store;

use serde::Serialize;

use crate::app::config::{Config, Loaded};
use crate::cli::args::{connect::ConnectArgs, settings::SettingFlags};
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::print::output::Out;

/// Check the store, its files and the machine, and say what to do
///
/// Reads only, and works while the server runs. Ends with 1 if there is a problem.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    settings: SettingFlags,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// A state that works now, and may not under load or for ever.
    Warning,
    Problem,
}

/// The finding of a check, and the remedy.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    text: String,
    /// The thing to do; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

impl Finding {
    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, text: text.into(), remedy: String::new() }
    }

    fn warning(check: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (text, remedy) = (text.into(), remedy.into());
        Self { check, verdict: Verdict::Warning, text, remedy }
    }

    fn problem(check: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, ..Self::warning(check, text, remedy) }
    }
}

pub(crate) async fn run(
    args: DoctorArgs,
    connect: ConnectArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let Loaded { config, warnings, .. } = args.settings.load(connect)?;
    let mut findings: Vec<Finding> = warnings
        .into_iter()
        .map(|warning| Finding::warning("configuration", warning, ""))
        .collect();
    #[cfg(feature = "postgres")]
    findings.extend(postgres::check(&config).await);
    let checked = tokio::task::spawn_blocking(move || check(&config)).await;
    findings.extend(checked.map_err(|error| Failure::new(Exit::Internal, error.to_string()))?);
    if out.json {
        out.json(&findings).await?;
    } else {
        print(&findings, out).await?;
    }
    let is_sound = findings.iter().all(|finding| finding.verdict != Verdict::Problem);
    Ok(if is_sound { Exit::Success } else { Exit::Failed })
}

/// Runs all checks. Reads files and the whole store.
fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(folder) = &config.data_dir {
        findings.push(folder::check(folder));
        if config.store.is_sqlite() {
            findings.extend(store::check(folder));
        }
        findings.extend(shims::check(folder));
        findings.push(machine::free_space(folder));
    }
    findings.extend(folder::check_files(config));
    findings.push(machine::descriptors(config));
    findings.push(machine::clock());
    findings
}

async fn print(findings: &[Finding], out: &mut Out) -> Result<(), Failure> {
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        out.line(&format!("{verdict:<8} {}: {}", finding.check, finding.text)).await?;
        if !finding.remedy.is_empty() {
            out.line(&format!("         → {}", finding.remedy)).await?;
        }
    }
    Ok(())
}
