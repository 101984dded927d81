//! Every kind of cursor on every kind of log.

use tonic::Code;
use v1::read_output_request::Position;
use v1::session_update::Control;

use crate::support::streams::{
    Gate, MISSING_TOOL, Reader, close, failing_calls, new_session, replay_of, sequences,
    session_now, stream_error, task,
};
use crate::support::wire::bad_fields;
use crate::support::{TestServer, check_reason, millis, soon, v1};

/// A request for a log, with the content of that log.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    first: i64,
    head: i64,
    after: Option<i64>,
    epoch: &'a str,
    own_epoch: &'a str,
    on_gap: v1::OnGap,
}

/// The answer that the documentation promises.
#[derive(Debug, PartialEq)]
enum Expected {
    /// These events, perhaps behind a gap.
    Events { gap: Option<(i64, i64)>, from: i64 },
    /// An error of this code and reason.
    Refused(Code, &'static str),
}

impl Case<'_> {
    fn expected(&self) -> Expected {
        use Expected::{Events, Refused};
        let after = match self.after {
            Some(after) if after < 0 => return Refused(Code::InvalidArgument, "INVALID_FIELD"),
            after => after,
        };
        if !self.epoch.is_empty() && self.epoch != self.own_epoch {
            return Refused(Code::OutOfRange, "STREAM_EPOCH_MISMATCH");
        }
        match after {
            Some(after) if after > self.head => Refused(Code::OutOfRange, "SEQUENCE_AHEAD"),
            Some(after) if after + 1 < self.first => match self.on_gap {
                v1::OnGap::Fail => Refused(Code::OutOfRange, "SEQUENCE_TRIMMED"),
                _ => Events { gap: Some((after + 1, self.first - 1)), from: self.first },
            },
            Some(after) => Events { gap: None, from: after + 1 },
            None => Events { gap: None, from: self.first },
        }
    }

    async fn check(&self, server: &TestServer, session_id: &str) {
        let request = v1::StreamSessionRequest {
            start_after_sequence: self.after,
            stream_epoch: self.epoch.into(),
            on_gap: self.on_gap.into(),
            ..replay_of(session_id)
        };
        match self.expected() {
            Expected::Refused(code, reason) => {
                let status = stream_error(server, request).await;
                check_reason(&status, code, reason);
                if code == Code::InvalidArgument {
                    assert_eq!(bad_fields(&status), ["start_after_sequence"], "{self:?}");
                }
            }
            Expected::Events { gap, from } => {
                let mut reader = Reader::open(server, request).await;
                let snapshot = reader.snapshot().await;
                assert_eq!(
                    (snapshot.first_sequence, snapshot.head_sequence),
                    (self.first, self.head)
                );
                let mut reported = None;
                let caught_up = |control: &Control| match control {
                    Control::Gap(gap) => {
                        reported = Some((gap.from_sequence, gap.to_sequence));
                        None
                    }
                    Control::CaughtUp(caught_up) => Some(caught_up.head_sequence),
                    _ => None,
                };
                let (events, head) = until_control(&mut reader, caught_up).await;
                assert_eq!((reported, head), (gap, self.head), "{self:?}");
                assert_eq!(sequences(&events), (from..=self.head).collect::<Vec<_>>(), "{self:?}");
                let (rest, end) = reader.rest().await;
                assert_eq!((rest.len(), end.is_none()), (0, true), "{self:?}");
            }
        }
    }
}

/// The events up to a control message that gives something, and that.
async fn until_control<T>(
    reader: &mut Reader,
    mut wanted: impl FnMut(&Control) -> Option<T>,
) -> (Vec<v1::SessionEvent>, T) {
    let mut events = Vec::new();
    loop {
        let update = reader.update().await;
        events.extend(update.events);
        if let Some(found) = update.control.as_ref().and_then(&mut wanted) {
            return (events, found);
        }
    }
}

/// Asks a log for everything that one may ask it for.
async fn check_log(server: &TestServer, session_id: &str, (first, head): (i64, i64)) {
    let own_epoch = session_now(server, session_id).await.stream_epoch;
    let places = [0, 1, first - 2, first - 1, first, head - 1, head, head + 1];
    let wrong = [i64::MAX, -1, i64::MIN];
    let mut afters: Vec<_> = places.into_iter().filter(|place| *place >= 0).map(Some).collect();
    afters.extend(wrong.map(Some));
    afters.push(None);
    let half = &own_epoch[..own_epoch.len() / 2];
    for after in afters {
        for epoch in ["", &own_epoch, "another", half] {
            for on_gap in [v1::OnGap::Unspecified, v1::OnGap::Signal, v1::OnGap::Fail] {
                let case = Case { first, head, after, epoch, own_epoch: &own_epoch, on_gap };
                case.check(server, session_id).await;
            }
        }
    }
}

