//! The hot paths.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use callpark::internals::machine::{
    Command, Concurrency, Finish, Projection, Settings, Start, Written, decide,
};
use callpark::internals::rpc::WireCodec;
use callpark::internals::telemetry::Metrics;
use callpark::model::{
    CallId, CallPolicy, Event, EventCodec, Labels, OutputPosition, OutputStream, Payload,
    PayloadKind, Session, SessionId, Timestamp, ToolKind, ToolOutput, ToolResult,
};
use callpark::store::{
    Append, EventQuery, SqliteOptions, SqliteStore, Store, StoredEvent, Synchronous,
};

use crate::Result;
use crate::session::session;

/// Their names.
pub(crate) const NAMES: &[&str] = &[
    "decide and apply: a piece of output",
    "decide and apply: a call from start to end",
    "encode: an event of 4 KiB of output",
    "append: 1 event",
    "append: 64 events",
    "replay: a page of 2,048 events of 200 bytes",
];

/// Events of a page of the replay.
const PAGE: u64 = 2_048;

/// Runs one of them so many times.
pub(crate) fn run(name: &str, repetitions: u64) -> Result<()> {
    match NAMES.iter().position(|known| *known == name) {
        Some(0) => output(repetitions),
        Some(1) => call(repetitions),
        Some(2) => encode(repetitions),
        Some(3) => return append(repetitions, 1),
        Some(4) => return append(repetitions, 64),
        Some(5) => return replay(repetitions),
        _ => return Err(format!("there is no case {name}").into()),
    }
    Ok(())
}

fn output(repetitions: u64) {
    let mut projection = projection();
    let start = start();
    let call_id = start.call_id;
    step(&mut projection, Command::Start(Box::new(start)));
    for offset in 0..repetitions {
        let output = piece(offset);
        step(&mut projection, Command::Output { call_id, output });
    }
}

fn call(repetitions: u64) {
    let mut projection = projection();
    for _ in 0..repetitions {
        let start = start();
        let call_id = start.call_id;
        step(&mut projection, Command::Start(Box::new(start)));
        let result = ToolResult::default();
        let finish = Finish { call_id, result, stopped: false, survivors: Vec::new() };
        step(&mut projection, Command::Finish(Box::new(finish)));
    }
}

fn step(projection: &mut Projection, command: Command) {
    let mut written = Written::default();
    let now = Timestamp::from_micros(1);
    for change in decide(projection, command, now).changes {
        projection.apply(change, now, &mut written);
    }
    black_box(written);
}

fn encode(repetitions: u64) {
    let (session_id, call_id) = (SessionId::random(), CallId::random());
    for sequence in 0..repetitions {
        let event = Event {
            session_id,
            sequence,
            create_time: Timestamp::from_micros(1),
            turn_id: None,
            call_id: Some(call_id),
            attempt: 1,
            payload: Payload::ToolOutput(piece(sequence)),
        };
        black_box(WireCodec.encode(&event, "00000000000000000000000000000000"));
    }
}

fn append(repetitions: u64, events: u64) -> Result<()> {
    in_store(async |store: &SqliteStore| {
        let mut session = session();
        for round in 0..repetitions {
            grow(store, &mut session, round > 0, events).await?;
        }
        Ok(())
    })
}

/// A page a repetition.
fn replay(repetitions: u64) -> Result<()> {
    in_store(async |store: &SqliteStore| {
        let mut session = session();
        grow(store, &mut session, false, PAGE).await?;
        for _ in 0..repetitions {
            let query = EventQuery {
                session_id: session.id,
                after: 0,
                kinds: Vec::new(),
                call_id: None,
                scan_max: usize::MAX >> 1,
                bytes_max: usize::MAX >> 1,
            };
            black_box(store.events(query).await?);
        }
        Ok(())
    })
}

/// Appends so many events of 200 bytes.
async fn grow(
    store: &SqliteStore,
    session: &mut Session,
    is_stored: bool,
    events: u64,
) -> Result<()> {
    let head = session.head_sequence;
    let event = |sequence| StoredEvent {
        sequence,
        kind: PayloadKind::ToolProgress,
        call_id: None,
        output: None,
        bytes: Bytes::from(vec![b'x'; 200]),
    };
    session.head_sequence += events;
    let append = Append {
        session_id: session.id,
        expected_head: is_stored.then_some(head),
        events: (head + 1..=head + events).map(event).collect(),
        session: session.clone(),
        calls: Vec::new(),
        deleted_calls: Vec::new(),
        messages: Vec::new(),
        follow_ups: Vec::new(),
        requests: Vec::new(),
    };
    Ok(store.append(append).await?)
}

/// One thread and a store: callgrind counts the instructions of all threads.
fn in_store(work: impl AsyncFnOnce(&SqliteStore) -> Result<()>) -> Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = folder.path().to_owned();
    let options = SqliteOptions { path, synchronous: Synchronous::Normal };
    let store = SqliteStore::open(&options, Metrics::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        work(&store).await?;
        store.close().await;
        Ok(())
    })
}

fn piece(offset: u64) -> ToolOutput {
    let position = OutputPosition {
        stream: OutputStream::Stdout,
        offset,
        combined_offset: offset,
        dropped_bytes_before: 0,
    };
    ToolOutput { position, data: Bytes::from_static(&[b'x'; 4_096]) }
}

fn start() -> Start {
    Start {
        stdin_bytes: 0,
        call_id: CallId::random(),
        tool: "nothing".to_owned(),
        kind: ToolKind::BuiltIn,
        description: String::new(),
        arguments: serde_json::Map::new(),
        arguments_bytes: 2,
        policy: CallPolicy::default(),
        labels: Labels::new(),
        turn_id: None,
        turn: None,
        is_control: false,
        parent: None,
        background: false,
        concurrency: Concurrency::default(),
        has_slot: true,
    }
}

fn projection() -> Projection {
    let settings = Settings {
        grace: Duration::from_secs(5),
        retention: Duration::from_secs(3_600),
        follow_up_delay: Duration::from_secs(1),
        run_owner: None,
    };
    Projection::new(session(), Vec::new(), settings)
}
