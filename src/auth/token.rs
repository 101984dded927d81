//! Access with one token, which stands for the tenant `local`.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::keys::KEY_PREFIX;
use super::ownership::{GuardedFile, OwnershipError};
use super::random::{RandomError, random_hex};
use super::{AuthError, Caller, Credentials, Verifier};
use crate::model::{Principal, Scopes, Tenant};

/// The tenant and the name of every caller with the token.
const LOCAL: &str = "local";
/// The number of random bytes in a new token: 256 bits.
const TOKEN_RANDOM_BYTES: usize = 32;
/// The shortest token in a file, in characters.
const TOKEN_CHARACTERS_MIN: usize = 32;
/// The largest token file, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 4 * 1024;

/// The error of a token that could not be loaded or created.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file could not be read or written.
    #[error("the token file {path} cannot be {action}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// The action that failed: `created` or `read`.
        action: &'static str,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// Other users could have read the file.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The content of the file is not a token.
    #[error(
        "the token file {path} {reason}: delete it, and the server writes a new one, or write a \
         token of at least {TOKEN_CHARACTERS_MIN} characters into it, such as the output of \
         `openssl rand -hex 32`"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// A description of the problem.
        reason: &'static str,
    },
    /// The operating system provided no random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The file with the token of the server.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
    token: SecretString,
}

impl TokenFile {
    /// Reads the token, or creates the file with a new one. Servers that do so at the same time all
    /// read the same token.
    ///
    /// The file and the directories that are created for it are accessible only to this user.
    ///
    /// # Errors
    ///
    /// Returns an error that describes the problem with the file and how to solve it. An existing file is
    /// never changed.
    pub fn load_or_create(path: impl Into<PathBuf>) -> Result<Self, TokenError> {
        let path = path.into();
        if let Some(token) = read(&path)? {
            return Ok(Self { path, token });
        }
        create(&path)?;
        match read(&path)? {
            Some(token) => Ok(Self { path, token }),
            None => {
                let cause = ErrorKind::NotFound.into();
                Err(TokenError::File { path, action: "read", cause })
            }
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the token, without the white space around it.
    pub fn token(&self) -> &SecretString {
        &self.token
    }
}

/// Accepts every caller with the token, and refuses every other one that sends a token.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    token: SecretString,
    principal: Principal,
}

impl TokenVerifier {
    /// Creates a verifier of this token.
    pub fn new(token: SecretString) -> Self {
        let principal =
            Principal { tenant: Tenant::new(LOCAL), name: LOCAL.into(), scopes: Scopes::ALL };
        Self { token, principal }
    }
}

impl Verifier for TokenVerifier {
    /// Compares tokens in constant time, so that the time reveals only the length of the token.
    fn verify(&self, credentials: &Credentials<'_>) -> Option<Result<Caller, AuthError>> {
        let token = credentials.bearer()?;
        let expected = self.token.expose_secret();
        // An empty token would accept a bare `Bearer`.
        let is_equal =
            !expected.is_empty() && bool::from(token.as_bytes().ct_eq(expected.as_bytes()));
        let caller = is_equal.then(|| Caller::unlimited(self.principal.clone()));
        Some(caller.ok_or(AuthError::Invalid))
    }
}

/// Reads the token in the file, or returns `None` if there is no file.
fn read(path: &Path) -> Result<Option<SecretString>, TokenError> {
    let failed = |cause| TokenError::File { path: path.to_owned(), action: "read", cause };
    // A named pipe in place of the file must not block the start of the server.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let unusable = |reason| TokenError::Unusable { path: path.to_owned(), reason };
    // Checks the opened file, because the path may name another one by now.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(unusable("is not a regular file"));
    }
    GuardedFile::Token.check(path, &metadata)?;
    let mut text = String::new();
    match file.take(TOKEN_FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > TOKEN_FILE_BYTES_MAX => Err(unusable("is too long")),
        Ok(_) => check(&text).map_err(unusable).map(Some),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(unusable("is not text")),
        Err(error) => Err(failed(error)),
    }
}

fn check(text: &str) -> Result<SecretString, &'static str> {
    let token = text.trim();
    if token.is_empty() {
        return Err("is empty");
    }
    if token.len() < TOKEN_CHARACTERS_MIN {
        return Err("holds a token that is too short to be safe");
    }
    if token.starts_with(KEY_PREFIX) {
        return Err("holds an API key, which is for a caller");
    }
    // Only these characters are safe in a header.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds spaces or characters that are not allowed in a token");
    }
    Ok(SecretString::from(token))
}

