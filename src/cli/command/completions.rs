//! `callpark completions`: completion scripts for shells.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap_complete::{CompleteEnv, Shell, env::Shells};

use crate::app::config::Environment;
use crate::cli::{candidates, declaration, error::Failure, exit::Exit, print::output::Out};

/// The variable with which the script asks the program for the words that may follow. It holds the
/// name of the shell.
const VARIABLE: &str = "_CALLPARK_COMPLETE";

/// The name of the program in a shell.
const PROGRAM: &str = "callpark";

/// Print a completion script for a shell
///
/// The script completes commands and flags, and the names of tools, ids and states: it asks the
/// server for them, and proposes none if that does not answer within a second. To load it:
///
///   bash        source <(callpark completions bash)
///   zsh         source <(callpark completions zsh)
///   fish        callpark completions fish | source
///   elvish      eval (callpark completions elvish | slurp)
///   powershell  callpark completions powershell | Out-String | Invoke-Expression
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete commands in
    shell: Shell,
}

pub(crate) async fn run(args: CompletionsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let name = args.shell.to_string();
    let shells = Shells::builtins();
    let shell = shells
        .completer(&name)
        .ok_or_else(|| Failure::usage(format!("there is no completion script for {name}")))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, PROGRAM, PROGRAM, &program(), &mut script)
        .map_err(|error| Failure::io(format!("cannot write the completion script: {error}")))?;
    out.bytes(&script).await?;
    Ok(Exit::Success)
}

/// Returns the program as this process was started: a name, or an absolute path.
fn program() -> String {
    let words = Environment::words();
    let given = words.first().map(Path::new).unwrap_or(Path::new(PROGRAM));
    let has_folder = given.components().count() > 1;
    let absolute = has_folder.then(|| std::path::absolute(given).ok()).flatten();
    absolute.as_deref().unwrap_or(given).to_string_lossy().into_owned()
}

/// Prints the words that may follow, if the script asks for them. Returns `false` if it does not.
pub(crate) fn complete() -> Result<bool, io::Error> {
    let words = Environment::words();
    let line = line_of(&words);
    CompleteEnv::with_factory(|| candidates::add(declaration(), &line))
        .var(VARIABLE)
        .try_complete(words, None)
        .map_err(io::Error::other)
}

/// Returns the line that the script wants completed: the words after the first `--`.
fn line_of(words: &[OsString]) -> Vec<OsString> {
    words.iter().skip_while(|word| *word != "--").skip(1).cloned().collect()
}
