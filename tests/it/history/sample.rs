//! A history in which all is well, made by hand, and ways to break it.

use std::time::Duration;

use bytes::Bytes;

use super::processes::{Seen, Sighting};
use super::resources::{Figures, Rest};
use super::{
    Answer, Asked, CallAsked, Checker, Delivery, End, Event, Exchange, History, INVARIANTS,
    KeptOutput, KnownWork, Log, Moment, Reading, Reply, Shims, WaitAsked, v1,
};
use v1::session_event::Payload;
use v1::tool_call_finished::Outcome;
use v1::tool_result::Exit;
use v1::{OutputStream, State};

const SESSION: &str = "ses-1";
const SLACK: Duration = Duration::from_millis(50);

/// Returns the time of the event with this sequence.
fn at(sequence: i64) -> Moment {
    Duration::from_secs(1_000) + Duration::from_millis(100) * u32::try_from(sequence).expect("one")
}

fn stamp(time: Moment) -> Option<prost_types::Timestamp> {
    let seconds = i64::try_from(time.as_secs()).expect("a time");
    Some(prost_types::Timestamp { seconds, nanos: time.subsec_nanos().cast_signed() })
}

fn since(from: i64, to: i64) -> Option<prost_types::Duration> {
    crate::support::span(at(to) - at(from))
}

fn event(sequence: i64, call: u32, payload: Payload) -> Event {
    let call_id = if call == 0 { String::new() } else { format!("call-{call}") };
    Event::new(v1::SessionEvent {
        session_id: SESSION.into(),
        stream_epoch: "epoch".into(),
        sequence,
        create_time: stamp(at(sequence)),
        call_id,
        payload: Some(payload),
        ..Default::default()
    })
}

fn accepted(call: u32) -> Payload {
    Payload::ToolCallAccepted(Box::new(v1::ToolCallAccepted {
        tool: "bash".into(),
        kind: v1::Kind::Command.into(),
        description: format!("mark-{call}"),
        execution_timeout: crate::support::millis(150),
        ..Default::default()
    }))
}

fn started() -> Payload {
    Payload::ToolCallStarted(v1::ToolCallStarted {
        tool: "bash".into(),
        kind: v1::Kind::Command.into(),
    })
}

fn parked(call: u32) -> Payload {
    let background_id = format!("bg-{call}");
    Payload::ToolCallParked(v1::ToolCallParked { background_id, ..Default::default() })
}

/// A piece of standard output.
pub fn output(offset: i64, dropped_bytes_before: i64, data: &'static [u8]) -> Payload {
    Payload::ToolOutput(v1::ToolOutput {
        stream: OutputStream::Stdout.into(),
        offset,
        combined_offset: offset,
        dropped_bytes_before,
        data: Bytes::from_static(data),
    })
}

/// A result of a run from one event to another, with the output of these pieces.
fn result(exit: Option<Exit>, run: (i64, i64), stdout: [i64; 2], shown: &str) -> v1::ToolResult {
    let [total_bytes, kept_bytes] = stdout;
    let dropped_bytes = total_bytes - kept_bytes;
    let cut_offset = (dropped_bytes > 0).then_some(3);
    let summary = v1::StreamSummary { total_bytes, kept_bytes, dropped_bytes, cut_offset };
    let content = v1::Content {
        kind: Some(v1::content::Kind::Text(shown.into())),
        stream: OutputStream::Stdout.into(),
        offset: 0,
        origin: v1::Origin::Tool.into(),
    };
    v1::ToolResult {
        content: vec![content],
        is_error: exit != Some(Exit::ExitCode(0)),
        exit,
        output: Some(v1::OutputSummary {
            stdout: Some(summary),
            stderr: Some(v1::StreamSummary::default()),
            combined: Some(summary),
            ..Default::default()
        }),
        start_time: stamp(at(run.0)),
        end_time: stamp(at(run.1)),
        ..Default::default()
    }
}

