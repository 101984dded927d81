//! The owner and the permissions of the files on which access to the server depends.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The bit of a folder in which only its owner and the owner of a file may rename the file.
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// A file or a folder that others must not be able to use as the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardedFile {
    /// The file with the token. Nobody else may read it.
    Token,
    /// The key of TLS. Nobody else may read it, except a group that root has chosen.
    TlsKey,
    /// The file with the password of the database. Nobody else may read it, except a group that root
    /// has chosen.
    StorePassword,
    /// The file of API keys. Nobody else may change it.
    Keys,
    /// The file with the keys of an issuer of tokens. Nobody else may change it.
    KeySet,
    /// The root certificates of clients or of other servers. Nobody else may change them.
    Authority,
    /// The audit log. Nobody else may change it; a group may read it.
    Audit,
    /// The folder of the store. Nobody else may create files there.
    DataFolder,
    /// The folder of a Unix domain socket. Only root, and a group that its owner has chosen, may
    /// replace the socket.
    SocketFolder,
}

/// The error of a file that others could use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {} {problem}: {remedy}", path.display())]
pub struct OwnershipError {
    /// The kind of file, such as `the token file`.
    pub name: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The owner or the permissions that are wrong.
    pub problem: String,
    /// The command that mends it.
    pub remedy: String,
}

impl GuardedFile {
    /// Checks the file at a path. One that does not exist, or cannot be seen, is left to the code
    /// that uses it.
    ///
    /// # Errors
    ///
    /// The file belongs to another user, or others may do with it what they must not.
    pub fn check_path(self, path: &Path) -> Result<(), OwnershipError> {
        std::fs::metadata(path).map_or(Ok(()), |metadata| self.check(path, &metadata))
    }

    /// Checks a file with this path by its metadata.
    ///
    /// # Errors
    ///
    /// As [`GuardedFile::check_path`].
    pub fn check(self, path: &Path, metadata: &Metadata) -> Result<(), OwnershipError> {
        let own_uid = rustix::process::geteuid().as_raw();
        let found = Found { uid: metadata.uid(), mode: metadata.mode() & 0o7777, own_uid };
        match self.problem(found, path) {
            None => Ok(()),
            Some((problem, remedy)) => {
                Err(OwnershipError { name: self.name(), path: path.to_owned(), problem, remedy })
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Token => "the token file",
            Self::TlsKey => "the key of TLS in",
            Self::StorePassword => "the password of the database in",
            Self::Keys => "the file of API keys",
            Self::KeySet => "the key set",
            Self::Authority => "the certificate authority in",
            Self::Audit => "the audit log",
            Self::DataFolder => "the data folder",
            Self::SocketFolder => "the folder of the socket,",
        }
    }

    /// Returns the problem with the file, and the remedy.
    fn problem(self, found: Found, path: &Path) -> Option<(String, String)> {
        let Found { uid, mode, own_uid } = found;
        let word = shell_word(path);
        if !self.may_be_owned_by(uid, own_uid) {
            let problem = format!("belongs to user {uid}, and this server runs as user {own_uid}");
            let chown = match self {
                Self::DataFolder => format!("run `chown -R {own_uid} {word}` as root"),
                _ => format!("run `chown {own_uid} {word}` as root"),
            };
            return Some((problem, format!("{chown}{}", self.other_remedy())));
        }
        let is_root_s = uid == ROOT;
        if mode & self.forbidden_bits(mode, is_root_s) == 0 {
            return None;
        }
        let use_of_others = match self {
            Self::Token | Self::TlsKey | Self::StorePassword | Self::Audit => {
                "can be read or changed by others"
            }
            Self::Keys | Self::KeySet | Self::Authority | Self::DataFolder | Self::SocketFolder => {
                "can be changed by others"
            }
        };
        let problem = format!("{use_of_others} (mode {mode:04o})");
        let permissions = match self {
            // It is one that all users share.
            Self::DataFolder if mode & STICKY != 0 => {
                let own = shell_word(&path.join("callpark"));
                return Some((problem, format!("name a folder of its own, such as {own}")));
            }
            Self::DataFolder => "700",
            Self::SocketFolder => "o-w",
            Self::Keys | Self::KeySet | Self::Authority => "go-w",
            // The server reads it as a member of the group.
            Self::TlsKey | Self::StorePassword if is_root_s && own_uid != ROOT => "640",
            Self::Token | Self::TlsKey | Self::StorePassword => "600",
            Self::Audit => "g-w,o-rwx",
        };
        Some((problem, format!("run `chmod {permissions} {word}`{}", self.other_remedy())))
    }

    fn may_be_owned_by(self, uid: u32, own_uid: u32) -> bool {
        let may_be_root_s = !matches!(self, Self::Token | Self::Audit | Self::DataFolder);
        uid == own_uid || (may_be_root_s && uid == ROOT)
    }

    fn forbidden_bits(self, mode: u32, is_root_s: bool) -> u32 {
        match self {
            Self::TlsKey | Self::StorePassword if is_root_s => 0o037,
            Self::Token | Self::TlsKey | Self::StorePassword => 0o077,
            Self::Keys | Self::KeySet | Self::Authority | Self::DataFolder => 0o022,
            Self::Audit => 0o027,
            Self::SocketFolder if mode & STICKY != 0 => 0,
            Self::SocketFolder => 0o002,
        }
    }

    fn other_remedy(self) -> &'static str {
        match self {
            Self::Token => ", or delete it for a new token, as others may know this one",
            Self::TlsKey => ", and replace the key if others may know it",
            Self::StorePassword => ", and change the password if others may know it",
            Self::Keys | Self::KeySet => ", and check that it has no key that you don't know",
            Self::Authority => ", and check that it has no certificate that you don't know",
            Self::Audit => ", and check it with `callpark audit verify`",
            Self::DataFolder => ", or choose another folder with the setting `data-dir`",
            Self::SocketFolder => ", or choose another path with the setting `listen`",
        }
    }
}