/// Creates the file with a new token, unless another process has created it.
fn create(path: &Path) -> Result<(), TokenError> {
    let failed = |cause| TokenError::File { path: path.to_owned(), action: "created", cause };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let token = random_hex::<TOKEN_RANDOM_BYTES>()?;
    let draft = tempfile::Builder::new()
        .prefix(".token-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(failed)?;
    writeln!(draft.as_file(), "{token}").map_err(failed)?;
    draft.as_file().sync_all().map_err(failed)?;
    // The file appears complete, and never replaces another one.
    match draft.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn token_file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn verify(
        verifier: &TokenVerifier,
        authorization: Option<&str>,
    ) -> Option<Result<Principal, AuthError>> {
        let verified = verifier.verify(&Credentials { authorization, ..Credentials::default() });
        verified.map(|verified| verified.map(|caller| caller.principal))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_token_is_private_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/callpark/token");
        let made = TokenFile::load_or_create(&path).unwrap();
        assert_eq!(made.token().expose_secret().len(), 64);
        assert_eq!(made.path(), path);
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(mode(path.parent().unwrap().parent().unwrap()), 0o700);
        let read = TokenFile::load_or_create(&path).unwrap();
        assert_eq!(read.token().expose_secret(), made.token().expose_secret());
        let entries = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(entries, 1, "a draft is left");
    }

    #[test]
    fn servers_that_start_together_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/token");
        let tokens: Vec<String> = std::thread::scope(|scope| {
            let load = || TokenFile::load_or_create(&path).unwrap();
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(load)).collect();
            let files = threads.into_iter().map(|thread| thread.join().unwrap());
            files.map(|file| file.token().expose_secret().to_owned()).collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0]));
    }

    #[test]
    fn an_existing_token_is_used() {
        for mode in [0o600, 0o400] {
            let (_folder, path) = token_file(format!(" {TOKEN}\n").as_bytes(), mode);
            let file = TokenFile::load_or_create(&path).unwrap();
            assert_eq!(file.token().expose_secret(), TOKEN);
        }
    }

    #[test]
    fn a_file_that_others_can_use_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o602, 0o644] {
            let (_folder, path) = token_file(TOKEN.as_bytes(), mode);
            let error = TokenFile::load_or_create(&path).unwrap_err();
            assert!(matches!(error, TokenError::Ownership(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains(&format!("{mode:04o}")) && text.contains("chmod 600"), "{text}");
        }
    }

    #[test]
    fn a_file_without_a_good_token_is_refused_and_kept() {
        let contents: [&[u8]; 7] = [
            b"",
            b" \n",
            b"short",
            b"\xff\xfe",
            &[b'x'; 5000],
            b"cpk_4be0643f1d98_0123456789abcdef0123456789abcdef",
            b"two words that are long enough 123",
        ];
        for content in contents {
            let (_folder, path) = token_file(content, 0o600);
            let error = TokenFile::load_or_create(&path).unwrap_err();
            assert!(matches!(error, TokenError::Unusable { .. }), "{error}");
            assert!(!error.to_string().contains("two words"));
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(TokenFile::load_or_create(folder.path()).is_err());
        let error = TokenFile::load_or_create("/proc/nothing/token").unwrap_err();
        assert!(error.to_string().contains("/proc/nothing/token cannot be created"), "{error}");
    }

    #[test]
    fn only_the_token_is_accepted() {
        let verifier = TokenVerifier::new(SecretString::from(TOKEN));
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
            let principal = verify(&verifier, Some(&format!("{scheme} {TOKEN}"))).unwrap().unwrap();
            assert_eq!((principal.tenant.as_str(), &*principal.name), ("local", "local"));
        }
        for missing in [None, Some(""), Some(" ")] {
            assert_eq!(verify(&verifier, missing), None);
        }
        let upper = TOKEN.to_uppercase();
        for wrong in ["", &TOKEN[1..], &upper, &format!("{TOKEN}0"), "ü", &format!("{TOKEN} x")] {
            let refused = verify(&verifier, Some(&format!("Bearer {wrong}")));
            assert_eq!(refused, Some(Err(AuthError::Invalid)), "{wrong}");
        }
        for other in [TOKEN.to_owned(), format!("Basic {TOKEN}"), "Bearer".to_owned()] {
            assert_eq!(verify(&verifier, Some(&other)), None, "{other}");
        }
    }

    #[test]
    fn an_empty_token_is_never_accepted() {
        let verifier = TokenVerifier::new(SecretString::from(""));
        assert_ne!(verify(&verifier, Some("Bearer ")), None);
        assert!(!matches!(verify(&verifier, Some("Bearer ")), Some(Ok(_))));
    }

    #[test]
    fn debug_output_hides_the_token() {
        let (_folder, path) = token_file(TOKEN.as_bytes(), 0o600);
        let file = TokenFile::load_or_create(&path).unwrap();
        let verifier = TokenVerifier::new(file.token().clone());
        let printed = format!("{file:?} {verifier:?}");
        assert!(!printed.contains(TOKEN), "{printed}");
    }
}
