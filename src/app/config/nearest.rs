//! Suggestions for misspelled names.

/// The most names that are suggested.
const NAMES_MAX: usize = 3;

/// Returns the names closest to `given`, the closest first, or none if no name is similar. The case,
/// and `-` or `_`, make no difference.
pub(super) fn nearest(
    given: &str,
    names: impl IntoIterator<Item = &'static str>,
) -> Vec<&'static str> {
    let given = plain(given);
    let mut close: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let candidate = plain(name);
            let distance = distance(&given, &candidate);
            let is_part = given.len() > 2 && contains(&candidate, &given);
            (distance <= given.len().max(3) / 3 || is_part).then_some((distance, name))
        })
        .collect();
    close.sort();
    close.into_iter().take(NAMES_MAX).map(|(_, name)| name).collect()
}

/// Returns at most 64 characters of a name: a longer one is no misspelling, and would only cost time.
fn plain(name: &str) -> Vec<char> {
    let letter = |c: char| if c == '-' { '_' } else { c.to_ascii_lowercase() };
    name.chars().take(64).map(letter).collect()
}

fn contains(whole: &[char], part: &[char]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// Returns the number of characters that must be added, removed or replaced to turn one into the other
/// (Levenshtein distance).
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
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