/// The properties of a file that was found.
#[derive(Clone, Copy)]
struct Found {
    uid: u32,
    mode: u32,
    own_uid: u32,
}

/// Returns a path as a word of a command line.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 1000;
    const OTHER: u32 = 1001;

    /// Returns the message about a file, or nothing if it is right.
    fn message(file: GuardedFile, uid: u32, mode: u32, own_uid: u32) -> String {
        let problem = file.problem(Found { uid, mode, own_uid }, Path::new("/srv/x"));
        problem.map(|(problem, remedy)| format!("{problem}: {remedy}")).unwrap_or_default()
    }

    #[test]
    fn what_belongs_to_this_user_alone_is_right() {
        for own_uid in [ROOT, OWN] {
            for (file, mode) in [
                (GuardedFile::Token, 0o600),
                (GuardedFile::Token, 0o400),
                (GuardedFile::TlsKey, 0o600),
                (GuardedFile::StorePassword, 0o600),
                (GuardedFile::Keys, 0o644),
                (GuardedFile::KeySet, 0o644),
                (GuardedFile::Authority, 0o644),
                (GuardedFile::Audit, 0o640),
                (GuardedFile::DataFolder, 0o700),
                (GuardedFile::DataFolder, 0o755),
                (GuardedFile::SocketFolder, 0o755),
                (GuardedFile::SocketFolder, 0o775),
            ] {
                assert_eq!(message(file, own_uid, mode, own_uid), "", "{file:?} {mode:o}");
            }
        }
    }

    #[test]
    fn what_others_can_use_is_wrong_and_the_command_mends_it() {
        for (file, mode, command) in [
            (GuardedFile::Token, 0o640, "`chmod 600 /srv/x`"),
            (GuardedFile::Token, 0o602, "`chmod 600 /srv/x`"),
            (GuardedFile::TlsKey, 0o644, "`chmod 600 /srv/x`"),
            (GuardedFile::TlsKey, 0o640, "`chmod 600 /srv/x`"),
            (GuardedFile::StorePassword, 0o644, "`chmod 600 /srv/x`"),
            (GuardedFile::Keys, 0o664, "`chmod go-w /srv/x`"),
            (GuardedFile::Audit, 0o644, "`chmod g-w,o-rwx /srv/x`"),
            (GuardedFile::Audit, 0o660, "`chmod g-w,o-rwx /srv/x`"),
            (GuardedFile::DataFolder, 0o777, "`chmod 700 /srv/x`"),
            (GuardedFile::DataFolder, 0o770, "`chmod 700 /srv/x`"),
            (GuardedFile::SocketFolder, 0o777, "`chmod o-w /srv/x`"),
        ] {
            let text = message(file, OWN, mode, OWN);
            assert!(text.contains(command) && text.contains(&format!("{mode:04o}")), "{text}");
        }
    }

    #[test]
    fn a_folder_that_all_users_share_is_not_taken_from_them() {
        let text = message(GuardedFile::DataFolder, ROOT, 0o1777, ROOT);
        assert!(text.ends_with("name a folder of its own, such as /srv/x/callpark"), "{text}");
        assert_eq!(message(GuardedFile::SocketFolder, ROOT, 0o1777, OWN), "");
    }

    #[test]
    fn what_belongs_to_another_user_is_wrong() {
        for (file, own_uid, command) in [
            (GuardedFile::Token, OWN, "`chown 1000 /srv/x`"),
            (GuardedFile::TlsKey, OWN, "`chown 1000 /srv/x`"),
            (GuardedFile::DataFolder, ROOT, "`chown -R 0 /srv/x`"),
            (GuardedFile::SocketFolder, OWN, "`chown 1000 /srv/x`"),
        ] {
            let text = message(file, OTHER, 0o700, own_uid);
            assert!(text.contains(command) && text.contains("user 1001"), "{text}");
        }
    }

    #[test]
    fn root_may_own_what_the_server_only_uses() {
        assert_eq!(message(GuardedFile::TlsKey, ROOT, 0o640, OWN), "");
        assert_eq!(message(GuardedFile::SocketFolder, ROOT, 0o755, OWN), "");
        let text = message(GuardedFile::TlsKey, ROOT, 0o644, OWN);
        assert!(text.contains("`chmod 640 /srv/x`"), "{text}");
        for file in [GuardedFile::Token, GuardedFile::DataFolder] {
            assert!(message(file, ROOT, 0o700, OWN).contains("belongs to user 0"), "{file:?}");
        }
    }

    #[test]
    fn a_path_is_one_word_of_the_command() {
        assert_eq!(shell_word(Path::new("/srv/my data")), "'/srv/my data'");
        assert_eq!(shell_word(Path::new("/it's")), r"'/it'\''s'");
    }
}
