//! Secrets that are known by their form.

use std::ops::Range;
use std::sync::LazyLock;

use regex::{Regex, RegexSet};

/// The forms, each with the group that is the secret. Borders of words are those of ASCII: others make a search
/// slow.
const SHAPES: &[(&str, usize)] = &[
    // PEM, also where it has no end. Certificates and public keys are no secrets.
    (
        r"(?s)-----BEGIN ([A-Z0-9 ]*PRIVATE KEY[A-Z ]*|PGP MESSAGE)-----.*?(-----END [A-Z0-9 ]+-----|\z)",
        0,
    ),
    // A JSON Web Token, signed or encrypted.
    (r"eyJ[A-Za-z0-9_-]{4,}(\.[A-Za-z0-9_-]*){1,4}", 0),
    // The user and the password in a URL.
    (r#"(?i)(?-u:\b)[a-z][a-z0-9+.-]*://([^\s/?#"'<>`\\]+)@"#, 1),
    // Tokens of widespread services.
    (r"(?-u:\b)[spr]k-[A-Za-z0-9_-]{16,}", 0),
    (r"(?-u:\b)[sr]k_(live|test)_[A-Za-z0-9]{10,}", 0),
    (r"gh[pousr]_[A-Za-z0-9]{20,}", 0),
    (r"github_pat_[A-Za-z0-9_]{20,}", 0),
    (r"gl(pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_.-]{16,}", 0),
    (r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}", 0),
    (r"(AKIA|ASIA)[A-Z0-9]{16}", 0),
    (r"AIza[A-Za-z0-9_-]{30,}", 0),
    (r"ya29\.[A-Za-z0-9_-]{20,}", 0),
    (r"(?-u:\b)(npm|hf|gsk|dop_v1|doo_v1|shpat|figd|lin_api|r8|pplx|tvly)_[A-Za-z0-9]{16,}", 0),
    (r"(?-u:\b)(nvapi|xai|pplx|tvly|pypi|dckr_pat|sntrys|whsec)[-_][A-Za-z0-9_-]{16,}", 0),
    (r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", 0),
    (r"AGE-SECRET-KEY-1[A-Z0-9]{20,}", 0),
    // A key of callpark, of which the beginning is its public id.
    (r"cpk_[0-9a-f]{12}(_[A-Za-z0-9_-]{8,})", 1),
];

/// Credentials behind the name of their scheme.
const SCHEME: &str = r#"(?i)(?-u:\b)(bearer|basic)[ \t]+(?:["'`]?)([A-Za-z0-9._~+/=:!$%&*@#^-]+)"#;

/// Words that follow the name of a scheme in a sentence.
const NO_CREDENTIALS: &[&str] = &[
    "auth",
    "authentication",
    "authorization",
    "credentials",
    "realm",
    "scheme",
    "token",
    "tokens",
];

/// The expressions, or `None` if there is an error in one of them.
static COMPILED: LazyLock<Option<Compiled>> = LazyLock::new(|| {
    let shapes = SHAPES.iter().map(|(shape, group)| Regex::new(shape).map(|regex| (regex, *group)));
    let all = RegexSet::new(SHAPES.iter().map(|(shape, _)| shape)).ok()?;
    let shapes = shapes.collect::<Result<_, _>>().ok()?;
    Some(Compiled { all, shapes, scheme: Regex::new(SCHEME).ok()? })
});

struct Compiled {
    /// Finds in one pass which of the forms a text has. Most have none.
    all: RegexSet,
    shapes: Vec<(Regex, usize)>,
    scheme: Regex,
}

/// Returns the secrets in a text, or `None` if it cannot be searched.
pub(super) fn find(text: &str) -> Option<Vec<Range<usize>>> {
    let Compiled { all, shapes, scheme } = COMPILED.as_ref()?;
    let mut found = Vec::new();
    for (shape, group) in all.matches(text).iter().filter_map(|index| shapes.get(index)) {
        let captures = shape.captures_iter(text);
        found.extend(captures.filter_map(|captures| Some(captures.get(*group)?.range())));
    }
    for captures in scheme.captures_iter(text) {
        let (Some(name), Some(value)) = (captures.get(1), captures.get(2)) else { continue };
        let is_bearer = name.as_str().eq_ignore_ascii_case("bearer");
        if is_credential(value.as_str(), is_bearer) {
            found.push(value.range());
        }
    }
    Some(found)
}

/// Returns whether the word behind the name of a scheme is a credential, and not one of a sentence. Basic is
/// also an adjective, and its credentials are base64, which has more than small letters.
fn is_credential(word: &str, is_bearer: bool) -> bool {
    let bare = word.trim_end_matches(['.', ':', '!']);
    let is_word = NO_CREDENTIALS.iter().any(|known| known.eq_ignore_ascii_case(bare));
    let is_plain = bare.bytes().all(|byte| byte.is_ascii_lowercase());
    !is_word && !bare.is_empty() && (is_bearer || !is_plain)
}
