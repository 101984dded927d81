//! A disk of a few megabytes that can be filled, for one test: a tmpfs in a mount namespace of its
//! own, so that no right of root is needed where users may have namespaces.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::program::{Live, PROGRAM, Program, Site};
use super::waiting::variable;

/// Set to 1 where neither a user namespace nor a mount is possible: then tests that need a small
/// disk are skipped, and say so.
const SKIP_VARIABLE: &str = "CALLPARK_TEST_NO_SMALL_DISK";

/// A process that holds the namespace, and so the disk.
pub struct SmallDisk {
    holder: Live,
    folder: PathBuf,
    /// The prefix of a command that runs it where the disk is mounted.
    enter: Vec<String>,
}

impl SmallDisk {
    /// A disk of this size at the folder `disk` of the site, mounted with these options, or
    /// `None` if that is not possible and an environment variable says that this is known.
    pub async fn new(site: &Site, options: &str) -> Option<Self> {
        let folder = site.folder().join("disk");
        fs::create_dir(&folder).expect("a folder");
        let script = format!(
            "mount -t tmpfs -o mode=700,{options} tmpfs {} && echo mounted && exec sleep 3600",
            folder.display()
        );
        let mut attempts = String::new();
        for flags in ["-Urm", "-m"] {
            let arguments = [flags, "--propagation", "private", "sh", "-c", &script];
            let mut holder = Live::start(site.other("unshare", &arguments));
            if holder.stdout.has("mounted").await {
                let target = holder.pid().to_string();
                let users = (flags == "-Urm").then_some(["-U", "--preserve-credentials"]);
                let mut enter: Vec<String> =
                    ["nsenter", "-m", "-t", &target].map(Into::into).into();
                enter.extend(users.into_iter().flatten().map(Into::into));
                return Some(Self { holder, folder, enter });
            }
            attempts = format!("{attempts}unshare {flags}: {}\n", holder.ended().await);
        }
        let is_known = variable(SKIP_VARIABLE).is_some_and(|value| value == "1");
        assert!(
            is_known,
            "no small disk can be mounted; {SKIP_VARIABLE}=1 skips these tests:\n{attempts}"
        );
        eprintln!("not checked: there is no small disk");
        None
    }

    /// Returns the folder as commands on the disk see it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the folder as this process sees it.
    pub fn seen_from_here(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.pid());
        Path::new(&root).join(self.folder.strip_prefix("/").expect("a whole path"))
    }

    /// Fills all that is free, but for so many bytes.
    pub fn fill(&self, free: usize) {
        let path = self.seen_from_here().join("ballast");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        let mut piece = 64 << 10;
        while piece > 0 {
            match file.write(&vec![0; piece]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => piece /= 2,
                Err(error) => panic!("{error}"),
            }
        }
        let length = file.metadata().expect("a file").len();
        file.set_len(length.saturating_sub(free as u64)).expect("shorter");
    }

    /// Gives back what was filled.
    pub fn free(&self) {
        fs::remove_file(self.seen_from_here().join("ballast")).expect("a file that can be removed");
    }

    /// The command for a server that has its data there, and its token elsewhere.
    pub fn server(&self, site: &Site, flags: &[&str]) -> Command {
        let data = self.folder.display().to_string();
        let token = site.folder().join("token").display().to_string();
        let serve = [PROGRAM, "serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
        let (program, enter) = self.enter.split_first().expect("a command");
        let mut arguments: Vec<&str> = enter.iter().map(String::as_str).collect();
        arguments.extend(serve);
        arguments.extend(["--token-file", &token]);
        arguments.extend(flags);
        site.other(program, &arguments)
    }

    /// Starts a server that has its data there.
    pub async fn serve(&self, site: &Site, flags: &[&str]) -> Program {
        Program::started(Live::start(self.server(site, flags)), site.home(), site.folder()).await
    }
}
