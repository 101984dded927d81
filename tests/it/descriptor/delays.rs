//! Requests as large as a request may be, in every shape that takes long to read: while one is worked
//! on, the server goes on with everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{FieldDescriptor, Kind};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};

use super::encode::{delimited, entry, json, varint};
use super::structs::keys;
use super::targets::{Place, Target};
use super::world::{CONFIG, World};
use super::{Rpc, good_request, rpcs};
use crate::support::proofs::proof;
use crate::support::wire::{first_answer, with_token};
use crate::support::{TestServer, v1};

/// The longest delay of other work by one request, in a build without optimization. A request that is
/// read where it arrives takes a second there.
const DELAY_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 50 });

/// The longest time for an answer, on a machine with other things to do: a request whose cost grows
/// faster than its size takes minutes.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// The number of times that a request is tried before its delay counts: the machine may have been busy.
const TRIES: usize = 4;

/// Ticks at a short interval, and the longest time between two of them.
#[derive(Clone, Default)]
struct Pulse(Arc<AtomicU64>);

impl Pulse {
    const INTERVAL: Duration = Duration::from_millis(2);

    fn note(&self, last: &mut Instant) {
        let gap = last.elapsed().saturating_sub(Self::INTERVAL);
        self.0.fetch_max(u64::try_from(gap.as_micros()).expect("a short time"), Ordering::Relaxed);
        *last = Instant::now();
    }

    /// The longest delay since the last call.
    fn take(&self) -> Duration {
        Duration::from_micros(self.0.swap(0, Ordering::Relaxed))
    }
}

/// A server on a runtime with one thread for tasks, and what shows delays of that thread.
struct Watched {
    /// Outlives the server.
    runtime: Runtime,
    server: Option<TestServer>,
    world: World,
    /// Of a task on the runtime.
    of_server: Pulse,
    /// Of a thread outside of it, for the delays that the machine causes.
    of_machine: Pulse,
}

impl Watched {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (server, world) = runtime.block_on(async {
            let server = TestServer::with_config(CONFIG, &[]).await;
            let world = World::new(&server).await;
            (server, world)
        });
        let (of_server, of_machine) = (Pulse::default(), Pulse::default());
        let pulse = of_server.clone();
        runtime.spawn(async move {
            let mut last = Instant::now();
            loop {
                tokio::time::sleep(Pulse::INTERVAL).await;
                pulse.note(&mut last);
            }
        });
        let pulse = Arc::downgrade(&of_machine.0);
        thread::spawn(move || {
            let mut last = Instant::now();
            while let Some(pulse) = pulse.upgrade() {
                thread::sleep(Pulse::INTERVAL);
                Pulse(pulse).note(&mut last);
            }
        });
        Self { runtime, server: Some(server), world, of_server, of_machine }
    }

    fn server(&self) -> &TestServer {
        self.server.as_ref().expect("until it is dropped")
    }

    /// Sends a request, and returns what is wrong with the delay that it causes.
    async fn complaint(&self, channel: &Channel, method: &str, body: &Bytes) -> Option<String> {
        let mut shortest = Duration::MAX;
        for _ in 0..TRIES {
            self.of_server.take();
            self.of_machine.take();
            let request = with_token(self.server(), body.clone());
            let answer = first_answer(channel, method, request);
            if tokio::time::timeout(ANSWER_MAX, answer).await.is_err() {
                return Some(format!("no answer in {ANSWER_MAX:?}"));
            }
            // What follows the answer is work of the server, too.
            tokio::time::sleep(Pulse::INTERVAL * 2).await;
            let (delay, noise) = (self.of_server.take(), self.of_machine.take());
            shortest = shortest.min(delay.saturating_sub(noise));
            if shortest <= DELAY_MAX {
                return None;
            }
        }
        Some(format!("delays all other work by {shortest:?}"))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _in_runtime = self.runtime.enter();
        drop(self.server.take());
    }
}