#[tokio::test]
async fn every_cursor_on_a_whole_log_open_closed_and_after_a_restart() {
    let server = TestServer::with_config(MISSING_TOOL, &[]).await;
    let session_id = new_session(&server).await;
    check_log(&server, &session_id, (1, 0)).await;
    failing_calls(&server, &session_id, 5).await;
    check_log(&server, &session_id, (1, 15)).await;
    close(&server, &session_id).await;
    check_log(&server, &session_id, (1, 16)).await;
    let server = server.restart().await;
    check_log(&server, &session_id, (1, 16)).await;
}

#[tokio::test]
async fn every_cursor_on_a_trimmed_log_open_and_closed() {
    let settings = [("session-events-max", "1000"), ("sweep-interval", "100ms")];
    let server = TestServer::with_config(MISSING_TOOL, &settings).await;
    let session_id = new_session(&server).await;
    failing_calls(&server, &session_id, 337).await;
    trimmed(&server, &session_id, 12).await;
    check_log(&server, &session_id, (12, 1_011)).await;
    close(&server, &session_id).await;
    trimmed(&server, &session_id, 13).await;
    check_log(&server, &session_id, (13, 1_012)).await;
}

/// Waits until a log begins with this sequence.
async fn trimmed(server: &TestServer, session_id: &str, first: i64) {
    let wait = async {
        while session_now(server, session_id).await.first_sequence != first {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("the trim", wait).await;
}

#[tokio::test]
async fn a_stream_from_the_head_is_caught_up_at_once_and_then_gives_new_events() {
    let server = TestServer::with_config(MISSING_TOOL, &[]).await;
    let session_id = new_session(&server).await;
    failing_calls(&server, &session_id, 2).await;
    let request = v1::StreamSessionRequest {
        start_after_sequence: Some(6),
        follow: None,
        ..replay_of(&session_id)
    };
    let mut reader = Reader::open(&server, request).await;
    let (events, head) = reader.until_caught_up().await;
    assert_eq!((events.len(), head), (0, 6));
    failing_calls(&server, &session_id, 2).await;
    close(&server, &session_id).await;
    let (events, end) = reader.rest().await;
    assert_eq!((sequences(&events), end.is_none()), ((7..=13).collect(), true));
}

#[tokio::test]
async fn every_offset_into_the_output_of_a_task_that_runs() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "offsets");
    let command = format!("printf 0123456789; {}; printf abcdef", gate.command());
    let task = task(&server, &session_id, &command).await;
    let read = |position: Option<Position>, wait: u64| {
        let background_id = task.background_id.clone();
        let request = v1::ReadOutputRequest {
            background_id,
            position,
            wait: millis(wait),
            ..Default::default()
        };
        let mut tasks = server.tasks.clone();
        async move { soon("output", tasks.read_output(request)).await }
    };
    let at = |offset: i64| Some(Position::Offset(offset));
    read(at(9), 20_000).await.expect("the first bytes");
    for offset in 0..=10_usize {
        let answer = read(at(offset as i64), 0).await.expect("output").into_inner();
        assert_eq!(answer.data, b"0123456789"[offset..], "from {offset}");
        assert_eq!((answer.next_offset, answer.total_bytes, answer.eof), (10, 10, false));
    }
    for beyond in [11, 4_711, i64::MAX] {
        let answer = read(at(beyond), 100).await.expect("output").into_inner();
        assert!(answer.data.is_empty() && !answer.eof, "from {beyond}: {answer:?}");
        assert_eq!((answer.next_offset, answer.total_bytes), (beyond, 10));
    }
    for wrong in [at(-1), at(i64::MIN), Some(Position::TailLines(0)), Some(Position::TailLines(-1))]
    {
        let status = read(wrong, 0).await.expect_err("a refusal");
        check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    }
    // One that is ahead waits for its byte, not for any.
    let (answer, ()) = tokio::join!(read(at(13), 20_000), async { gate.open() });
    let answer = answer.expect("output").into_inner();
    assert_eq!((&answer.data[..], answer.offset), (&b"def"[..], 13), "{answer:?}");
}
