//! Cases for texts, names, ids and labels.

use callpark_proto::v1::{self, content::Kind};
use prost::Message as _;
use tonic::Code;

use super::cases::{Case, Expected, HUGE, MANY, NAMED, case};
use super::encode::{delimited, entry};
use super::table::Rule;

const AS_GOOD: Expected = Expected::AsGood;
const TOOL_NOT_FOUND: Expected = Expected::Refused(Code::NotFound, "TOOL_NOT_FOUND");
const SESSION_NOT_FOUND: Expected = Expected::Refused(Code::NotFound, "SESSION_NOT_FOUND");
const TASK_NOT_FOUND: Expected = Expected::Refused(Code::NotFound, "TASK_NOT_FOUND");
const FOLLOW_UP_NOT_FOUND: Expected = Expected::Refused(Code::NotFound, "FOLLOW_UP_NOT_FOUND");
const PAGE_TOKEN_INVALID: Expected = Expected::Refused(Code::InvalidArgument, "PAGE_TOKEN_INVALID");
const EPOCH_MISMATCH: Expected = Expected::Refused(Code::OutOfRange, "STREAM_EPOCH_MISMATCH");

/// A well-formed id of nothing, without what stands before it.
const NOTHING: &str = "00000000000040008000000000000000";

/// All that is tried with a field of this rule.
pub fn cases(rule: Rule, at: u32) -> Vec<Case> {
    match rule {
        Rule::Session { required } => {
            let empty = if required { NAMED } else { AS_GOOD };
            id(at, "ses-", empty, SESSION_NOT_FOUND)
        }
        Rule::Beginning { kind } => {
            let mut cases = odd(at, AS_GOOD, NAMED);
            let text = |digits: &str| delimited(at, format!("{kind}{digits}").as_bytes());
            cases.extend([
                case("the kind alone", text(""), AS_GOOD),
                case("a digit", text("0"), AS_GOOD),
                case("a whole id", text(NOTHING), AS_GOOD),
                case("a digit too many", text(&format!("{NOTHING}0")), NAMED),
                case("capitals", text("AB"), NAMED),
                case("another kind", delimited(at, b"call-0"), NAMED),
            ]);
            cases
        }
        Rule::Task => id(at, "bg-", NAMED, TASK_NOT_FOUND),
        Rule::TaskOrCall => {
            let call = format!("call-{NOTHING}");
            let mut cases = id(at, "bg-", NAMED, TASK_NOT_FOUND);
            cases.push(case("unknown call", delimited(at, call.as_bytes()), TASK_NOT_FOUND));
            cases
        }
        Rule::FollowUp => id(at, "fu-", NAMED, FOLLOW_UP_NOT_FOUND),
        Rule::Tasks { count_max } => ids(at, count_max),
        Rule::RequestId => {
            let mut cases = odd(at, AS_GOOD, NAMED);
            let new = uuid::Uuid::new_v4().to_string();
            cases.push(case("short", delimited(at, &new.as_bytes()[1..]), NAMED));
            cases.push(case("new", delimited(at, new.as_bytes()), AS_GOOD));
            cases
        }
        Rule::Turn => id(at, "turn-", AS_GOOD, AS_GOOD),
        Rule::Prompt { bytes_max } => {
            let mut cases = odd(at, NAMED, AS_GOOD);
            cases.retain(|case| case.how != "huge");
            cases.extend(bound(at, "", bytes_max));
            cases
        }
        Rule::Attachments { count_max, bytes_max } => attachments(at, count_max, bytes_max),
        Rule::Tool => odd(at, NAMED, TOOL_NOT_FOUND),
        Rule::Tools { count_max } => tools(at, count_max),
        Rule::Text { bytes_max } => {
            let mut cases = odd(at, AS_GOOD, AS_GOOD);
            cases.retain(|case| case.how != "huge");
            cases.extend(bound(at, "", bytes_max));
            cases
        }
        Rule::Path { bytes_max } => {
            let mut cases = odd(at, AS_GOOD, NAMED);
            cases.extend(bound(at, "/", bytes_max));
            cases.push(case("NUL", delimited(at, b"/a\0b"), NAMED));
            cases.push(case("control characters", delimited(at, b"/\x1b[31m\r\n"), AS_GOOD));
            cases
        }
        Rule::PageToken => {
            let mut cases = odd(at, AS_GOOD, PAGE_TOKEN_INVALID);
            let digits = [b"7b7d".as_slice(), b"00", b"ff", b"+f", "é".as_bytes()];
            let made = digits.map(|text| case("digits", delimited(at, text), PAGE_TOKEN_INVALID));
            cases.extend(made);
            cases
        }
        Rule::Epoch => odd(at, AS_GOOD, EPOCH_MISMATCH),
        Rule::Labels => labels(at),
        other => panic!("{other:?} is no rule of texts"),
    }
}

/// Nothing, and texts that are there by mistake.
fn odd(at: u32, empty: Expected, other: Expected) -> Vec<Case> {
    vec![
        case("unset", Vec::new(), empty),
        case("empty", delimited(at, b""), empty),
        case("NUL", delimited(at, b"a\0b"), other),
        case("control characters", delimited(at, b"a\x01\x1b[31m\r\n\t\x7fb"), other),
        case("far from ASCII", delimited(at, "\u{1f980}\u{202e}\u{feff}".as_bytes()), other),
        case("huge", delimited(at, &[b'x'; HUGE]), other),
    ]
}