/// A shape of a field: its name and its bytes.
type Shape = (&'static str, Vec<u8>);

/// Bytes of one thing that fill so many bytes.
fn many(thing: &[u8], bytes: usize) -> Vec<u8> {
    thing.repeat(bytes / thing.len())
}

/// The shapes of a field that fill so many bytes, the worst first.
fn shapes(field: &FieldDescriptor, bytes: usize) -> Vec<Shape> {
    let at = field.number();
    let numbers = || {
        let number = |n: i64| varint(at, n << 14).into_iter();
        (1..).flat_map(number).take(bytes).collect::<Vec<u8>>()
    };
    let text = || delimited(at, &vec![b'x'; bytes]);
    match field.kind() {
        _ if field.is_map() => {
            let labels =
                (0..bytes / 12).flat_map(|n| entry(at, format!("{n:06x}").as_bytes(), b""));
            vec![
                ("many entries", labels.collect()),
                ("a large entry", entry(at, &vec![b'k'; bytes / 2], &vec![b'v'; bytes / 2])),
            ]
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Struct" => {
            of_struct(bytes)
                .into_iter()
                .map(|(how, object)| (how, delimited(at, &object)))
                .collect()
        }
        Kind::Message(_) if field.is_list() => vec![("many", many(&delimited(at, b""), bytes))],
        Kind::Message(_) => {
            vec![("unknown fields", delimited(at, &many(&varint(99, 1), bytes)))]
        }
        Kind::String | Kind::Bytes if field.is_list() => {
            vec![("many", many(&delimited(at, b""), bytes)), ("one large", text())]
        }
        Kind::String | Kind::Bytes => vec![("large", text())],
        _ => vec![("many", numbers().into_iter().take(bytes).collect())],
    }
}

/// Objects that fill so many bytes.
fn of_struct(bytes: usize) -> Vec<Shape> {
    let half = bytes / 2;
    let under = |name: usize, item: &[u8], bytes: usize| {
        json::field(&"k".repeat(name), &json::list(&many(&json::item(item), bytes)))
    };
    vec![
        ("many names", keys(bytes / 11)),
        // The bound of arguments leaves as much to read where they are accepted.
        ("a long name of many values", under(500_000, b"", 500_000.min(half))),
        (
            "a long name of many wrong numbers",
            under(half.min(500_000), &json::number(f64::NAN), half),
        ),
        ("many values", under(1, b"", bytes)),
        ("many names that are accepted", keys((1 << 20) / 11)),
    ]
}

/// Requests whose cost is not in one field alone.
fn others(world: &World, bytes: usize) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let call = |tool: &str, arguments: Vec<u8>| {
        let tool = v1::RunToolRequest { tool: tool.into(), ..Default::default() };
        [tool.encode_to_vec(), delimited(3, &arguments)].concat()
    };
    let command = json::field("command", &json::text(b"true"));
    let of_env = |value: &[u8]| {
        let pairs = (0..30_000).flat_map(|n| json::field(&format!("V{n}"), value));
        let env = json::object(&pairs.collect::<Vec<u8>>());
        call("bash", [command.clone(), json::field("env", &env)].concat())
    };
    let session = v1::Session {
        session_id: world.session_id().into(),
        model: "x".repeat(bytes / 2),
        ..Default::default()
    };
    let paths = vec!["model".to_owned(); bytes / 2 / 7];
    let update = v1::UpdateSessionRequest {
        session: Some(session),
        update_mask: Some(prost_types::FieldMask { paths }),
        ..Default::default()
    };
    let run = "ToolRunner/RunTool";
    vec![
        (run, "30,000 variables that are numbers", of_env(&json::number(1.0))),
        (run, "30,000 variables with a NUL", of_env(&json::text(b"\0"))),
        (run, "a call with many arguments", call("any", keys((1 << 20) / 13))),
        (run, "many unknown arguments", call("bash", keys((1 << 20) / 13))),
        ("ToolRunner/UpdateSession", "a large field many times", update.encode_to_vec()),
    ]
}

/// The rank of a field by what it costs to read: the highest first.
fn rank(target: &Target) -> u8 {
    let Place::Field(field) = &target.place else { return 0 };
    match (field.kind(), field.is_map(), field.is_list()) {
        (_, true, _) => 5,
        (Kind::Message(message), ..) if message.full_name() == "google.protobuf.Struct" => 4,
        (_, _, true) => 3,
        (Kind::String | Kind::Bytes, ..) => 2,
        _ => 1,
    }
}

/// Returns the requests of an RPC: all of them, or that with the costliest field.
fn requests(rpc: &Rpc, world: &World, bytes: usize) -> Vec<(String, Vec<u8>)> {
    let good = good_request(rpc, world);
    let mut targets: Vec<&Target> = rpc.targets.iter().collect();
    targets.sort_by_key(|target| std::cmp::Reverse(rank(target)));
    let fill = |target: &Target| {
        let Place::Field(field) = &target.place else { return Vec::new() };
        let shapes = shapes(field, bytes).into_iter().take(proof(usize::MAX, 1));
        let filled =
            |(how, shape): Shape| (format!("{}: {how}", target.path), target.filled(&good, &shape));
        shapes.map(filled).collect()
    };
    targets.into_iter().take(proof(usize::MAX, 1)).flat_map(fill).collect()
}

/// Takes 15 s: there are many RPCs, and the smallest requests that show a delay are large.
#[test]
fn no_request_of_any_shape_delays_the_others() {
    let watched = Watched::start();
    let bytes = proof((4 << 20) - 1_000, 2 << 20);
    let client = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let wrong = client.expect("a runtime").block_on(async {
        let endpoint = Endpoint::from_shared(watched.server().endpoint.clone());
        let channel = endpoint.expect("an endpoint").connect_lazy();
        let mut wrong = Vec::new();
        for rpc in rpcs() {
            for (how, body) in requests(&rpc, &watched.world, bytes) {
                let complaint = watched.complaint(&channel, &rpc.name, &body.into()).await;
                wrong.extend(complaint.map(|text| format!("{} {how}: {text}", rpc.name)));
            }
        }
        for (method, how, body) in others(&watched.world, bytes) {
            let complaint = watched.complaint(&channel, method, &body.into()).await;
            wrong.extend(complaint.map(|text| format!("{method} {how}: {text}")));
        }
        wrong
    });
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
