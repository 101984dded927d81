//! One run of the simulation.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use callpark::internals::telemetry::Metrics;
use callpark::model::Tenant;
use callpark::store::{EventQuery, SessionQuery, Store as _};
use callpark_client::v1;
use futures::FutureExt as _;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use turmoil::{Builder, Sim};

use crate::clients::{self, World};
use crate::disk::Disk;
use crate::faults;
use crate::history::History;
use crate::network::SERVER;
use crate::server::{self, Site};

const CALLERS: usize = 3;
const FOLLOWERS: usize = 2;

/// After the last fault all must come to its end within this time.
const REST: Duration = Duration::from_secs(120);

/// The time at which the simulation begins, after 1970.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// The length of one step of the simulated time.
const TICK: Duration = Duration::from_millis(10);

/// Runs what the seed says. An error says, in words, what never came to its end.
pub fn run(seed: u64) -> Result<History, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let site = Site {
        disk: Arc::new(Disk::new(fork(&mut random))),
        effects: Default::default(),
        metrics: Metrics::default(),
        drain: Arc::default(),
    };
    let history = History { followers: vec![Vec::new(); FOLLOWERS], ..History::default() };
    let world = World {
        history: Arc::new(Mutex::new(history)),
        callers_left: Arc::new(AtomicUsize::new(CALLERS)),
    };
    let latency_max = Duration::from_millis(random.random_range(2..150));
    let mut sim = Builder::new()
        .rng_seed(random.random())
        .epoch(UNIX_EPOCH + EPOCH)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(latency_max)
        .tcp_capacity(1 << 16)
        .simulation_duration(faults::FAULTS_END + REST)
        .build();
    let of_server = site.clone();
    sim.host(SERVER, move || server::serve(of_server.clone()));
    let mut names = Vec::new();
    for number in 0..CALLERS {
        names.push(format!("caller-{number}"));
        sim.client(names[number].as_str(), clients::call(world.clone(), number, fork(&mut random)));
    }
    for number in 0..FOLLOWERS {
        let name = format!("follower-{number}");
        sim.client(name.as_str(), clients::follow(world.clone(), number, fork(&mut random)));
        names.push(name);
    }
    let plan = faults::plan(&mut random, &names);
    steps(&mut sim, &plan, &site).map_err(|error| format!("{error}"))?;
    drop(sim);
    let mut history = world.history.lock().expect("no panic").clone();
    history.faults = plan.len();
    history.effects = site.effects.counted();
    (history.head, history.log) = log(&site.disk);
    Ok(history)
}

/// Goes on until all clients have come to their end.
fn steps(sim: &mut Sim<'_>, plan: &[(Duration, faults::Fault)], site: &Site) -> turmoil::Result {
    let mut left = plan.iter().peekable();
    loop {
        while let Some((_, fault)) = left.next_if(|(at, _)| *at <= sim.elapsed()) {
            fault.happen(sim, site);
        }
        if sim.step()? {
            return Ok(());
        }
    }
}

/// Randomness of its own for a part of the run.
fn fork(random: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(random.random())
}

/// The head and the events of the one session.
fn log(disk: &Disk) -> (i64, Vec<v1::SessionEvent>) {
    let query = SessionQuery::newest(Tenant::new("local"), 10);
    let sessions = at_once(disk.store.sessions(query)).expect("a page").sessions;
    assert_eq!(sessions.len(), 1, "a request id has one effect");
    let head = sessions[0].head_sequence;
    let mut log = Vec::new();
    while (log.len() as u64) < head {
        let query = EventQuery {
            session_id: sessions[0].id,
            after: log.len() as u64,
            kinds: Vec::new(),
            call_id: None,
            scan_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let events = at_once(disk.store.events(query)).expect("a page").events;
        assert!(!events.is_empty(), "a log of {head} events ends after {}", log.len());
        let events = events.iter().map(|event| v1::SessionEvent::decode(&*event.bytes));
        log.extend(events.map(|event| event.expect("an event")));
    }
    (i64::try_from(head).expect("a sequence"), log)
}

/// The store in memory has its answers ready.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("an answer at once")
}
