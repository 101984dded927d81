//! API keys: credentials for tenants, kept in a file as hashes.

mod api_key;
mod changes;
mod file;
mod last_use;
mod record;
mod verifier;
mod watch;

pub(in crate::auth) use api_key::KEY_PREFIX;
pub use api_key::{KeyId, KeyIdError};
pub use changes::{KeyChange, KeyObserver};
pub use file::{KeyFile, KeyFileError, KeyList, KeyOptions};
pub use last_use::LastUses;
pub use record::{KeyRecord, KeyState, NewKey};
pub use verifier::KeyVerifier;
pub(crate) use watch::KeyUpkeep;

#[cfg(test)]
mod tests;
