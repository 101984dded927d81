//! The secrets of the configuration, which are hidden wherever they stand.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{LazyLock, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};

use super::replaced;

/// The shortest secret that is looked for, in bytes. A shorter one would hide parts of words.
pub(super) const SECRET_BYTES_MIN: usize = 8;

/// The shortest secret that is hidden inside of a longer word, too, in bytes.
const SECRET_IN_WORD_BYTES_MIN: usize = 16;

/// The number of texts that are looked for. The oldest make room for new ones.
const TEXTS_MAX: usize = 4_096;

/// The secrets that the servers of this process have read.
static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);

#[derive(Default)]
struct Known {
    /// The secrets, and other forms in which they may stand in a text.
    texts: VecDeque<String>,
    search: Search,
}

#[derive(Default)]
enum Search {
    /// There is nothing to look for.
    #[default]
    Nothing,
    Texts(AhoCorasick),
    /// There is, and it cannot be looked for.
    Impossible,
}

/// Hides this secret from now on, wherever it stands, if it is not too short for that. The log is one for all
/// servers of a process, and so are the secrets that it must not have.
pub fn remember(secret: &str) {
    let secret = secret.trim();
    if secret.len() < SECRET_BYTES_MIN {
        return;
    }
    let is_known = |known: &Known| known.texts.iter().any(|text| text == secret);
    if is_known(&KNOWN.read().unwrap_or_else(PoisonError::into_inner)) {
        return;
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if is_known(&known) {
        return;
    }
    known.texts.extend(forms(secret));
    while known.texts.len() > TEXTS_MAX {
        known.texts.pop_front();
    }
    let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&known.texts);
    known.search = search.map_or(Search::Impossible, Search::Texts);
}

/// Returns a secret as it stands in plain text, and in JSON and URLs if that differs.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    let json = serde_json::to_string(secret).unwrap_or_default();
    let json = json.trim_matches('"').to_owned();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encoded = secret.bytes().map(|byte| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    let url: String = encoded.collect();
    let more = [json, url].into_iter().filter(|form| form.len() >= SECRET_BYTES_MIN);
    forms.extend(more.filter(|form| form != secret));
    forms.dedup();
    forms
}

/// Returns a text with the known secrets replaced, or `None` if they cannot be looked for.
pub(super) fn redacted(text: &str) -> Option<String> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    match &known.search {
        Search::Nothing => Some(text.to_owned()),
        Search::Impossible => None,
        Search::Texts(search) => {
            let found = search.find_iter(text).map(|found| found.range());
            Some(replaced(text, found.filter(|found| is_secret(text, found)).collect()))
        }
    }
}

/// Returns whether what was found is a secret, and not a part of another word.
fn is_secret(text: &str, found: &Range<usize>) -> bool {
    let is_of_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let before = text.get(..found.start).and_then(|before| before.chars().next_back());
    let after = text.get(found.end..).and_then(|after| after.chars().next());
    found.len() >= SECRET_IN_WORD_BYTES_MIN || !(is_of_word(before) || is_of_word(after))
}
