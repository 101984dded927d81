//! The bearer token of a server at a URL.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A token in a file, or none. It is read at each start, and when the server refuses the one before.
pub(super) struct Token {
    file: Option<PathBuf>,
    value: Mutex<Option<String>>,
}

impl Token {
    /// Reads the token from a file, if there is one. The error is the end of a sentence.
    pub(super) async fn read(file: Option<PathBuf>) -> Result<Self, String> {
        let value = match &file {
            Some(file) => Some(read_file(file).await?),
            None => None,
        };
        Ok(Self { file, value: Mutex::new(value) })
    }

    pub(super) fn get(&self) -> Option<String> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the token again, unless another request has done so since it took the one that was
    /// refused. Returns `true` if there is another token now.
    pub(super) async fn renew(&self, refused: Option<&str>) -> bool {
        let Some(file) = &self.file else { return false };
        if self.get().as_deref() != refused {
            return true;
        }
        let Ok(new) = read_file(file).await else { return false };
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        // A token that was stored meanwhile may be newer than the one read here.
        if value.as_deref() == refused {
            *value = Some(new);
        }
        value.as_deref() != refused
    }
}

async fn read_file(file: &std::path::Path) -> Result<String, String> {
    let token = tokio::fs::read_to_string(file).await;
    let token = token.map_err(|error| format!("its token_file {}: {error}", file.display()))?;
    match token.trim() {
        "" => Err(format!("its token_file {} is empty", file.display())),
        token => {
            crate::redact::remember(token);
            Ok(token.to_owned())
        }
    }
}
