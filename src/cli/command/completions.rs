//! `callpark completions`: for shells.

use clap_complete::Shell;

use crate::cli::{declaration, exit::Exit, failure::Failure, output::Out};

/// Print a script that teaches a shell to complete commands of callpark
///
/// For bash: `source <(callpark completions bash)`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) async fn run(args: CompletionsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut declaration(), "callpark", &mut script);
    out.bytes(&script).await?;
    Ok(Exit::Success)
}
