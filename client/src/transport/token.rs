//! Bearer tokens.

use std::{
    io,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::{io::AsyncReadExt as _, process, sync::Mutex, time::timeout};
use tonic::metadata::{Ascii, MetadataValue};

use crate::options::TokenSource;

/// The time that a command may take to print its token.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(30);
/// The size of the longest token that is accepted.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The tokens of one client. Calls share a token, and only one of them fetches it at a time.
pub(crate) struct Tokens {
    source: TokenSource,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    bearer: Bearer,
    /// The state of the file when the token was read.
    stamp: Option<Stamp>,
}

type Stamp = (Option<SystemTime>, u64);

/// A token as a header, with the number of the fetch that returned it.
#[derive(Clone)]
pub(crate) struct Bearer {
    pub(crate) header: MetadataValue<Ascii>,
    pub(crate) fetch: u64,
}

impl Tokens {
    pub(crate) fn new(source: TokenSource) -> Self {
        Self { source, current: Mutex::new(None) }
    }

    /// Returns the token to send, or `None` if none is sent.
    pub(crate) async fn bearer(&self) -> io::Result<Option<Bearer>> {
        if matches!(self.source, TokenSource::None) {
            return Ok(None);
        }
        let mut current = self.current.lock().await;
        if let Some(current) = &*current
            && current.stamp == self.stamp().await?
        {
            return Ok(Some(current.bearer.clone()));
        }
        self.fetch(&mut current).await.map(Some)
    }

    /// Fetches the token again after the server refused `refused`. Returns whether there is another
    /// token to try.
    pub(crate) async fn renew(&self, refused: &Bearer) -> io::Result<bool> {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|current| current.bearer.fetch != refused.fetch) {
            return Ok(true);
        }
        match self.source {
            TokenSource::None | TokenSource::Value(_) => Ok(false),
            TokenSource::File(_) => {
                Ok(self.fetch(&mut current).await?.header.as_bytes() != refused.header.as_bytes())
            }
            TokenSource::Command { .. } => self.fetch(&mut current).await.map(|_| true),
        }
    }

    async fn fetch(&self, current: &mut Option<Current>) -> io::Result<Bearer> {
        // Taken before the file is read, so that a change in between causes another read.
        let stamp = self.stamp().await?;
        let token = match &self.source {
            TokenSource::None => SecretString::default(),
            TokenSource::Value(token) => token.clone(),
            TokenSource::File(file) => {
                tokio::fs::read_to_string(file).await.map_err(|error| at(file, error))?.into()
            }
            TokenSource::Command { program, args } => {
                run(program, args).await.map_err(|error| at(program, error))?
            }
        };
        let fetch = current.as_ref().map_or(1, |current| current.bearer.fetch + 1);
        let bearer = Bearer { header: header(&token)?, fetch };
        *current = Some(Current { bearer: bearer.clone(), stamp });
        Ok(bearer)
    }

    async fn stamp(&self) -> io::Result<Option<Stamp>> {
        let TokenSource::File(file) = &self.source else { return Ok(None) };
        let metadata = tokio::fs::metadata(file).await.map_err(|error| at(file, error))?;
        Ok(Some((metadata.modified().ok(), metadata.len())))
    }
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Runs a command and returns its standard output. The command is killed if the future is dropped.
async fn run(program: &Path, args: &[String]) -> io::Result<SecretString> {
    let mut child = process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("has no standard output"))?;
    let work = async {
        let mut token = String::new();
        stdout.take(TOKEN_BYTES_MAX as u64 + 1).read_to_string(&mut token).await?;
        Ok::<_, io::Error>((SecretString::from(token), child.wait().await?))
    };
    let (token, status) = timeout(COMMAND_TIME_MAX, work)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "printed no token within 30 s"))??;
    // A command that prints too much loses its pipe and may fail because of that.
    if status.success() || token.expose_secret().len() > TOKEN_BYTES_MAX {
        Ok(token)
    } else {
        Err(io::Error::other(format!("failed with {status}")))
    }
}

/// Returns the token as a header. An error never shows the token.
fn header(token: &SecretString) -> io::Result<MetadataValue<Ascii>> {
    let token = token.expose_secret().trim();
    let invalid = |message| Err(io::Error::new(io::ErrorKind::InvalidData, message));
    if token.is_empty() {
        return invalid("the token is empty");
    }
    if token.len() > TOKEN_BYTES_MAX {
        return invalid("the token is longer than 16 KiB");
    }
    match MetadataValue::try_from(format!("Bearer {token}")) {
        Ok(mut header) => {
            header.set_sensitive(true);
            Ok(header)
        }
        Err(_) => invalid("the token contains characters that are not allowed in a header"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(tokens: &Tokens) -> String {
        tokens.bearer().await.unwrap().unwrap().header.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn without_a_source_no_token_is_sent() {
        assert!(Tokens::new(TokenSource::None).bearer().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_value_is_sent_and_cannot_be_renewed() {
        let tokens = Tokens::new(TokenSource::Value("t0ken\n".into()));
        assert_eq!(sent(&tokens).await, "Bearer t0ken");
        let refused = tokens.bearer().await.unwrap().unwrap();
        assert!(!tokens.renew(&refused).await.unwrap());
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "one").unwrap();
        let tokens = Tokens::new(TokenSource::File(file.clone()));
        assert_eq!(sent(&tokens).await, "Bearer one");

        let refused = tokens.bearer().await.unwrap().unwrap();
        assert!(!tokens.renew(&refused).await.unwrap(), "the same token is not tried again");

        std::fs::write(&file, "second").unwrap();
        assert_eq!(sent(&tokens).await, "Bearer second");
        assert!(tokens.renew(&refused).await.unwrap());
    }

    #[tokio::test]
    async fn a_command_runs_once_until_its_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let script = format!("echo run >> {0}; wc -l < {0}", runs.display());
        let args = vec!["-c".to_owned(), script];
        let tokens = Tokens::new(TokenSource::Command { program: "/bin/sh".into(), args });
        assert_eq!(sent(&tokens).await, "Bearer 1");
        assert_eq!(sent(&tokens).await, "Bearer 1");

        let refused = tokens.bearer().await.unwrap().unwrap();
        let (first, second) = tokio::join!(tokens.renew(&refused), tokens.renew(&refused));
        assert!(first.unwrap() && second.unwrap());
        assert_eq!(sent(&tokens).await, "Bearer 2", "two refused requests share one run");
    }

    #[tokio::test]
    async fn an_invalid_token_is_an_error_that_does_not_show_it() {
        for (output, message) in [
            ("echo", "the token is empty"),
            ("printf 'se\\001cret'", "characters that are not allowed in a header"),
            ("head -c 20000 /dev/zero | tr '\\0' x", "longer than 16 KiB"),
            ("echo secret; exit 3", "exit status: 3"),
        ] {
            let args = vec!["-c".to_owned(), output.to_owned()];
            let source = TokenSource::Command { program: "/bin/sh".into(), args };
            let error = Tokens::new(source).bearer().await.err().unwrap().to_string();
            assert!(error.contains(message), "{error}");
            assert!(!error.contains("cret"), "{error}");
        }
    }
}
