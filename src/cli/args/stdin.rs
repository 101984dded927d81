//! The standard input of a command, for the tool that it calls.

use std::io::IsTerminal as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use callpark_client::{Client, Error, Reason, v1};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep_until};

use super::call::{PreparedCall, with_similar_tool};
use crate::cli::{error::Failure, print::output::eprint_note};
use crate::model::limits::STDIN_BYTES_MAX;

/// The time in which the first byte, or the end, must come from a pipe that no neighbour writes to.
/// A program that starts this one to feed it writes at once; one that has nothing to say, such as a
/// CI runner or an SSH server, often holds the pipe open to the end.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// The time after which a note says what the command is waiting for.
const NOTE_TIME: Duration = Duration::from_secs(5);

/// Flags that say what becomes of standard input.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct StdinArgs {
    /// Read standard input to its end, however long that takes, and pass it to the tool
    ///
    /// Without this flag, standard input is passed to the tool unless it is a terminal, or a pipe to
    /// which nothing has been written for a second and which no other command of the pipeline
    /// writes to. A tool that reads no standard input is called without it, with a note; with this
    /// flag it is an error.
    #[arg(long, overrides_with = "no_stdin")]
    stdin: bool,

    /// Leave standard input unread, as a loop needs it that reads from there itself
    #[arg(long, overrides_with = "stdin")]
    no_stdin: bool,
}

impl StdinArgs {
    /// Reads standard input, if it is meant for the tool, and adds it to the call.
    pub(crate) async fn pass(
        self,
        call: PreparedCall,
        client: &Client,
    ) -> Result<PreparedCall, Failure> {
        if self.no_stdin || (std::io::stdin().is_terminal() && !self.stdin) {
            return Ok(call);
        }
        match self.read().await? {
            data if data.is_empty() => Ok(call),
            data => self.add(call, data, client).await,
        }
    }

    async fn read(self) -> Result<Bytes, Failure> {
        let began = Instant::now();
        let mut input = tokio::io::stdin();
        let mut data = BytesMut::new();
        let mut next_look = Some(began + SILENCE_MAX);
        loop {
            let count = tokio::select! {
                biased;
                count = input.read_buf(&mut data) => count,
                () = sleep_until(next_look.unwrap_or(began)), if next_look.is_some() => {
                    if data.is_empty() && !self.stdin && !has_writer().await {
                        eprint_note(
                            "standard input is open, but silent: the call starts without it \
                             (--stdin waits for it, and --no-stdin does not look at it)",
                        );
                        return Ok(Bytes::new());
                    }
                    next_look = match began.elapsed() < NOTE_TIME {
                        true => Some(began + NOTE_TIME),
                        false => {
                            eprint_note(
                                "waiting for the end of standard input: the call starts after it",
                            );
                            None
                        }
                    };
                    continue;
                }
            };
            match count {
                Ok(0) => return Ok(data.freeze()),
                Ok(_) if data.len() > STDIN_BYTES_MAX => return Err(too_large()),
                Ok(_) => {}
                Err(error) => {
                    return Err(Failure::io(format!("cannot read standard input: {error}")));
                }
            }
        }
    }

    /// Adds standard input to the call, unless the server says that the tool takes none.
    async fn add(
        self,
        call: PreparedCall,
        data: Bytes,
        client: &Client,
    ) -> Result<PreparedCall, Failure> {
        let fed = call.clone().with_stdin(data);
        let check = v1::RunToolRequest { dry_run: true, ..fed.clone().into_stream(None) };
        match client.tools().run(check).await {
            Ok(_) => Ok(fed),
            Err(error) => match refusal(&error) {
                Some(reason) if !self.stdin => {
                    eprint_note(&format!("standard input is not used: {reason}"));
                    Ok(call)
                }
                _ => Err(with_similar_tool(error, call.tool(), client).await),
            },
        }
    }
}

/// Returns the reason why a tool does not take the standard input, if the error says so.
fn refusal(error: &Error) -> Option<String> {
    if error.reason() != Some(&Reason::ArgumentsInvalid) {
        return None;
    }
    let violations = error.field_violations().iter();
    let mut of_stdin = violations.filter(|violation| violation.subject == "stdin");
    of_stdin.next().map(|violation| violation.description.clone())
}

fn too_large() -> Failure {
    Failure::usage(format!(
        "standard input has more than {STDIN_BYTES_MAX} bytes, the most that a call can have\n\
         put it into a file and pass its path, or leave it unread with --no-stdin"
    ))
}

/// Returns `true` if another command of the pipeline can write to standard input.
async fn has_writer() -> bool {
    // A search of /proc takes a while on a busy machine.
    tokio::task::spawn_blocking(neighbours::can_write).await.unwrap_or(false)
}

/// The processes beside this one, from `/proc`.
mod neighbours {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    /// The permission in the mode of `/proc/PID/fd/N` that an open file can be written to.
    const WRITABLE: u32 = 0o200;

    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Stat {
        /// `false` for a process that has ended and was not waited for.
        pub(super) is_alive: bool,
        pub(super) parent: u32,
        pub(super) group: u32,
    }

    /// Returns `true` if a process that is no ancestor of this one holds the writing end of its
    /// standard input. One of the same group whose files cannot be seen, such as `sudo`, counts.
    pub(super) fn can_write() -> bool {
        let own_id = std::process::id();
        let (Ok(input), Some(own)) = (fs::read_link("/proc/self/fd/0"), stat(own_id)) else {
            return false;
        };
        let ancestors = ancestors(own_id);
        let Ok(processes) = fs::read_dir("/proc") else { return false };
        let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut others = ids.filter(|id: &u32| !ancestors.contains(id));
        others.any(|id| match writes_to(id, &input) {
            Some(writes) => writes,
            None => stat(id).is_some_and(|other| other.is_alive && other.group == own.group),
        })
    }

    /// Returns whether the process can write to this file, or `None` if that cannot be seen.
    fn writes_to(id: u32, file: &Path) -> Option<bool> {
        let open = fs::read_dir(format!("/proc/{id}/fd")).ok()?;
        let is_writer = |path: &Path| {
            let mode = fs::symlink_metadata(path).map(|metadata| metadata.permissions().mode());
            mode.is_ok_and(|mode| mode & WRITABLE != 0)
                && fs::read_link(path).is_ok_and(|target| target == file)
        };
        Some(open.flatten().any(|entry| is_writer(&entry.path())))
    }

    /// Returns this process and those that it descends from.
    fn ancestors(id: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut next = Some(id);
        while let Some(id) = next {
            // Ids are used again: a chain that is read while it changes could be a circle.
            next = found.insert(id).then(|| stat(id)).flatten().map(|stat| stat.parent);
        }
        found
    }

    fn stat(id: u32) -> Option<Stat> {
        parse_stat(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// Parses `/proc/PID/stat`: the id, the name in parentheses, the state, the parent and the group.
    pub(super) fn parse_stat(text: &str) -> Option<Stat> {
        // The name may hold anything, even parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let is_alive = !matches!(fields.next()?, "Z" | "X");
        let mut number = || fields.next()?.parse().ok();
        Some(Stat { is_alive, parent: number()?, group: number()? })
    }
}

#[cfg(test)]
mod tests {
    use super::neighbours::{Stat, parse_stat};

    #[test]
    fn the_name_of_a_process_may_look_like_fields() {
        let stat = parse_stat("12 (a) S 1 (b) 9) S 7 8 9 0 -1");
        assert_eq!(stat, Some(Stat { is_alive: true, parent: 7, group: 8 }));
        assert_eq!(parse_stat("12 (a"), None);
    }
}
