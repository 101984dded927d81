//! The start of a process from its spec: its pipes and other descriptors, its environment, its group.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use rustix::fs::{Access, access};
use tokio::net::unix::pipe;

use super::leader::Leader;
use super::mark::{MARK, SERVER_PROCESS, ServerProcess};
use super::orphans;
use super::output::OutputPipe;
use super::reaper::Reaper;
use super::separation::Separation;
use super::stdin::StdinPipe;
use crate::exec::StartError;
use crate::model::{CallId, Environment, ProcessSpec};

/// The folders in which programs are searched for if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The variable that makes Python write at once. Into a pipe it writes 8 KiB at a time otherwise:
/// nothing would be seen of a long run, and the last part would be lost if the run is stopped.
const UNBUFFERED: &str = "PYTHONUNBUFFERED";

/// A process that has just been started, and the server's ends of its pipes.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) leader: Leader,
    pub(super) stdin: Option<StdinPipe>,
    pub(super) stdout: OutputPipe,
    pub(super) stderr: OutputPipe,
}

/// Starts the process. Must be called inside a Tokio runtime.
///
/// The program is looked up here and not by the standard library: with an own environment and a
/// name to look up, `Command` falls back from `posix_spawn` to `fork`, which copies the page tables
/// of a large server for every call.
pub(super) fn spawn(
    call_id: CallId,
    spec: &ProcessSpec,
    separation: Separation,
    reaper: Reaper,
) -> Result<Spawned, StartError> {
    attempt(spec, separation, |attempt| attempt.run(call_id, spec, reaper))
}

/// Starts a program in a session of its own, without variables, with a socket as its standard input and
/// a file as its standard error.
pub(super) fn launch_apart(argv: &[String], socket: OwnedFd, messages: File) -> io::Result<()> {
    let [program, arguments @ ..] = argv else { return Err(ErrorKind::InvalidInput.into()) };
    let mut command = Command::new(program);
    // The name in lists of processes, also where the path is that of this program in `/proc`.
    command.arg0("callpark").args(arguments).env_clear();
    command.stdin(socket).stdout(Stdio::null()).stderr(messages);
    orphans::start_apart(|| Separation::Session.spawn(command))
}

/// A process that has just been started, and the server's ends of all of its pipes.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) leader: Leader,
    pub(super) stdin: pipe::Sender,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

/// Starts a process and keeps all of its pipes open. The standard input of the spec is not used.
/// Must be called inside a Tokio runtime.
pub(super) fn connect(
    mark: CallId,
    spec: &ProcessSpec,
    separation: Separation,
    reaper: Reaper,
) -> Result<Connected, StartError> {
    attempt(spec, separation, |attempt| attempt.connect(mark, spec, reaper))
}

/// Finds the program and tries to execute it.
fn attempt<T>(
    spec: &ProcessSpec,
    separation: Separation,
    run: impl FnOnce(SpawnAttempt<'_>) -> io::Result<T>,
) -> Result<T, StartError> {
    let Some(program) = spec.argv.first().cloned() else {
        return Err(StartError::ProgramMissing { program: String::new() });
    };
    let directory = spec.working_directory.as_deref();
    if let Some(path) = directory {
        check_directory(path)?;
    }
    let path = find_program(&program, &spec.environment, directory)?;
    let attempt = SpawnAttempt { program: &program, path: &path, separation };
    run(attempt).map_err(|error| attempt.explain(&error))
}

/// An attempt to execute a program that was found a moment ago.
#[derive(Clone, Copy)]
struct SpawnAttempt<'a> {
    /// The name, as the caller wrote it.
    program: &'a str,
    /// The path at which it was found.
    path: &'a Path,
    separation: Separation,
}