fn finished(state: State, run: (i64, i64), outcome: Outcome) -> Payload {
    Payload::ToolCallFinished(Box::new(v1::ToolCallFinished {
        state: state.into(),
        outcome: Some(outcome),
        elapsed: since(run.0, run.1),
        ..Default::default()
    }))
}

fn signal_result(run: (i64, i64), total: i64, shown: &str) -> v1::ToolResult {
    result(Some(Exit::Signal(15)), run, [total, total], shown)
}

/// Five calls: one that succeeds, one that is cancelled, one that is lost, one that is stopped at
/// its limit, and one in the foreground that fails and writes more than is kept.
fn events() -> Vec<Event> {
    let lost = Outcome::Error(Default::default());
    let ok = Outcome::Result(result(Some(Exit::ExitCode(0)), (2, 5), [4, 4], "one\n"));
    let cancelled = Outcome::Result(signal_result((8, 11), 4, "two\n"));
    let timed_out = Outcome::Result(signal_result((17, 19), 0, ""));
    let failed = Outcome::Result(failed());
    let cancelling = v1::ToolCallCancelling { requested_by: "client".into(), ..Default::default() };
    let all = [
        (1, accepted(1)),
        (1, started()),
        (1, parked(1)),
        (1, output(0, 0, b"one\n")),
        (1, finished(State::Succeeded, (2, 5), ok)),
        (2, accepted(2)),
        (2, parked(2)),
        (2, started()),
        (2, output(0, 0, b"two\n")),
        (2, Payload::ToolCallCancelling(cancelling)),
        (2, finished(State::Cancelled, (8, 11), cancelled)),
        (3, accepted(3)),
        (3, started()),
        (3, parked(3)),
        (3, finished(State::Lost, (13, 15), lost)),
        (4, accepted(4)),
        (4, started()),
        (4, parked(4)),
        (4, finished(State::TimedOut, (17, 19), timed_out)),
        (5, accepted(5)),
        (5, started()),
        (5, output(0, 0, b"abc")),
        (5, output(10, 7, b"xyz")),
        (5, finished(State::Failed, (21, 24), failed)),
        (0, Payload::SessionShutdown(v1::SessionShutdown::default())),
    ];
    (1..).zip(all).map(|(sequence, (call, payload))| event(sequence, call, payload)).collect()
}

fn failed() -> v1::ToolResult {
    result(Some(Exit::ExitCode(3)), (21, 24), [13, 6], "abc")
}

/// A task as it is when the event with the last of these sequences is the newest: accepted, begun,
/// parked, ended.
fn task(call: u32, revision: i64, events: &[Event]) -> v1::Task {
    let call_id = format!("call-{call}");
    let own = || events.iter().map(|event| &event.message).filter(|event| event.call_id == call_id);
    let mut task = v1::Task {
        background_id: format!("bg-{call}"),
        session_id: SESSION.into(),
        call_id: call_id.clone(),
        revision,
        ..Default::default()
    };
    for event in own() {
        match &event.payload {
            Some(Payload::ToolCallAccepted(_)) => {
                task.create_time = event.create_time;
                task.set_state(State::Pending);
            }
            Some(Payload::ToolCallStarted(_)) => {
                task.start_time = event.create_time;
                task.set_state(State::Running);
            }
            Some(Payload::ToolCallParked(_)) => task.park_time = event.create_time,
            Some(Payload::ToolCallCancelling(_)) => {
                let acknowledged_time = own().last().and_then(|event| event.create_time);
                let cancellation = v1::Cancellation { acknowledged_time, ..Default::default() };
                task.cancellation = Some(cancellation);
            }
            Some(Payload::ToolCallFinished(end)) => {
                task.set_state(end.state());
                task.elapsed = end.elapsed;
                task.end_time = event.create_time;
                task.outcome = end.outcome.clone().map(|outcome| match outcome {
                    Outcome::Result(result) => v1::task::Outcome::Result(result),
                    Outcome::Error(error) => v1::task::Outcome::Error(error),
                });
            }
            _ => {}
        }
    }
    task
}

