//! `callpark completions`: completion scripts for shells.

use clap_complete::Shell;

use crate::cli::{declaration, error::Failure, exit::Exit, print::output::Out};

/// Print a completion script for a shell
///
/// To load it in bash: `source <(callpark completions bash)`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete commands in
    shell: Shell,
}

pub(crate) async fn run(args: CompletionsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut declaration(), "callpark", &mut script);
    out.bytes(&script).await?;
    Ok(Exit::Success)
}
