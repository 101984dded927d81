//! Three engines over one database, each on a machine with a clock and a network of its own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use callpark::internals::engine::{Clock, Engine, EngineOptions, EngineParts, Peers};
use callpark::internals::exec::LocalRunner;
use callpark::internals::rpc::WireCodec;
use callpark::internals::telemetry::Metrics;
use callpark::model::Timestamp;
use callpark::store::CachedStore;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::database::{Database, Mistake, address};
use super::link::{Condition, Link};
use super::linked_store::LinkedStore;
use super::tools;
use crate::server::{NoProcesses, options};
use crate::tool::Effects;

/// The number of engines.
pub const SITES: usize = 3;

/// The calls that an engine runs at the same time: so few that some of them wait.
const RUNNING_CALLS_MAX: usize = 3;

/// The largest error of the rate of a clock: far more than that of a machine's.
const DRIFT_MAX: f64 = 0.001;

/// The largest difference of a clock to that of the database, in seconds.
const OFFSET_SECONDS_MAX: i64 = 30 * 86_400;

/// The pause before a server that could not start is started again.
const START_PAUSE: Duration = Duration::from_millis(500);

/// The machines and the database between them.
pub struct World {
    pub database: Arc<Database>,
    pub effects: Effects,
    pub tracker: TaskTracker,
    metrics: Metrics,
    sites: Vec<Site>,
    /// Pairs of machines that do not reach each other.
    apart: Mutex<BTreeSet<(usize, usize)>>,
    random: Mutex<StdRng>,
}

/// A machine.
struct Site {
    condition: watch::Sender<Condition>,
    clock: Arc<LocalClock>,
    /// The connection of the present server, or of the one that starts.
    link: Mutex<Option<Arc<Link>>>,
    serving: Mutex<Option<Serving>>,
    /// The pause before the next start.
    downtime: Mutex<Duration>,
}

/// A server that answers requests.
#[derive(Clone)]
pub struct Serving {
    pub engine: Engine,
    /// Cancelled when the server is killed or has stopped.
    pub ended: CancellationToken,
}

thread_local! {
    // Made once for each thread: it is the slowest part of an engine.
    static METRICS: Metrics = Metrics::default();
}

