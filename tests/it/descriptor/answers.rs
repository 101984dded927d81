//! Sends requests and judges what comes back.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tonic::{Code, Status};

use super::cases::{Case, Expected};
use super::targets::Target;
use crate::support::TestServer;
use crate::support::wire::{bad_fields, first_answer, only_reason, with_token};

/// The longest time for any answer, on a slow machine with other things to do: a request whose cost grows
/// faster than its size takes minutes.
pub const ANSWER_SECONDS_MAX: u64 = 25;

/// The largest error, with its text as it is escaped on the wire: clients take 16 KiB of metadata.
const ERROR_BYTES_MAX: usize = 8 << 10;

/// A request that is sent.
pub struct Question<'a> {
    /// `ToolRunner/RunTool`.
    pub method: &'a str,
    /// The field that is tried.
    pub target: &'a Target,
    /// The case that is tried with it.
    pub case: Case,
    /// The whole request.
    pub body: Vec<u8>,
}

/// A comparable form of an answer: OK, or a code and a reason.
pub type Answer = Result<(), (Code, Option<String>)>;

/// Returns the comparable form of an answer.
pub fn comparable(answer: &Result<(), Status>) -> Answer {
    answer.as_ref().copied().map_err(|status| (status.code(), only_reason(status)))
}

/// Sends one request; an answer that doesn't come in time is none.
pub async fn ask(server: &TestServer, method: &str, body: Vec<u8>) -> Option<Result<(), Status>> {
    let request = with_token(server, Bytes::from(body));
    let answer = first_answer(&server.channel, method, request);
    let answer = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), answer).await;
    answer.ok().map(|answer| answer.map(|_| ()))
}

/// Sends all of them, two at a time, and returns what is wrong with the answers.
pub async fn complaints<'a>(
    server: &TestServer,
    good: &Answer,
    questions: impl Iterator<Item = Question<'a>>,
) -> Vec<String> {
    let asked = questions.map(|question| async move {
        let Question { method, target, case, body } = question;
        let complaint = match ask(server, method, body).await {
            None => Some(format!("no answer in {ANSWER_SECONDS_MAX} s")),
            Some(answer) => complaint(target, &case, good, &answer),
        };
        complaint.map(|text| format!("{method} {} {}: {text}", target.path, case.how))
    });
    let answers = futures::stream::iter(asked).buffered(2);
    answers.filter_map(std::future::ready).collect().await
}

fn complaint(
    target: &Target,
    case: &Case,
    good: &Answer,
    answer: &Result<(), Status>,
) -> Option<String> {
    let found = comparable(answer);
    let is_met = match case.expected {
        Expected::AsGood => found == *good,
        Expected::Undecodable | Expected::TooDeep => {
            is(&found, Code::InvalidArgument, "MALFORMED_MESSAGE")
        }
        Expected::TooLarge => {
            is(&found, Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
                || is(&found, Code::InvalidArgument, "INVALID_FIELD")
        }
        Expected::Refused(code, reason) => is(&found, code, reason),
    };
    let Err(status) = answer else {
        return (!is_met).then(|| format!("accepted, not {:?}", case.expected));
    };
    let text: String = status.message().chars().take(200).collect();
    if !is_met {
        return Some(format!("{:?} {text}, not {:?}", status.code(), case.expected));
    }
    if let Some(fault) = unnamed(target, case.expected, status) {
        return Some(format!("{fault}: {text}"));
    }
    let escaped = status.message().bytes().map(|byte| if is_plain(byte) { 1 } else { 3 });
    let bytes = escaped.sum::<usize>() + status.details().len() * 4 / 3;
    (bytes > ERROR_BYTES_MAX).then(|| format!("an error of {bytes} bytes: {text}"))
}

fn is(found: &Answer, code: Code, reason: &str) -> bool {
    *found == Err((code, Some(reason.to_owned())))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'%' || byte == b' '
}

/// Returns the complaint about an error that must name the field at fault and doesn't.
fn unnamed(target: &Target, expected: Expected, status: &Status) -> Option<String> {
    let fields = bad_fields(status);
    let names = |field: &String| {
        let behind = field.strip_prefix(&target.path);
        behind.is_some_and(|behind| behind.is_empty() || behind.starts_with(['.', '[']))
    };
    let is_named = match expected {
        Expected::Refused(Code::InvalidArgument, _) => fields.iter().all(names),
        // A message that can't be read has no fields; the text says where it went wrong.
        Expected::Undecodable => status.message().contains(&target.name()),
        Expected::TooDeep => {
            ["recursion", "deep"].iter().any(|word| status.message().contains(word))
        }
        Expected::TooLarge => {
            ["too large", "at most"].iter().any(|words| status.message().contains(words))
        }
        Expected::AsGood | Expected::Refused(..) => return None,
    };
    let reads = matches!(expected, Expected::Refused(..));
    let is_named = is_named && only_reason(status).is_some() && (!reads || !fields.is_empty());
    (!is_named).then(|| format!("{fields:?} and the text don't name `{}`", target.path))
}