impl SpawnAttempt<'_> {
    fn run(self, call_id: CallId, spec: &ProcessSpec, reaper: Reaper) -> io::Result<Spawned> {
        let (stdout, stdout_of_child) = io::pipe()?;
        let (stderr, stderr_of_child) = io::pipe()?;
        let (stdin, stdin_of_child) = stdin_pipe(spec.stdin.as_ref())?;
        let mut command = self.command(call_id, spec);
        if !spec.environment.contains_key(UNBUFFERED) {
            command.env(UNBUFFERED, "1");
        }
        command.stdin(stdin_of_child).stdout(stdout_of_child).stderr(stderr_of_child);
        // All steps that can fail without a child come before it.
        let stdout = OutputPipe::new(OwnedFd::from(stdout))?;
        let stderr = OutputPipe::new(OwnedFd::from(stderr))?;
        let leader = orphans::start(|| self.separation.spawn(command), call_id, &reaper)?;
        let leader = Leader::adopt(leader, reaper)?;
        Ok(Spawned { leader, stdin, stdout, stderr })
    }

    fn connect(self, mark: CallId, spec: &ProcessSpec, reaper: Reaper) -> io::Result<Connected> {
        let (stdout, stdout_of_child) = io::pipe()?;
        let (stderr, stderr_of_child) = io::pipe()?;
        let (stdin_of_child, stdin) = io::pipe()?;
        let mut command = self.command(mark, spec);
        command.stdin(stdin_of_child).stdout(stdout_of_child).stderr(stderr_of_child);
        let stdin = pipe::Sender::from_owned_fd(OwnedFd::from(stdin))?;
        let stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?;
        let stderr = pipe::Receiver::from_owned_fd(OwnedFd::from(stderr))?;
        let leader = orphans::start(|| self.separation.spawn(command), mark, &reaper)?;
        let leader = Leader::adopt(leader, reaper)?;
        Ok(Connected { leader, stdin, stdout, stderr })
    }

    /// Returns the command with its arguments, variables and folder.
    fn command(self, mark: CallId, spec: &ProcessSpec) -> Command {
        let mut command = Command::new(self.path);
        command
            .arg0(self.program)
            .args(spec.argv.iter().skip(1))
            .env_clear()
            .envs(&spec.environment)
            .env(MARK, mark.to_string())
            .env(SERVER_PROCESS, ServerProcess::this().to_string());
        if let Some(directory) = &spec.working_directory {
            command.current_dir(directory);
        }
        command
    }

    fn explain(self, error: &io::Error) -> StartError {
        let program = self.program.to_owned();
        match error.kind() {
            ErrorKind::PermissionDenied => StartError::NotExecutable { program },
            ErrorKind::NotFound => StartError::System {
                program,
                cause: format!(
                    "{} exists, but its interpreter does not: check its first line",
                    self.path.display()
                ),
            },
            _ => StartError::System { program, cause: error.to_string() },
        }
    }
}

/// Returns the server's end of standard input, or `None` if there is no data, and the child's end.
fn stdin_pipe(data: Option<&Bytes>) -> io::Result<(Option<StdinPipe>, Stdio)> {
    let Some(data) = data.filter(|data| !data.is_empty()) else {
        return Ok((None, Stdio::null()));
    };
    let (reader, writer) = io::pipe()?;
    Ok((Some(StdinPipe::new(OwnedFd::from(writer), data.clone())?), Stdio::from(reader)))
}

fn check_directory(path: &Path) -> Result<(), StartError> {
    let can_be_entered = path.is_dir() && access(path, Access::EXEC_OK).is_ok();
    if can_be_entered {
        return Ok(());
    }
    Err(StartError::WorkingDirectory { path: path.display().to_string() })
}

/// Finds the program as `execvp` would. A name with a slash is a path, relative to the working
/// directory of the process. Another one is looked up in the `PATH` of its environment.
fn find_program(
    program: &str,
    environment: &Environment,
    directory: Option<&Path>,
) -> Result<PathBuf, StartError> {
    let missing = || StartError::ProgramMissing { program: program.to_owned() };
    if program.is_empty() {
        return Err(missing());
    }
    if program.contains('/') {
        return match check_candidate(Path::new(program), directory) {
            Candidate::Executable => Ok(PathBuf::from(program)),
            Candidate::NotExecutable => {
                Err(StartError::NotExecutable { program: program.to_owned() })
            }
            Candidate::Missing => Err(missing()),
        };
    }
    let mut refused = false;
    for folder in environment.get("PATH").map_or(DEFAULT_PATH, String::as_str).split(':') {
        // As in every shell, an empty entry is the working directory.
        let candidate = Path::new(if folder.is_empty() { "." } else { folder }).join(program);
        match check_candidate(&candidate, directory) {
            Candidate::Executable => return Ok(candidate),
            Candidate::NotExecutable => refused = true,
            Candidate::Missing => {}
        }
    }
    Err(if refused { StartError::NotExecutable { program: program.to_owned() } } else { missing() })
}

enum Candidate {
    Executable,
    NotExecutable,
    Missing,
}

fn check_candidate(candidate: &Path, directory: Option<&Path>) -> Candidate {
    let seen = directory.map_or_else(|| candidate.to_owned(), |base| base.join(candidate));
    // `access` first: for most candidates it is the only call.
    match access(&seen, Access::EXEC_OK) {
        Ok(()) if seen.is_file() => Candidate::Executable,
        Ok(()) | Err(rustix::io::Errno::ACCESS) => Candidate::NotExecutable,
        Err(_) => Candidate::Missing,
    }
}
