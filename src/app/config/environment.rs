//! The environment variables of the process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The variables of a service manager that are for its service alone: a process of a tool that used
/// them would speak for the server.
const OF_THE_MANAGER: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// Environment variables, usually those of the process.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Captures the variables of this process. Those whose names are not UTF-8 are left out.
    pub fn capture() -> Self {
        let named = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        Self(std::env::vars_os().filter_map(named).collect())
    }

    /// Returns the path of the program that this process runs, if it is known.
    pub fn program() -> Option<PathBuf> {
        std::env::current_exe().ok()
    }

    /// Returns a path by which this process can start its own program once more, also after the file of
    /// the program was replaced.
    #[cfg(feature = "cli")]
    pub(crate) fn own_program() -> PathBuf {
        PathBuf::from("/proc/self/exe")
    }

    /// Returns the words of the command line of this process.
    #[cfg(feature = "cli")]
    pub(crate) fn words() -> Vec<OsString> {
        std::env::args_os().collect()
    }

    /// Returns the value of a variable, or `None` if it is not set, empty, or not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().filter(|value| !value.is_empty())
    }

    /// Returns the variables of these names that are set and UTF-8.
    pub fn pick(
        &self,
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> BTreeMap<String, String> {
        let named = |name: &str| Some((name.to_owned(), self.0.get(name)?.to_str()?.to_owned()));
        names.into_iter().filter_map(|name| named(name.as_ref())).collect()
    }

    /// Returns the variables that tools may be allowed to see: all that are UTF-8, except those of
    /// callpark, of which one is a token, and those with which the service manager talks to the server.
    pub fn for_tools(&self) -> BTreeMap<String, String> {
        let is_own = |name: &str| name.starts_with("CALLPARK_") || OF_THE_MANAGER.contains(&name);
        let all = self.0.iter().filter(|(name, _)| !is_own(name));
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

    /// Returns a folder of the user by the convention of XDG: an absolute path in `variable`, else
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
    /// Writes the number of variables only: there are secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}
