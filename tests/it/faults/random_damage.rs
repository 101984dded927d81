//! Random damage of the files of a store. The server refuses it in one line, or serves what is sound:
//! an answer is what it was, or an error, or the server's log says that commits are missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tonic::{Code, Status};

use crate::support::program::{Clients, Live, Program, Site};
use crate::support::proofs::repetitions;
use crate::support::streams::replay_of;
use crate::support::{bash, remote, seed, soon, v1};

/// The files that are damaged.
const FILES: [&str; 2] = ["callpark.db", "callpark.db-wal"];

/// The content of a store before it was damaged.
#[derive(Default)]
struct Content {
    tasks: BTreeMap<String, v1::Task>,
    logs: BTreeMap<String, Vec<v1::SessionEvent>>,
    outputs: BTreeMap<String, Vec<u8>>,
}

impl Content {
    async fn create(clients: &Clients) -> Self {
        let mut content = Self::default();
        for number in 0..12 {
            let command = format!("for i in $(seq {number}); do echo line $i of {number}; done");
            let task = remote::start(clients, bash(&command)).await;
            let task = remote::ended(clients, &task.background_id).await;
            let id = task.background_id.clone();
            content.outputs.insert(id.clone(), remote::output(clients, &id).await);
            let log = remote::log(clients, &task.session_id).await;
            content.logs.insert(task.session_id.clone(), log);
            content.tasks.insert(id, task);
        }
        content
    }

    /// Compares what a server answers. Returns whether something is missing without an error.
    async fn check(&self, clients: &Clients) -> bool {
        let mut is_missing = false;
        for (id, then) in &self.tasks {
            let request = v1::GetRequest { background_id: id.clone() };
            match soon("a task", clients.tasks.clone().get(request)).await {
                Ok(now) => {
                    let now = now.into_inner().task.expect("a task");
                    // Without the commit of its end, it was lost with its server.
                    is_missing |= now != *then;
                    assert!(now == *then || now.state() == v1::State::Lost, "{now:?}\n{then:?}");
                }
                Err(status) => is_missing |= is_absent(&status),
            }
        }
        for (id, then) in &self.logs {
            is_missing |= check_log(clients, id, then).await;
        }
        for (id, then) in &self.outputs {
            let request = v1::ReadOutputRequest { background_id: id.clone(), ..Default::default() };
            match soon("output", clients.tasks.clone().read_output(request)).await {
                Ok(now) => {
                    let now = now.into_inner().data;
                    is_missing |= now != *then;
                    assert!(then.starts_with(&now), "{now:?}\n{then:?}");
                }
                Err(status) => is_missing |= is_absent(&status),
            }
        }
        is_missing
    }
}

async fn check_log(clients: &Clients, id: &str, then: &[v1::SessionEvent]) -> bool {
    let stream = soon("a stream", clients.tools.clone().stream_session(replay_of(id))).await;
    let mut stream = match stream {
        Ok(stream) => stream.into_inner(),
        Err(status) => return is_absent(&status),
    };
    let mut count = 0;
    loop {
        let update = match soon("an update", stream.message()).await {
            Ok(Some(update)) => update,
            Ok(None) => return count < then.len(),
            Err(status) => return is_absent(&status),
        };
        for now in update.events {
            let Some(then) = then.get(count) else { return true };
            let epoch = now.stream_epoch.clone();
            if now != (v1::SessionEvent { stream_epoch: epoch, ..then.clone() }) {
                // After a loss of commits, the server goes on with events of its own.
                return true;
            }
            count += 1;
        }
    }
}

/// Returns whether a record is absent, and not only damaged.
fn is_absent(status: &Status) -> bool {
    match status.code() {
        Code::NotFound => true,
        Code::DataLoss | Code::Unavailable => false,
        _ => panic!("{status:?}"),
    }
}

/// Flips bits of a file, or cuts it off.
fn damage(path: &Path, random: &mut StdRng) -> String {
    let mut bytes = fs::read(path).expect("a file");
    let length = bytes.len();
    if random.random_bool(0.15) {
        bytes.truncate(random.random_range(0..length));
    } else {
        for _ in 0..random.random_range(1..6) {
            bytes[random.random_range(0..length)] ^= 1 << random.random_range(0..8);
        }
    }
    let what = format!("{} of {length} bytes, now {}", path.display(), bytes.len());
    fs::write(path, bytes).expect("written");
    what
}

#[tokio::test]
async fn random_damage_is_refused_or_named() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let site = Site::new();
    let server = site.serve(&[]).await;
    let content = Content::create(&server.connect()).await;
    server.kill().await;
    let (mut refused, mut named) = (0, 0);
    let rounds = repetitions(100, 12);
    for round in 0..rounds {
        let other = Site::new();
        fs::create_dir_all(other.data()).expect("a folder");
        let entries = fs::read_dir(site.data()).expect("a folder").flatten();
        for entry in entries.filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), other.data().join(entry.file_name())).expect("copied");
        }
        let file = FILES[random.random_range(0..FILES.len())];
        let what = damage(&other.data().join(file), &mut random);
        let data = other.data().display().to_string();
        let command = other.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
        let mut live = Live::start(command);
        if !live.stderr.started().await {
            let ended = live.ended().await.exits(78);
            let errors = ended.stderr().lines().filter(|line| line.starts_with("error: "));
            assert_eq!(errors.count(), 1, "round {round}: {what}: {ended}");
            refused += 1;
            continue;
        }
        let server = Program::started(live, other.home(), &other.data()).await;
        let is_missing = content.check(&server.connect()).await;
        let words = server.live.stderr.now();
        let is_named = words.contains("missing") || words.contains("record is damaged");
        assert!(!is_missing || is_named, "round {round} of seed {seed}: {what}: {words}");
        named += usize::from(is_missing);
    }
    println!("{rounds} rounds: {refused} refused, {named} with commits that are missing");
}
