//! The rights of callers.

use std::fmt;
use std::str::FromStr;

use super::enum_table;

enum_table! {
    /// A right of a caller. Each RPC requires one of them.
    pub enum Scope {
        /// Sees sessions, tasks, output, events and tools.
        Read => "read",
        /// Runs tools and turns, and creates and changes sessions.
        Run => "run",
        /// Cancels and deletes tasks, cancels turns and closes sessions.
        Cancel => "cancel",
        /// Leases, acknowledges and retries follow-ups.
        FollowUp => "follow_up",
        /// Sees the processes of the server.
        Admin => "admin",
    }
}

/// The error of a text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope `{0}`: the scopes are {all}", all = Scopes::ALL)]
pub struct ScopeError(pub String);

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::from_label(text).ok_or_else(|| ScopeError(text.to_owned()))
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// All scopes.
    pub const ALL: Self = Self((1 << Scope::ALL.len()) - 1);

    /// Returns whether the set has this scope.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u8 != 0
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the scopes of the set, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

/// The labels of the scopes, with commas between them.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{scope}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_scopes_that_were_put_in() {
        let some: Scopes = [Scope::Cancel, Scope::Read, Scope::Read].into_iter().collect();
        for scope in Scope::ALL {
            assert_eq!(some.contains(*scope), matches!(scope, Scope::Read | Scope::Cancel));
            assert!(Scopes::ALL.contains(*scope) && !Scopes::default().contains(*scope));
        }
        assert_eq!(some.to_string(), "read, cancel");
        assert_eq!(Scopes::ALL.iter().collect::<Scopes>(), Scopes::ALL);
    }

    #[test]
    fn a_scope_is_named_as_it_is_shown() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(*scope));
        }
        let error = "write".parse::<Scope>().unwrap_err().to_string();
        let all = "read, run, cancel, follow_up, admin";
        assert_eq!(error, format!("there is no scope `write`: the scopes are {all}"));
    }
}
