//! The names of a server's tools among those of callpark.

use sha2::{Digest as _, Sha256};

use crate::tool::{PROVIDER_SEPARATOR, TOOL_NAME_BYTES_MAX, is_tool_name};

/// Returns the name of a server's tool. One that is too long or has other characters gets an alias,
/// which depends on the two names only.
pub(super) fn name_of(server: &str, own_name: &str) -> String {
    let prefix = format!("{server}{PROVIDER_SEPARATOR}");
    let name = format!("{prefix}{own_name}");
    if !own_name.is_empty() && is_tool_name(&name) {
        return name;
    }
    // Two names may differ only in what an alias leaves out.
    let hash: String =
        Sha256::digest(own_name).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let room = TOOL_NAME_BYTES_MAX.saturating_sub(prefix.len() + hash.len() + 1);
    let beginning: String = own_name.chars().map(plain).take(room).collect();
    format!("{prefix}{beginning}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_stays() {
        assert_eq!(name_of("files", "read.it_all-9"), "files__read.it_all-9");
        let longest = "x".repeat(TOOL_NAME_BYTES_MAX - 7);
        assert_eq!(name_of("files", &longest), format!("files__{longest}"));
    }

    #[test]
    fn other_names_have_valid_aliases_that_differ() {
        let server = "x".repeat(30);
        let long = "y".repeat(128);
        let names = ["user/update", "user:update", "", "ü", "a b", &long, &format!("{long}z")];
        let mut aliases: Vec<String> = names.iter().map(|name| name_of(&server, name)).collect();
        for alias in &aliases {
            assert!(is_tool_name(alias) && alias.starts_with(&server), "{alias}");
        }
        aliases.sort();
        aliases.dedup();
        assert_eq!(aliases.len(), names.len());
        assert_eq!(name_of("s", "user/update"), "s__user_update-736a6dc0");
    }
}