/// A text that begins so: at its bound, one over it, and far over it.
fn bound(at: u32, begin: &str, bytes_max: usize) -> Vec<Case> {
    let text = |bytes: usize| format!("{begin}{}", "x".repeat(bytes - begin.len())).into_bytes();
    let wide = format!("{begin}{}", "é".repeat(bytes_max / 2 + 1));
    vec![
        case("at the bound", delimited(at, &text(bytes_max)), AS_GOOD),
        case("one over the bound", delimited(at, &text(bytes_max + 1)), NAMED),
        case("over the bound in bytes alone", delimited(at, wide.as_bytes()), NAMED),
        case("huge", delimited(at, &text(HUGE)), NAMED),
    ]
}

fn attachments(at: u32, count_max: usize, bytes_max: usize) -> Vec<Case> {
    let content = |kind: Kind| {
        let content = v1::Content { kind: Some(kind), ..Default::default() };
        delimited(at, &content.encode_to_vec())
    };
    let text = |text: &str| content(Kind::Text(text.into()));
    let image = |media_type: &str| {
        let media_type = media_type.to_owned();
        content(Kind::Image(v1::Image { media_type, data: b"\0\xff"[..].into() }))
    };
    let binary = v1::Binary { media_type: "image/png".into(), data: b"x"[..].into() };
    let half = "x".repeat(bytes_max / 2);
    vec![
        case("none", Vec::new(), AS_GOOD),
        case("a text", text("a\0b\x1b[31m"), AS_GOOD),
        case("an image", image("image/png"), AS_GOOD),
        case("an image that is none", image("text/html"), NAMED),
        case("nothing in it", delimited(at, b""), NAMED),
        case("bytes", content(Kind::Binary(binary)), NAMED),
        case("at the bound", text("x").repeat(count_max), AS_GOOD),
        case("one over the bound", text("x").repeat(count_max + 1), NAMED),
        case("many", text("x").repeat(MANY), NAMED),
        case("at the bound in bytes", text(&half).repeat(2), AS_GOOD),
        case("over the bound in bytes", [text(&half).repeat(2), text("x")].concat(), NAMED),
    ]
}

fn id(at: u32, prefix: &str, empty: Expected, unknown: Expected) -> Vec<Case> {
    let text = |text: String| delimited(at, text.as_bytes());
    let upper = format!("{prefix}ABCDEF00000040008000000000000000");
    let mut cases = odd(at, empty, NAMED);
    cases.extend([
        case("unknown", text(format!("{prefix}{NOTHING}")), unknown),
        case("a digit short", text(format!("{prefix}{}", &NOTHING[1..])), NAMED),
        case("a digit long", text(format!("{prefix}{NOTHING}0")), NAMED),
        case("upper case", text(upper), NAMED),
        case("a space behind", text(format!("{prefix}{NOTHING} ")), NAMED),
        case("nothing before it", text(NOTHING.into()), NAMED),
    ]);
    cases
}

fn ids(at: u32, count_max: usize) -> Vec<Case> {
    let one = delimited(at, format!("bg-{NOTHING}").as_bytes());
    let mut cases = id(at, "bg-", NAMED, TASK_NOT_FOUND);
    let wrong_behind = [one.as_slice(), &delimited(at, b"wrong")].concat();
    cases.extend([
        case("at the bound", one.repeat(count_max), TASK_NOT_FOUND),
        case("one over the bound", one.repeat(count_max + 1), NAMED),
        case("many", one.repeat(MANY), NAMED),
        case("as many wrong ones as fit", delimited(at, &[b'x'; 10_000]).repeat(count_max), NAMED),
        case("many empty ones", delimited(at, b"").repeat(MANY), NAMED),
        case("a wrong one behind a right one", wrong_behind, NAMED),
    ]);
    cases
}

fn tools(at: u32, count_max: usize) -> Vec<Case> {
    let names = |count: usize| -> Vec<u8> {
        (0..count).flat_map(|n| delimited(at, format!("t{n}").as_bytes())).collect()
    };
    let mut cases = odd(at, TOOL_NOT_FOUND, TOOL_NOT_FOUND);
    cases.retain(|case| case.how != "unset");
    cases.extend([
        case("none", Vec::new(), AS_GOOD),
        case("one name many times", delimited(at, b"bash").repeat(MANY), AS_GOOD),
        case("unknown ones at the bound", names(count_max), TOOL_NOT_FOUND),
        case("one over the bound", names(count_max + 1), NAMED),
        case("many", names(MANY), NAMED),
    ]);
    cases
}

fn labels(at: u32) -> Vec<Case> {
    let numbered = |count: usize| -> Vec<u8> {
        (0..count).flat_map(|n| entry(at, n.to_string().as_bytes(), b"")).collect()
    };
    let one = |key: &[u8], value: &[u8]| entry(at, key, value);
    vec![
        case("none", Vec::new(), AS_GOOD),
        case("NUL", one(b"a\0b", b"c\0d"), AS_GOOD),
        case("control characters", one(b"\x1b[31m", b"\r\n\x7f"), AS_GOOD),
        case("an empty value", one(b"key", b""), AS_GOOD),
        case("an empty key", one(b"", b"value"), NAMED),
        case("an empty entry", delimited(at, b""), NAMED),
        case("a key at the bound", one(&[b'k'; 63], b""), AS_GOOD),
        case("a key one over the bound", one(&[b'k'; 64], b""), NAMED),
        case("a huge key", one(&[b'k'; HUGE], b""), NAMED),
        case("a value at the bound", one(b"key", &[b'v'; 255]), AS_GOOD),
        case("a value one over the bound", one(b"key", &[b'v'; 256]), NAMED),
        case("a huge value", one(b"key", &[b'v'; HUGE]), NAMED),
        case("as many as fit", numbered(64), AS_GOOD),
        case("one more than fit", numbered(65), NAMED),
        case("many", numbered(MANY), NAMED),
        case("one key many times", one(b"key", b"value").repeat(MANY), AS_GOOD),
    ]
}
