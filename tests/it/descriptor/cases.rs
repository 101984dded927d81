//! Cases that are tried with a field, and the answers that are expected.

use prost_reflect::{FieldDescriptor, Kind};
use tonic::Code;

use super::encode::{delimited, double, entry, float, moment, varint};
use super::structs;
use super::table::Rule;
use super::targets::{Place, Target};
use super::texts;

/// One thing that is tried with a field.
#[derive(Debug)]
pub struct Case {
    /// A description for people.
    pub how: &'static str,
    /// The field as it goes over the wire; nothing when it is left out.
    pub bytes: Vec<u8>,
    /// The expected answer.
    pub expected: Expected,
}

/// The expected answer to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expected {
    /// As the good request is.
    AsGood,
    /// With this code and reason; INVALID_ARGUMENT names the field as well.
    Refused(Code, &'static str),
    /// INVALID_ARGUMENT, and the text names the field.
    Undecodable,
    /// INVALID_ARGUMENT, and the text says that the message is nested too deep to be read.
    TooDeep,
    /// RESOURCE_EXHAUSTED for the request or INVALID_ARGUMENT for the field, and the text says that it
    /// is too large.
    TooLarge,
}

/// INVALID_ARGUMENT that names the field.
pub const NAMED: Expected = Expected::Refused(Code::InvalidArgument, "INVALID_FIELD");

/// A size that no field takes, and that is far below the bound of a whole request.
pub const HUGE: usize = 1 << 20;

/// A count that no repeated field was made for.
pub const MANY: usize = 5_000;

const AS_GOOD: Expected = Expected::AsGood;
const SEQUENCE_AHEAD: Expected = Expected::Refused(Code::OutOfRange, "SEQUENCE_AHEAD");

/// A case.
pub fn case(how: &'static str, bytes: Vec<u8>, expected: Expected) -> Case {
    Case { how, bytes, expected }
}

/// All that is tried with a target.
pub fn cases(target: &Target) -> Vec<Case> {
    let Place::Field(field) = &target.place else {
        let expected = match target.rule {
            Rule::OneOf { required: true } => NAMED,
            _ => AS_GOOD,
        };
        return vec![case("unset", Vec::new(), expected)];
    };
    let mut cases = of_rule(target.rule, field);
    cases.extend(undecodable(field));
    cases
}

fn of_rule(rule: Rule, field: &FieldDescriptor) -> Vec<Case> {
    let at = field.number();
    match rule {
        Rule::Session { .. }
        | Rule::Beginning { .. }
        | Rule::Task
        | Rule::TaskOrCall
        | Rule::FollowUp
        | Rule::Tasks { .. }
        | Rule::RequestId
        | Rule::Turn
        | Rule::Prompt { .. }
        | Rule::Attachments { .. }
        | Rule::Tool
        | Rule::Tools { .. }
        | Rule::Text { .. }
        | Rule::Path { .. }
        | Rule::PageToken
        | Rule::Epoch
        | Rule::Labels => texts::cases(rule, at),
        Rule::Arguments => structs::cases(at),
        Rule::Bytes { bytes_max } => bytes(at, bytes_max),
        Rule::Whole { min, max } => whole(field, min, max),
        Rule::Amount => amount(at),
        Rule::Sequence => vec![
            case("unset", Vec::new(), AS_GOOD),
            case("zero", varint(at, 0), AS_GOOD),
            case("negative", varint(at, -1), NAMED),
            case("lowest", varint(at, i64::MIN), NAMED),
            case("ahead", varint(at, i64::MAX), SEQUENCE_AHEAD),
        ],
        Rule::Span { positive, seconds_max } => span(at, positive, seconds_max),
        Rule::Wait => moments(at, &[AS_GOOD; 8]),
        Rule::Poll => vec![
            case("zero", delimited(at, &moment(0, 0)), AS_GOOD),
            case("negative", delimited(at, &moment(-1, 0)), AS_GOOD),
        ],
        Rule::Resource => vec![case("empty", delimited(at, b""), NAMED)],
        Rule::Mask => vec![
            case("unset", Vec::new(), NAMED),
            case("empty", delimited(at, b""), NAMED),
            case("a field that cannot be set", delimited(at, b"\x0a\x05state"), NAMED),
            case("no field", delimited(at, b"\x0a\x03abc"), NAMED),
        ],
        Rule::Optional => vec![case("empty", delimited(at, b""), AS_GOOD)],
        // A oneof isn't a field.
        Rule::Opaque | Rule::OneOf { .. } => vec![case("unset", Vec::new(), AS_GOOD)],
        Rule::Time => {
            // Before 1970, and with nanos that say more than the seconds, but never below zero.
            moments(at, &[AS_GOOD, AS_GOOD, NAMED, NAMED, NAMED, NAMED, NAMED, NAMED])
        }
        Rule::Choice { required } => choice(field, required),
        Rule::Choices => choices(field),
        Rule::Flag => {
            vec![case("no", varint(at, 0), AS_GOOD), case("yes", varint(at, 1), AS_GOOD)]
        }
        Rule::Fields => vec![case("empty", delimited(at, b""), NAMED)],
        Rule::Zero => {
            let value = |number| match field.kind() {
                Kind::Message(_) => delimited(at, &moment(number, 0)),
                _ => varint(at, number),
            };
            vec![case("zero", value(0), AS_GOOD), case("one", value(1), NAMED)]
        }
    }
}

