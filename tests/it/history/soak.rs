//! Mixed load on the real server for as long as it is asked for: what is taken is given back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::life::{Lived, World, count_effects, live};
use super::processes::{Seen, Sighting};
use super::resources::{Figures, Rest, children_of};
use super::{History, Recorder, collect};
use crate::support::program::{Clients, Program, Site};
use crate::support::waiting::variable;
use crate::support::{seed, soon};

/// Sessions at the same time.
const LIVES: u64 = 6;
/// A line is printed once in this time.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// The longest time until a server gives back idle threads and connections.
const REST_TIMEOUT: Duration = Duration::from_secs(60);
/// The store's cache may grow to its bound of 2 MiB for each of five connections, and an allocator
/// doesn't give every page back.
const RESIDENT_GROWTH_KIB_MAX: u64 = 32 * 1024;
/// The delay with which a child may be reaped on a busy machine.
const SLACK: Duration = Duration::from_secs(3);
/// Short lifetimes, so that what expires is removed under load.
const FLAGS: [&str; 10] = [
    "--admin-listen",
    "127.0.0.1:0",
    "--max-running-calls",
    "24",
    "--retention",
    "2min",
    "--sweep-interval",
    "5s",
    "--log-filter",
    "warn",
];

/// The state that the workers share.
struct Soak {
    world: World,
    endpoint: String,
    token: String,
    admin: String,
    pid: u32,
    stop: CancellationToken,
    sessions: AtomicU64,
    calls: AtomicU64,
}

impl Soak {
    fn of(server: &Program, folder: std::path::PathBuf) -> Self {
        let admin = server.address("  admin  ");
        let admin = admin.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics"));
        Self {
            world: World { folder, has_count: false, steps: 25, closes: true },
            endpoint: server.endpoint.clone(),
            token: server.token.clone(),
            admin: admin.expect("an address").to_owned(),
            pid: server.live.pid(),
            stop: CancellationToken::new(),
            sessions: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// One session after the other. Each is checked when it has been closed, and then forgotten,
    /// so that what is known here doesn't grow.
    async fn work(&self, mut random: StdRng) {
        while !self.stop.is_cancelled() {
            let recorder = Recorder::new();
            let clients = Clients::new(&self.endpoint, &self.token);
            let recorded = recorder.clients(clients.clone());
            let random = StdRng::seed_from_u64(random.random());
            let lived = live(recorded, self.world.clone(), random).await;
            let Lived { life, .. } = lived.expect("a server that goes on");
            let session = vec![life.session_id.clone()];
            let mut history = collect(&clients, &recorder, Some(session)).await;
            count_effects(&mut history, &self.world.folder);
            history.assert_holds();
            for work in &history.works {
                // Refused calls and those of the server itself have left none.
                let _none = std::fs::remove_file(self.world.folder.join(&work.mark));
            }
            self.sessions.fetch_add(1, Ordering::Relaxed);
            self.calls.fetch_add(history.calls().len() as u64, Ordering::Relaxed);
        }
    }

    async fn figures(&self) -> Figures {
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut connection = TcpStream::connect(&self.admin).await.expect("a connection");
        connection.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        soon("metrics", connection.read_to_string(&mut text)).await.expect("metrics");
        drop(connection);
        Figures::of_process(self.pid).with_metrics(&text)
    }

    async fn print_lines(&self) {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(LINE_INTERVAL);
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.print(&format!("{:4} s", began.elapsed().as_secs())).await;
        }
    }

    async fn print(&self, when: &str) {
        let (sessions, calls) =
            (self.sessions.load(Ordering::Relaxed), self.calls.load(Ordering::Relaxed));
        let figures = self.figures().await;
        let Figures { resident_kib, descriptors, threads, children, .. } = figures;
        let Figures { live_calls, running_calls, streams, connections, .. } = figures;
        println!(
            "{when}: {sessions} sessions and {calls} calls checked; {resident_kib} KiB, \
             {descriptors} descriptors, {threads} threads, {children} children; {live_calls} live, \
             {running_calls} running, {streams} streams, {connections} connections"
        );
    }

    /// Children that have ended and aren't reaped, each with the longest time of that.
    async fn watch_children(&self) -> Vec<Sighting> {
        let mut since: BTreeMap<u32, Instant> = BTreeMap::new();
        let mut longest: BTreeMap<u32, Duration> = BTreeMap::new();
        let pause = Duration::from_millis(200);
        while self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let ended = children_of(self.pid).into_iter().filter(|(_, state)| *state == 'Z');
            let ended: Vec<u32> = ended.map(|(pid, _)| pid).collect();
            since.retain(|pid, _| ended.contains(pid));
            for pid in ended {
                let age = since.entry(pid).or_insert_with(Instant::now).elapsed();
                let longest = longest.entry(pid).or_default();
                *longest = age.max(*longest);
            }
        }
        let sighting =
            |(pid, age)| Sighting { pid, call_id: String::new(), what: Seen::Unreaped(age) };
        longest.into_iter().map(sighting).collect()
    }

