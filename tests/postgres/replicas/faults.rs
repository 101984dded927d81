//! Three replicas under load, and one fault after the other: every invariant of one server holds over all
//! of them.

use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::place::Place;
use crate::cluster::Cluster;
use crate::history::life::{Lived, World, count_effects, live};
use crate::history::{End, Recorder, collect};
use crate::support::program::{Clients, Program, Site};
use crate::support::proofs::repetitions;
use crate::support::{seed, soon};

const REPLICAS: usize = 3;

/// The sessions that live at each replica at the same time.
const SESSIONS: usize = 2;

/// The flags of replicas on which calls wait for their turn, and that stop quickly.
const FLAGS: [&str; 6] = ["--max-running-calls", "12", "--grace", "200ms", "--drain", "200ms"];

/// A fault of a replica, or of the database of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// `kill -9`, and a start at once.
    Killed,
    /// `kill -9`, and a start once the others have its sessions.
    Gone,
    /// Paused for less than a lease.
    Paused,
    /// Paused until the others have its sessions.
    Asleep,
    /// Stopped in good order, and started again.
    Restarted,
    /// The database crashes, and is there again after a while.
    DatabaseCrashed,
    /// All connections to the database are cut.
    ConnectionsCut,
}

const FAULTS: [Fault; 7] = [
    Fault::Killed,
    Fault::Gone,
    Fault::Paused,
    Fault::Asleep,
    Fault::Restarted,
    Fault::DatabaseCrashed,
    Fault::ConnectionsCut,
];

/// Longer than it takes until the sessions of a replica that is gone are taken over.
const TAKE_OVER: Duration = Duration::from_secs(11);

/// A replica that is started again and again.
struct Replica {
    site: Site,
    server: Option<Program>,
    endpoint: String,
}

impl Replica {
    async fn start(place: &Place<'_>) -> Self {
        let site = Site::new();
        let mut command = place.command(&site, "127.0.0.1:0");
        command.args(FLAGS);
        let server = site.serve_with(command).await;
        Self { endpoint: server.endpoint.clone(), server: Some(server), site }
    }

    fn server(&self) -> &Program {
        self.server.as_ref().expect("a server")
    }

    fn take(&mut self) -> Program {
        self.server.take().expect("a server")
    }

    async fn start_again(&mut self, place: &Place<'_>) {
        let mut command = place.command(&self.site, self.endpoint.trim_start_matches("http://"));
        command.args(FLAGS);
        self.server = Some(self.site.serve_with(command).await);
    }

    fn connect(&self) -> Clients {
        self.server().connect()
    }
}

/// Makes a fault happen, and ends it.
async fn strike(fault: Fault, victim: &mut Replica, place: &Place<'_>, random: &mut StdRng) {
    match fault {
        Fault::Killed => {
            victim.take().kill().await;
            victim.start_again(place).await;
        }
        Fault::Gone => {
            victim.take().kill().await;
            tokio::time::sleep(TAKE_OVER).await;
            victim.start_again(place).await;
        }
        Fault::Paused | Fault::Asleep => {
            let millis = random.random_range(200..5_000);
            let pause = match fault {
                Fault::Paused => Duration::from_millis(millis),
                _ => TAKE_OVER,
            };
            victim.server().live.signal(Signal::STOP);
            tokio::time::sleep(pause).await;
            victim.server().live.signal(Signal::CONT);
        }
        Fault::Restarted => {
            victim.take().terminate().await.0.exits(0);
            victim.start_again(place).await;
        }
        Fault::DatabaseCrashed => {
            place.cluster.crash();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..3_000))).await;
            place.cluster.resume();
        }
        Fault::ConnectionsCut => {
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name LIKE 'callpark%'";
            place.cluster.sql("postgres", cut);
        }
    }
}

/// Reads what is left of the logs at a replica, and sends all again that was sent.
async fn settle(lives: Vec<Lived>, recorder: &Recorder, clients: &Clients) {
    for Lived { life, mut readers } in lives {
        for reader in &mut readers {
            let rest = async {
                let forever = CancellationToken::new();
                while reader.read(clients, false, usize::MAX, &forever).await != End::Ok {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            soon("the rest of a log", rest).await;
        }
        life.resend_all(&recorder.clients(clients.clone())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invariant_holds_over_all_replicas() {
    let mut random = StdRng::seed_from_u64(seed());
    let cluster = Cluster::start();
    let place = Place::new(&cluster);
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(Replica::start(&place).await);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = Recorder::new();
    let world =
        World { folder: folder.path().to_owned(), has_count: false, steps: 25, closes: false };
    for cycle in 0..repetitions(FAULTS.len() * 3, FAULTS.len()) {
        // Each of them, and then any.
        let fault = FAULTS.get(cycle).or_else(|| FAULTS.choose(&mut random)).copied();
        let fault = fault.expect("a fault");
        let lives = replicas.iter().flat_map(|replica| (0..SESSIONS).map(|_| replica.connect()));
        let lives: Vec<_> = lives
            .map(|clients| {
                let random = StdRng::seed_from_u64(random.random());
                live(recorder.clients(clients), world.clone(), random)
            })
            .collect();
        let victim = random.random_range(0..REPLICAS);
        let moment = Duration::from_millis(random.random_range(100..1_500));
        println!("cycle {cycle}: {fault:?} of replica {victim} after {moment:?}");
        let strike = async {
            // The moment is the subject of the test.
            tokio::time::sleep(moment).await;
            recorder.stopped();
            strike(fault, &mut replicas[victim], &place, &mut random).await;
        };
        let (lives, ()) = tokio::join!(join_all(lives), strike);
        let other = &replicas[(victim + 1) % REPLICAS];
        settle(lives.into_iter().flatten().collect(), &recorder, &other.connect()).await;
    }
    let mut history = collect(&replicas[0].connect(), &recorder, None).await;
    count_effects(&mut history, folder.path());
    // A server that is paused answers afterwards.
    history.slack = TAKE_OVER + Duration::from_secs(5);
    println!("{} sessions, {} calls", history.logs.len(), history.calls().len());
    history.assert_holds();
}
