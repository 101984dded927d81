//! Suggestions for misspelled names.

/// The most names that are suggested.
const NAMES_MAX: usize = 3;

/// Returns the names closest to `given`, the closest first, or none if no name is similar. The case,
/// and `-` or `_`, make no difference.
pub(crate) fn nearest<'n>(given: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let given = plain(given);
    let length = given.chars().count();
    let mut close: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let candidate = plain(name);
            let distance = strsim::osa_distance(&given, &candidate);
            let is_part = length > 2 && candidate.contains(&given);
            (distance <= length.max(3) / 3 || is_part).then_some((distance, name))
        })
        .collect();
    close.sort();
    close.into_iter().take(NAMES_MAX).map(|(_, name)| name).collect()
}

/// Returns at most 64 characters of a name: a longer one is no misspelling, and would only cost time.
fn plain(name: &str) -> String {
    let letter = |c: char| if c == '-' { '_' } else { c.to_ascii_lowercase() };
    name.chars().take(64).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["data_dir", "drain", "output_drain", "listen"];

    #[test]
    fn a_misspelling_finds_its_name() {
        assert_eq!(nearest("data-dir", NAMES), ["data_dir"]);
        assert_eq!(nearest("lisen", NAMES), ["listen"]);
        assert_eq!(nearest("dran", NAMES), ["drain"]);
    }

    #[test]
    fn a_part_finds_all_that_hold_it() {
        assert_eq!(nearest("drain", NAMES), ["drain", "output_drain"]);
    }

    #[test]
    fn nothing_like_it_finds_nothing() {
        assert!(nearest("workers", NAMES).is_empty());
        assert!(nearest("", NAMES).is_empty());
    }
}
