//! The password file of PostgreSQL's own programs, `.pgpass`.
//!
//! Each line is `host:port:database:user:password`. The first that fits is the one; `*` fits everything, and
//! a backslash takes the next character as it is. Source of the rules: the documentation of libpq, "The
//! Password File".

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::SecretString;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The folders of the socket of a server on this machine that `localhost` stands for.
const SOCKET_FOLDERS: [&str; 2] = ["/tmp", "/var/run/postgresql"];
/// The port of a URL that names none.
const DEFAULT_PORT: u16 = 5432;
/// The permissions of other users, with any of which a file is ignored.
const OF_OTHERS: u32 = 0o077;

/// Returns the password that a file has for a database, or `None` if there is no such file, it has none, or
/// others can use it.
pub(super) fn password(path: &Path, config: &Config) -> Option<SecretString> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() {
        return None;
    }
    if metadata.permissions().mode() & OF_OTHERS != 0 {
        tracing::warn!(
            file = %path.display(),
            "the password file is ignored, because others can use it: run `chmod 600` on it"
        );
        return None;
    }
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the password file cannot be read");
            return None;
        }
    };
    let wanted = wanted(config);
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| fit(line, &wanted))
}

/// The words of a line that are those of the database: for each place those that fit.
fn wanted(config: &Config) -> [Vec<String>; 4] {
    let hosts = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => vec![host.clone()],
        Some(Host::Unix(path)) => {
            let path = path.display().to_string();
            let is_default = SOCKET_FOLDERS.contains(&path.as_str());
            let local = is_default.then(|| "localhost".to_owned());
            local.into_iter().chain([path]).collect()
        }
        None => Vec::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
    let word = |text: Option<&str>| text.map(str::to_owned).into_iter().collect();
    [hosts, vec![port.to_string()], word(config.get_dbname()), word(config.get_user())]
}

/// Returns the password of a line that fits.
fn fit(line: &str, wanted: &[Vec<String>; 4]) -> Option<SecretString> {
    let mut rest = line.chars();
    for words in wanted {
        let (word, is_any) = field(&mut rest)?;
        if !is_any && !words.contains(&word) {
            return None;
        }
    }
    let mut password = String::new();
    while let Some(character) = rest.next() {
        match character {
            '\\' => password.extend(rest.next()),
            // More may follow in later versions of the format.
            ':' => break,
            _ => password.push(character),
        }
    }
    (!password.is_empty()).then(|| password.into())
}

/// Reads a field up to its colon. Returns `true` with it if it is a single `*`.
fn field(rest: &mut std::str::Chars<'_>) -> Option<(String, bool)> {
    let (mut word, mut is_escaped) = (String::new(), false);
    loop {
        match rest.next()? {
            ':' => break,
            '\\' => {
                word.push(rest.next()?);
                is_escaped = true;
            }
            character => word.push(character),
        }
    }
    let is_any = word == "*" && !is_escaped;
    Some((word, is_any))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    /// Returns the password for a URL, or an empty text.
    fn found(url: &str, lines: &str, mode: u32) -> String {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), lines).expect("written");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("a mode");
        let password = password(file.path(), &url.parse().expect("a URL"));
        password.map(|password| password.expose_secret().to_owned()).unwrap_or_default()
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        for (url, lines, password) in [
            ("postgres://me@db/x", "db:5432:x:me:secret", "secret"),
            (
                "postgres://me@db/x",
                "# db:5432:x:me:no\n\nother:*:*:*:no\n*:*:x:*:yes\n*:*:*:*:no",
                "yes",
            ),
            ("postgres://me@db:6000/x", "db:5432:x:me:no\ndb:6000:x:me:yes", "yes"),
            ("postgres://me@db/x", r"db:*:*:me:a\:b\\c\d", r"a:b\cd"),
            ("postgres://me@db/x", r"db:*:\*:me:no", ""),
            ("postgres://me@db/x", "db:5432:x:me:secret:more", "secret"),
            ("postgres://me@db/x", "db:5432:x:me", ""),
            ("postgres://me@db/x", "db:5432:x:you:no", ""),
            ("postgres://me@%2Fvar%2Frun%2Fpostgresql/x", "localhost:*:*:*:yes", "yes"),
            ("postgres://me@%2Fsrv/x", "localhost:*:*:*:no\n/srv:*:*:*:yes", "yes"),
        ] {
            assert_eq!(found(url, lines, 0o600), password, "{url} {lines}");
        }
    }

    #[test]
    fn a_file_that_others_can_use_is_ignored() {
        for (mode, password) in [(0o600, "p"), (0o400, "p"), (0o640, ""), (0o604, "")] {
            assert_eq!(found("postgres://me@db/x", "*:*:*:*:p", mode), password, "{mode:o}");
        }
    }
}
