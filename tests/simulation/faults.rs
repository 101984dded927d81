//! Faults, and the moments at which they happen.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use turmoil::Sim;

use crate::network::SERVER;
use crate::server::Site;

/// After this much time nothing new goes wrong.
pub const FAULTS_END: Duration = Duration::from_secs(30);

/// Something that goes wrong, or is right again.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Nothing passes between the server and a client.
    Partition(String),
    /// Nothing passes from the first to the second.
    OneWay(String, String),
    /// All passes again.
    Repair(String),
    /// Messages between the server and a client are held back.
    Hold(String),
    /// Messages that were held back are delivered at once.
    Release(String),
    /// The server is gone, with all that it hadn't stored.
    Crash,
    /// The server starts again.
    Start,
    /// The server announces its stop.
    Drain,
    /// Nothing can be stored.
    FailStore,
    /// Everything can be stored again.
    MendStore,
}

/// Faults in the order of their time.
pub fn plan(random: &mut StdRng, clients: &[String]) -> Vec<(Duration, Fault)> {
    let mut plan = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(random.random_range(200..4_000));
        if at >= FAULTS_END {
            break;
        }
        let short = Duration::from_millis(random.random_range(5..800));
        let long = Duration::from_millis(random.random_range(800..12_000));
        let client = clients[random.random_range(0..clients.len())].clone();
        match random.random_range(0..12) {
            0..3 => {
                let span = if random.random_bool(0.5) { short } else { long };
                plan.push((at, Fault::Partition(client.clone())));
                plan.push((at + span, Fault::Repair(client)));
            }
            3..5 => {
                let [from, to] = match random.random_bool(0.5) {
                    true => [client.clone(), SERVER.to_owned()],
                    false => [SERVER.to_owned(), client.clone()],
                };
                plan.push((at, Fault::OneWay(from, to)));
                plan.push((at + long, Fault::Repair(client)));
            }
            5..7 => {
                plan.push((at, Fault::Hold(client.clone())));
                plan.push((at + short, Fault::Release(client)));
            }
            7..10 => {
                // A server that drains is killed while it does.
                let drains = random.random_bool(0.4);
                let crash = if drains { at + short } else { at };
                if drains {
                    plan.push((at, Fault::Drain));
                }
                plan.push((crash, Fault::Crash));
                plan.push((crash + short, Fault::Start));
                // One server at a time.
                at = crash + short;
            }
            _ => {
                plan.push((at, Fault::FailStore));
                plan.push((at + short, Fault::MendStore));
            }
        }
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

impl Fault {
    /// Does it.
    pub fn happen(&self, sim: &mut Sim<'_>, site: &Site) {
        match self {
            Self::Partition(client) => sim.partition(client.as_str(), SERVER),
            Self::OneWay(from, to) => sim.partition_oneway(from.as_str(), to.as_str()),
            Self::Repair(client) => sim.repair(client.as_str(), SERVER),
            Self::Hold(client) => sim.hold(client.as_str(), SERVER),
            Self::Release(client) => sim.release(client.as_str(), SERVER),
            Self::Crash => sim.crash(SERVER),
            Self::Start => sim.bounce(SERVER),
            Self::Drain => site.drain.lock().expect("no panic").cancel(),
            Self::FailStore => site.disk.fail(true),
            Self::MendStore => site.disk.fail(false),
        }
    }
}