fn bytes(at: u32, bytes_max: usize) -> Vec<Case> {
    vec![
        case("unset", Vec::new(), AS_GOOD),
        case("no text", delimited(at, b"\0\xff\xfe"), AS_GOOD),
        case("at the bound", delimited(at, &vec![b'x'; bytes_max]), AS_GOOD),
        case("one above the bound", delimited(at, &vec![b'x'; bytes_max + 1]), NAMED),
    ]
}

fn amount(at: u32) -> Vec<Case> {
    vec![
        case("zero", double(at, 0.0), AS_GOOD),
        case("negative", double(at, -0.1), NAMED),
        case("not a number", double(at, f64::NAN), NAMED),
        case("infinite", double(at, f64::INFINITY), NAMED),
    ]
}

fn whole(field: &FieldDescriptor, min: i64, max: Option<i64>) -> Vec<Case> {
    let at = field.number();
    let (lowest, highest) = match field.kind() {
        Kind::Int32 => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    };
    let above = max.map_or(AS_GOOD, |_| NAMED);
    let mut cases = vec![
        case("unset", Vec::new(), AS_GOOD),
        case("at the lower bound", varint(at, min), AS_GOOD),
        case("one below the lower bound", varint(at, min - 1), NAMED),
        case("lowest", varint(at, lowest), NAMED),
        case("highest", varint(at, highest), above),
    ];
    if let Some(max) = max {
        cases.push(case("at the upper bound", varint(at, max), AS_GOOD));
        cases.push(case("one over the upper bound", varint(at, max + 1), NAMED));
    }
    cases
}

fn span(at: u32, positive: bool, seconds_max: i64) -> Vec<Case> {
    let zero = if positive { NAMED } else { AS_GOOD };
    let mut cases = moments(at, &[zero, NAMED, NAMED, NAMED, NAMED, NAMED, NAMED, NAMED]);
    let span = |seconds: i64, nanos: i64| delimited(at, &moment(seconds, nanos));
    cases.extend([
        case("shortest", span(0, 1), AS_GOOD),
        case("at the upper bound", span(seconds_max, 0), AS_GOOD),
        case("one over the upper bound", span(seconds_max + 1, 0), NAMED),
    ]);
    cases
}

/// Spans and moments, in the order of what is expected of them, and none at all.
fn moments(at: u32, expected: &[Expected; 8]) -> Vec<Case> {
    let values = [
        ("empty", moment(0, 0)),
        ("negative", moment(-1, 0)),
        ("negative nanos", moment(0, -1)),
        ("nanos of the other sign", moment(1, -1)),
        ("nanos over a second", moment(1, 1_000_000_000)),
        ("highest nanos", moment(0, i32::MAX.into())),
        ("lowest", moment(i64::MIN, i32::MIN.into())),
        ("highest", moment(i64::MAX, 999_999_999)),
    ];
    let values = values.into_iter().zip(expected);
    let cases = values.map(|((how, value), expected)| case(how, delimited(at, &value), *expected));
    cases.chain([case("unset", Vec::new(), AS_GOOD)]).collect()
}

fn numbers(field: &FieldDescriptor) -> Vec<i64> {
    let Kind::Enum(values) = field.kind() else { panic!("{} is no enum", field.full_name()) };
    values.values().map(|value| value.number().into()).filter(|number| *number != 0).collect()
}

const UNKNOWN: [i64; 4] = [-1, 9_999, i32::MIN as i64, i32::MAX as i64];

fn choice(field: &FieldDescriptor, required: bool) -> Vec<Case> {
    let at = field.number();
    let unspecified = if required { NAMED } else { AS_GOOD };
    let known = numbers(field).into_iter().map(|value| case("known", varint(at, value), AS_GOOD));
    let unknown = UNKNOWN.map(|value| case("unknown", varint(at, value), NAMED));
    let unset =
        [case("unset", Vec::new(), unspecified), case("unspecified", varint(at, 0), unspecified)];
    known.chain(unknown).chain(unset).collect()
}

fn choices(field: &FieldDescriptor) -> Vec<Case> {
    let at = field.number();
    let known = numbers(field);
    let mut cases = choice(field, true);
    cases.retain(|case| case.how != "unset");
    let all: Vec<u8> = known.iter().flat_map(|value| varint(at, *value)).collect();
    let one_wrong = [all.as_slice(), &varint(at, 9_999)].concat();
    cases.extend([
        case("none", Vec::new(), AS_GOOD),
        case("many", varint(at, known[0]).repeat(MANY), AS_GOOD),
        case("many unknown", varint(at, 9_999).repeat(100_000), NAMED),
        case("one of them unknown", one_wrong, NAMED),
        case("all", all, AS_GOOD),
    ]);
    cases
}

/// Returns the cases that cannot be decoded as this field at all.
fn undecodable(field: &FieldDescriptor) -> Vec<Case> {
    let at = field.number();
    let unreadable = |how, bytes| case(how, bytes, Expected::Undecodable);
    let wrong_type = "of the wrong wire type";
    match field.kind() {
        // The entries of a map are read without a look at their wire type.
        _ if field.is_map() => vec![unreadable("not UTF-8", entry(at, b"key", b"\xff\xfe"))],
        Kind::String => vec![
            unreadable(wrong_type, double(at, 1.0)),
            unreadable("not UTF-8", delimited(at, b"\xff\xfe")),
        ],
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
            vec![unreadable(wrong_type, float(at, 1.0))]
        }
        _ => vec![unreadable(wrong_type, double(at, 1.0))],
    }
}