/// A question right after one event, and its answer right after another.
fn exchange(asked: Asked, sent: i64, answered: i64, reply: Reply) -> Exchange {
    let soon = Duration::from_millis(10);
    let reply = Ok(Reply { session_id: SESSION.into(), ..reply });
    let answer = Answer { time: at(answered) + soon, reply };
    Exchange { sent: at(sent) - soon, asked, answer: Some(answer) }
}

fn call(number: u32, events: (i64, i64), reply: Reply) -> Exchange {
    let asked = Asked::Call(CallAsked {
        session_id: SESSION.into(),
        request_id: format!("request-{number}"),
        mark: format!("mark-{number}"),
        replaces: false,
    });
    exchange(asked, events.0, events.1, Reply { call_id: format!("call-{number}"), ..reply })
}

fn tasks(tasks: impl IntoIterator<Item = v1::Task>) -> Reply {
    Reply { tasks: tasks.into_iter().collect(), ..Reply::default() }
}

fn exchanges(events: &[Event]) -> Vec<Exchange> {
    let started = |number: u32, accepted: i64, newest: usize| {
        let background_id = format!("bg-{number}");
        let reply = tasks([task(number, 1, &events[..newest])]);
        let newest = i64::try_from(newest).expect("a sequence");
        call(number, (accepted, newest), Reply { background_id, ..reply })
    };
    let wait = WaitAsked {
        background_ids: vec!["bg-1".into()],
        all: false,
        bound: Duration::from_secs(5),
    };
    vec![
        exchange(Asked::Session, 0, 0, Reply::default()),
        started(1, 1, 3),
        exchange(Asked::Wait(wait), 4, 5, tasks([task(1, 3, events)])),
        started(2, 6, 7),
        exchange(Asked::Cancel("bg-2".into()), 9, 11, tasks([task(2, 4, events)])),
        started(3, 12, 14),
        started(4, 16, 18),
        call(5, (20, 24), Reply { result: Some(failed()), ..Reply::default() }),
        exchange(Asked::Close(SESSION.into()), 24, 25, Reply::default()),
        exchange(Asked::Get, 26, 26, tasks([task(1, 3, events)])),
    ]
}

fn deliveries(events: &[Event]) -> Vec<Delivery> {
    let delivery = |reader, kind, from: usize, to: usize| Delivery {
        reader,
        session_id: SESSION.into(),
        kind,
        events: events[from..to].to_vec(),
        caught_up: Some(i64::try_from(from).expect("a sequence")),
        end: End::Ok,
    };
    let cut = End::Cut(tonic::Code::Unavailable);
    vec![
        Delivery { end: cut, ..delivery(1, Reading::Follow(0), 0, 11) },
        delivery(1, Reading::Follow(11), 11, 25),
        delivery(2, Reading::Call, 19, 24),
        Delivery { caught_up: Some(25), ..delivery(3, Reading::Replay(0), 0, 25) },
    ]
}

/// A history in which all is well.
pub fn sample() -> History {
    let events = events();
    let kept =
        |call: u32, total_bytes, dropped_bytes, pieces: &[(i64, &'static [u8])]| KeptOutput {
            call_id: format!("call-{call}"),
            stream: OutputStream::Stdout,
            total_bytes,
            dropped_bytes,
            pieces: pieces.iter().map(|(at, data)| (*at, Bytes::from_static(data))).collect(),
        };
    let work = |call: u32, stdout: &'static [u8]| KnownWork {
        mark: format!("mark-{call}"),
        stdout: Some(Bytes::from_static(stdout)),
        effects: Some(1),
        ..Default::default()
    };
    let mut session = v1::Session { session_id: SESSION.into(), ..Default::default() };
    session.set_state(v1::SessionState::Closed);
    let figures =
        Figures { resident_kib: 10_000, descriptors: 20, threads: 4, ..Default::default() };
    History {
        records: (1..=4).map(|call| task(call, 4, &events)).collect(),
        outputs: vec![
            kept(1, 4, 0, &[(0, b"one\n")]),
            kept(5, 13, 7, &[(0, b"abc"), (10, b"xyz")]),
        ],
        deliveries: deliveries(&events),
        exchanges: exchanges(&events),
        works: vec![work(1, b"one\n"), work(5, b"abcdefghijxyz")],
        processes: Vec::new(),
        rest: Some(Rest { base: figures, last: figures, resident_growth_kib_max: 4_000 }),
        stops: 1,
        shims: Shims::Lived,
        is_complete: true,
        slack: SLACK,
        logs: vec![Log { session, head: 25, events }],
    }
}

