//! Calls of every kind, as chance has it.

use std::path::Path;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::json;

use super::KnownWork;
use crate::support::waiting::call;
use crate::support::{bash, millis, request_id, v1};

/// The folder for the traces of calls, and the tools that there are.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// A file in it counts the runs of a call.
    pub folder: &'a Path,
    /// The server has the tool of [`crate::in_process`].
    pub has_count: bool,
}

/// A call, and what is known of it.
pub fn any(random: &mut StdRng, place: Place<'_>) -> (v1::RunToolRequest, KnownWork) {
    let mark = uuid::Uuid::new_v4().simple().to_string();
    let (request, known) = match random.random_range(0..20) {
        0..2 if place.has_count => (count(random), KnownWork::default()),
        kind => command(kind, random, &place.folder.join(&mark)),
    };
    let request = v1::RunToolRequest {
        description: mark.clone(),
        request_id: if random.random_bool(0.8) { request_id() } else { String::new() },
        detached: random.random_bool(0.2),
        ..request
    };
    (request, KnownWork { mark, ..known })
}

fn count(random: &mut StdRng) -> v1::RunToolRequest {
    let then = if random.random_bool(0.3) { "wait" } else { "" };
    v1::RunToolRequest { call_budget: millis(20), ..call("count", json!({ "then": then })) }
}

/// A shell command that counts its run in a file.
fn command(kind: u32, random: &mut StdRng, effect: &Path) -> (v1::RunToolRequest, KnownWork) {
    let short = millis(random.random_range(0..100));
    let mut limits = v1::RunToolRequest { call_budget: short, ..Default::default() };
    let mut stdout = "out\n".to_owned();
    let mut stderr = "";
    let script = match kind {
        0..6 => {
            stderr = "err\n";
            limits.call_budget = if random.random_bool(0.5) { None } else { short };
            "echo out; echo err >&2".to_owned()
        }
        6 | 7 => "echo out; exit 3".to_owned(),
        8..11 => {
            stdout = "1\n2\n3\n".into();
            "for i in 1 2 3; do echo $i; sleep 0.06; done".to_owned()
        }
        11 | 12 => {
            let lines = random.random_range(1..30_000_u32);
            stdout = (1..=lines).map(|line| format!("{line}\n")).collect();
            limits.max_output_bytes = random.random_bool(0.7).then_some(8_192);
            format!("seq 1 {lines}")
        }
        13 | 14 => "echo out; sleep 30".to_owned(),
        15 => "trap '' TERM; echo out; while :; do sleep 0.1; done".to_owned(),
        16 => {
            limits.execution_timeout = millis(random.random_range(50..400));
            "echo out; sleep 30".to_owned()
        }
        17 => {
            limits.idle_timeout = millis(random.random_range(100..300));
            "echo out; sleep 30".to_owned()
        }
        _ => "sleep 30 & echo out".to_owned(),
    };
    let request = v1::RunToolRequest {
        call_budget: limits.call_budget,
        execution_timeout: limits.execution_timeout,
        idle_timeout: limits.idle_timeout,
        max_output_bytes: limits.max_output_bytes,
        ..bash(&format!("echo >> '{}'; {script}", effect.display()))
    };
    let known = KnownWork {
        stdout: Some(Bytes::from(stdout)),
        stderr: Some(Bytes::from(stderr)),
        ..Default::default()
    };
    (request, known)
}