    /// The figures once the server rests: as soon as they are back at the base line, if there is
    /// one.
    async fn at_rest(&self, base: Option<Figures>) -> Figures {
        let began = Instant::now();
        loop {
            let last = self.figures().await;
            let is_busy = last.live_calls + last.streams + last.connections + last.children > 0;
            let rest = base.map(|base| Rest {
                base,
                last,
                resident_growth_kib_max: RESIDENT_GROWTH_KIB_MAX,
            });
            let history = History { rest, ..History::default() };
            let is_over = super::resources::all_is_given_back(&history);
            // Threads without work leave after 10 s: the base line is taken without them, too.
            let is_settled = base.is_some() || began.elapsed() > Duration::from_secs(15);
            if (!is_busy && is_over.is_empty() && is_settled) || began.elapsed() > REST_TIMEOUT {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

/// Load for this long, and until all that was begun has ended.
async fn load(soak: &Arc<Soak>, time: Duration, random: &mut StdRng) -> Vec<Sighting> {
    let tracker = TaskTracker::new();
    let workers = (0..LIVES).map(|_| {
        let (soak, random) = (soak.clone(), StdRng::seed_from_u64(random.random()));
        tracker.spawn(async move { soak.work(random).await })
    });
    let workers: Vec<_> = workers.collect();
    let stop = soak.stop.clone();
    let (lines, children) = (soak.clone(), soak.clone());
    let lines = tracker.spawn(async move { lines.print_lines().await });
    let children = tracker.spawn(async move { children.watch_children().await });
    let over = async {
        tokio::time::sleep(time).await;
        stop.cancel();
    };
    let work = async {
        // A panic of one of them ends the test at once.
        futures::future::try_join_all(workers).await.expect("no panic");
    };
    futures::future::join(over, work).await;
    lines.await.expect("no panic");
    children.await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes: just soak"]
async fn a_server_releases_at_rest_the_resources_that_it_took_under_load() {
    let mut random = StdRng::seed_from_u64(seed());
    let seconds = variable("CALLPARK_SOAK_SECONDS").map(|text| text.parse().expect("a number"));
    let time = Duration::from_secs(seconds.unwrap_or(600));
    let site = Site::new();
    let folder = site.folder().join("effects");
    std::fs::create_dir(&folder).expect("a folder");
    let server = site.serve(&FLAGS).await;
    let warm_up = Arc::new(Soak::of(&server, folder.clone()));
    load(&warm_up, (time / 6).min(Duration::from_secs(60)), &mut random).await;
    let base = warm_up.at_rest(None).await;
    warm_up.print("base").await;
    let soak = Arc::new(Soak::of(&server, folder));
    let processes = load(&soak, time, &mut random).await;
    let last = soak.at_rest(Some(base)).await;
    soak.print("rest").await;
    let rest = Rest { base, last, resident_growth_kib_max: RESIDENT_GROWTH_KIB_MAX };
    let history = History { rest: Some(rest), processes, slack: SLACK, ..History::default() };
    history.assert_holds();
    assert!(soak.sessions.load(Ordering::Relaxed) >= time.as_secs() / 10, "too little load");
    server.live.signal(Signal::TERM);
    server.live.ended().await.exits(0);
    site.quiet().await;
}
