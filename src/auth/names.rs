//! The rule for the names of tenants and callers.

/// The longest name of a tenant or of a caller, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Checks the name of a tenant or of a caller, which stands in logs, metrics and records.
///
/// # Errors
///
/// The name is empty, too long, or has other characters than letters, digits and `. _ - @`.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(format!(
        "the {what} must have 1 to {NAME_BYTES_MAX} characters, which are letters of ASCII, digits, or \
         one of . _ - @"
    ))
}
