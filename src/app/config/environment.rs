//! The environment, captured once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The variables of the process as they were at its start: the only place where they are read.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The variables of this process. Those whose names aren't UTF-8 are left out.
    pub fn capture() -> Self {
        let named = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        Self(std::env::vars_os().filter_map(named).collect())
    }

    /// The value of a variable. One that is empty counts as not set, as does one that isn't
    /// UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().filter(|value| !value.is_empty())
    }

    /// The variables of these names, as far as they are set and UTF-8.
    pub fn pick(
        &self,
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> BTreeMap<String, String> {
        let named = |name: &str| Some((name.to_owned(), self.0.get(name)?.to_str()?.to_owned()));
        names.into_iter().filter_map(|name| named(name.as_ref())).collect()
    }

    /// What tools may be allowed to see: every variable that is UTF-8, but for those of callpark,
    /// of which one is a token.
    pub fn for_tools(&self) -> BTreeMap<String, String> {
        let all = self.0.iter().filter(|(name, _)| !name.starts_with("CALLPARK_"));
        let readable =
            all.filter_map(|(name, value)| Some((name.clone(), value.to_str()?.to_owned())));
        readable.collect()
    }

    pub(super) fn is_readable(&self, name: &str) -> bool {
        self.0.get(name).is_none_or(|value| value.to_str().is_some())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A folder of the user's by the convention of XDG: an absolute path in `variable`, else
    /// `fallback` in the home folder.
    pub(super) fn xdg(&self, variable: &str, fallback: &str) -> Option<PathBuf> {
        let named = self.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| Some(PathBuf::from(self.get("HOME")?).join(fallback)))
    }
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    /// The number of variables only: there are secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}