impl World {
    pub fn new(random: &mut StdRng, mistake: Option<Mistake>) -> Arc<Self> {
        let site = |_| Site {
            condition: watch::channel(Condition::Healthy).0,
            clock: Arc::new(LocalClock::new(random)),
            link: Mutex::default(),
            serving: Mutex::default(),
            downtime: Mutex::default(),
        };
        let sites = (0..SITES).map(site).collect();
        Arc::new(Self {
            database: Database::new(mistake),
            effects: Effects::default(),
            tracker: TaskTracker::new(),
            metrics: METRICS.with(Metrics::clone),
            sites,
            apart: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(random.random())),
        })
    }

    /// Keeps a server running on each machine.
    pub fn run(self: &Arc<Self>) {
        for number in 0..SITES {
            let world = self.clone();
            self.tracker.spawn(async move {
                loop {
                    world.start(number).await.ended.cancelled().await;
                    let downtime = *world.sites[number].downtime.lock().expect("no panic");
                    sleep(downtime).await;
                }
            });
        }
    }

    /// Starts servers on a machine until one serves.
    async fn start(self: &Arc<Self>, number: usize) -> Serving {
        let site = &self.sites[number];
        loop {
            let seed = self.random.lock().expect("no panic").random();
            let link = Link::new(number, &self.database, site.condition.subscribe(), seed);
            *site.link.lock().expect("no panic") = Some(link.clone());
            if link.join().await.is_ok() {
                let engine = self.engine(number, &link);
                if engine.recover().await.is_ok() && !link.has_ended() {
                    engine.sweep();
                    engine.follow_ups().start_delivery();
                    let serving = Serving { engine, ended: link.ended().clone() };
                    *site.serving.lock().expect("no panic") = Some(serving.clone());
                    return serving;
                }
                self.bury(engine);
            }
            link.end();
            sleep(START_PAUSE).await;
        }
    }

    fn engine(self: &Arc<Self>, number: usize, link: &Arc<Link>) -> Engine {
        let store = CachedStore::new(Arc::new(LinkedStore(link.clone())), self.metrics.clone());
        Engine::new(EngineParts {
            store: Arc::new(store),
            codec: Arc::new(WireCodec),
            runner: Arc::new(LocalRunner::new(Arc::new(NoProcesses))),
            tools: tools::registry(&self.effects).into(),
            models: Default::default(),
            clock: self.sites[number].clock.clone(),
            metrics: self.metrics.clone(),
            quotas: Default::default(),
            peers: Some(Arc::new(Neighbours { world: Arc::downgrade(self), number })),
            options: EngineOptions { running_calls_max: RUNNING_CALLS_MAX, ..options() },
        })
    }

    /// Ends the work of an engine whose process is dead: its connection is, so nothing of it is stored.
    fn bury(&self, engine: Engine) {
        self.tracker.spawn(async move { engine.stop().await });
    }

    /// Returns the server of a machine, if it answers.
    pub fn serving(&self, number: usize) -> Option<Serving> {
        let serving = self.sites[number].serving.lock().expect("no panic").clone();
        serving.filter(|serving| !serving.ended.is_cancelled())
    }

    /// Returns the machine that has an address.
    pub fn number_of(&self, wanted: &str) -> Option<usize> {
        (0..SITES).find(|number| address(*number) == wanted)
    }

    /// Returns whether two machines reach each other.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        let apart = self.apart.lock().expect("no panic");
        !apart.contains(&(from.min(to), from.max(to)))
    }

    /// Separates two machines, or connects them again.
    pub fn separate(&self, one: usize, other: usize, is_apart: bool) {
        let pair = (one.min(other), one.max(other));
        let mut apart = self.apart.lock().expect("no panic");
        if is_apart {
            apart.insert(pair)
        } else {
            apart.remove(&pair)
        };
    }

    /// Sets the state of the network between a machine and the database.
    pub fn set(&self, number: usize, condition: Condition) {
        let site = &self.sites[number];
        site.condition.send_replace(condition);
        if condition == Condition::Healthy
            && let Some(link) = &*site.link.lock().expect("no panic")
        {
            link.reconnected();
        }
    }

    /// Sets the clock of a machine.
    pub fn set_clock(&self, number: usize, by_seconds: i64) {
        self.sites[number].clock.step(by_seconds);
    }

    /// Kills the server of a machine, which is started again after a while.
    pub fn kill(&self, number: usize, downtime: Duration) {
        let site = &self.sites[number];
        *site.downtime.lock().expect("no panic") = downtime;
        if let Some(link) = &*site.link.lock().expect("no panic") {
            link.end();
        }
        if let Some(serving) = site.serving.lock().expect("no panic").take() {
            self.bury(serving.engine);
        }
    }

    /// Stops the server of a machine in good order, and starts it again after a while.
    pub fn stop(&self, number: usize, downtime: Duration) {
        let site = &self.sites[number];
        *site.downtime.lock().expect("no panic") = downtime;
        let serving = site.serving.lock().expect("no panic").clone();
        let link = site.link.lock().expect("no panic").clone();
        if let (Some(Serving { engine, .. }), Some(link)) = (serving, link) {
            self.tracker.spawn(async move {
                engine.stop().await;
                link.end();
            });
        }
    }

    /// Ends all faults of the network.
    pub fn heal(&self) {
        self.apart.lock().expect("no panic").clear();
        for number in 0..SITES {
            self.set(number, Condition::Healthy);
        }
    }
}

/// The other engines, as one of them asks them.
struct Neighbours {
    world: Weak<World>,
    number: usize,
}

#[async_trait]
impl Peers for Neighbours {
    async fn can_write(&self, address: &str) -> Option<bool> {
        let world = self.world.upgrade()?;
        let number = world.number_of(address)?;
        if !world.reaches(self.number, number) {
            return None;
        }
        let Serving { engine, .. } = world.serving(number)?;
        Some(engine.check().await.is_ok())
    }
}

/// The clock of a machine, which is wrong, and not as fast as others.
struct LocalClock {
    began: Instant,
    /// The time since the machine was started, at the beginning.
    uptime: Duration,
    rate: f64,
    /// The time of day at the uptime zero, in microseconds.
    origin_micros: AtomicI64,
}

impl LocalClock {
    fn new(random: &mut StdRng) -> Self {
        let offset = random.random_range(-OFFSET_SECONDS_MAX..=OFFSET_SECONDS_MAX);
        Self {
            began: Instant::now(),
            uptime: Duration::from_secs(random.random_range(0..1_000_000)),
            rate: 1.0 + random.random_range(-DRIFT_MAX..=DRIFT_MAX),
            origin_micros: AtomicI64::new((1_800_000_000 + offset) * 1_000_000),
        }
    }

    fn step(&self, by_seconds: i64) {
        self.origin_micros.fetch_add(by_seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for LocalClock {
    fn now(&self) -> Timestamp {
        let origin = Timestamp::from_micros(self.origin_micros.load(Ordering::Relaxed));
        origin.saturating_add(self.uptime())
    }

    fn uptime(&self) -> Duration {
        self.uptime + self.began.elapsed().mul_f64(self.rate)
    }
}