/// The checker finds nothing in the sample, and this in a sample that is broken in this way.
#[track_caller]
pub fn check_fails(check: Checker, detail: &str, change: impl Fn(&mut History)) {
    let mut history = sample();
    assert_eq!(check(&history), [], "a history in which all is well");
    change(&mut history);
    let found = check(&history);
    let is_it =
        |found: &super::Violation| found.detail.contains(detail) || found.subject.contains(detail);
    assert!(found.iter().any(is_it), "no `{detail}` in {found:?}");
}

/// Changes the event with this sequence in the log.
pub fn change_event(
    history: &mut History,
    sequence: usize,
    change: impl FnOnce(&mut v1::SessionEvent),
) {
    let event = &mut history.logs[0].events[sequence - 1];
    change(&mut event.message);
    *event = Event::new(event.message.clone());
}

/// Changes the end of a call in the log.
pub fn finish(history: &mut History, call: usize, change: impl FnOnce(&mut v1::ToolCallFinished)) {
    let sequence = [5, 11, 15, 19, 24][call - 1];
    change_event(history, sequence, |event| match &mut event.payload {
        Some(Payload::ToolCallFinished(end)) => change(end),
        other => panic!("no end but {other:?}"),
    });
}

/// Changes the request to stop in the log.
pub fn cancelling(history: &mut History, change: impl FnOnce(&mut v1::ToolCallCancelling)) {
    change_event(history, 10, |event| match &mut event.payload {
        Some(Payload::ToolCallCancelling(cancelling)) => change(cancelling),
        other => panic!("no request but {other:?}"),
    });
}

/// A piece of output in the log.
pub fn output_mut(history: &mut History, sequence: usize) -> &mut v1::ToolOutput {
    match &mut history.logs[0].events[sequence - 1].message.payload {
        Some(Payload::ToolOutput(output)) => output,
        other => panic!("no output but {other:?}"),
    }
}

/// The result in a task.
pub fn result_mut(task: &mut v1::Task) -> &mut v1::ToolResult {
    match &mut task.outcome {
        Some(v1::task::Outcome::Result(result)) => result,
        other => panic!("no result but {other:?}"),
    }
}

impl Exchange {
    /// The answer.
    pub fn answer_mut(&mut self) -> &mut Answer {
        self.answer.as_mut().expect("an answer")
    }

    /// Returns the reply to the client.
    pub fn reply_mut(&mut self) -> &mut Reply {
        self.answer_mut().reply.as_mut().expect("no error")
    }
}

#[test]
fn a_history_in_which_all_is_well_breaks_no_invariant() {
    sample().assert_holds();
    assert!(sample().violations().is_empty() && INVARIANTS.len() > 20);
}

#[test]
#[should_panic(
    expected = "nothing of a call is left at rest: 1 violations\n    process 7 of call-1"
)]
fn a_violation_is_printed_with_its_invariant_and_its_subject() {
    let mut history = sample();
    let call_id = "call-1".to_owned();
    history.processes.push(Sighting { pid: 7, call_id, what: Seen::AtRest });
    history.assert_holds();
}
