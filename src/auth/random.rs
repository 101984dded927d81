//! Random texts for credentials.

use rand::TryRng as _;
use rand::rngs::SysRng;

/// The error of an operating system that provides no random numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operating system provides no random numbers: {0}")]
pub struct RandomError(String);

/// Returns `N` random bytes in hexadecimal digits.
///
/// # Errors
///
/// The operating system provides no random numbers.
pub(super) fn random_hex<const N: usize>() -> Result<String, RandomError> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| RandomError(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_differ() {
        let texts = [random_hex::<32>().unwrap(), random_hex::<32>().unwrap()];
        assert!(texts[0] != texts[1] && texts.iter().all(|text| text.len() == 64));
    }
}
