//! Addresses that come and go, and the times at which they are dialed.

use std::{net::SocketAddr, time::Duration};

use tokio::time::Instant;
use tonic::Status;

use super::table::{Backoff, ConnectionId, Scope, Table, Work};
use crate::transport::address::Target;

const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), max: Duration::from_millis(1_000) };

/// A table whose connections are numbers, at a time that the test moves.
struct World {
    table: Table<ConnectionId>,
    now: Instant,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn down() -> Status {
    Status::unavailable("down")
}

impl World {
    fn new(endpoints: &[&str]) -> Self {
        let target = |name: &&str| name.parse().ok().map(Target::Tcp);
        let targets: Vec<_> = endpoints.iter().map(target).collect();
        let named = endpoints.iter().copied().zip(targets.iter().map(Option::as_ref));
        Self { table: Table::new(named, BACKOFF), now: Instant::now() }
    }

    fn begin(&mut self, scope: Scope) -> Vec<Work> {
        self.table.begin(scope, self.now)
    }

    /// Begins, and returns the connections that are dialed.
    fn dials(&mut self, scope: Scope) -> Vec<ConnectionId> {
        dials(&self.begin(scope))
    }

    fn dialed(&mut self, connection: ConnectionId, result: Result<(), Status>) {
        self.table.dialed(connection, result.map(|()| connection), self.now, 0.0);
    }

    fn connect(&mut self, scope: Scope) -> Vec<ConnectionId> {
        let dials = self.dials(scope);
        for connection in &dials {
            self.dialed(*connection, Ok(()));
        }
        dials
    }

    fn resolved(&mut self, addresses: &[&str]) -> (Vec<ConnectionId>, Vec<ConnectionId>) {
        let found = Ok(addresses.iter().map(|text| address(text)).collect());
        let (work, dropped) = self.table.resolved(0, found, Scope::All, self.now, 0.0);
        (dials(&work), dropped)
    }

    fn lose(&mut self, connection: ConnectionId, has_answered: bool) {
        self.table.lost(connection, has_answered, down(), self.now, 0.0).unwrap();
    }

    /// The connections of calls, each of which has tried nothing.
    fn choices<const N: usize>(&mut self) -> [Option<ConnectionId>; N] {
        [(); N].map(|()| self.table.choose(&mut Vec::new()).map(|choice| choice.channel))
    }

    fn down_labels(&self) -> Vec<String> {
        self.table.failures().into_iter().map(|(label, _)| label.to_string()).collect()
    }
}

fn dials(work: &[Work]) -> Vec<ConnectionId> {
    let dial = |work: &Work| match work {
        Work::Dial { connection, .. } => Some(*connection),
        Work::Resolve { .. } => None,
    };
    work.iter().filter_map(dial).collect()
}

fn resolves(work: &[Work]) -> bool {
    matches!(work, [Work::Resolve { endpoint: 0, .. }])
}

#[test]
fn connected_addresses_are_taken_in_turn() {
    let mut world = World::new(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
    let [a, b, c] = world.connect(Scope::All)[..] else { panic!() };
    let in_turn = [a, b, c, a, b, c].map(Some);
    assert_eq!(world.choices(), in_turn);
    world.lose(b, true);
    assert_eq!(world.choices(), [a, c, a, c].map(Some));
}

#[test]
fn a_call_tries_each_address_before_it_tries_one_again() {
    let mut world = World::new(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
    world.connect(Scope::All);
    let mut tried = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..9 {
        // Two other calls in between, so that it would be the same turn again.
        world.choices::<2>();
        calls.push(world.table.choose(&mut tried).unwrap().address);
    }
    for round in calls.chunks(3) {
        let mut round = round.to_vec();
        round.sort_unstable();
        round.dedup();
        assert_eq!(round.len(), 3, "{calls:?}");
    }
    assert!(calls.windows(2).all(|two| two[0] != two[1]), "{calls:?}");
}

#[test]
fn the_only_connected_address_is_tried_again() {
    let mut world = World::new(&["127.0.0.1:1", "127.0.0.1:2"]);
    let [a, b] = world.dials(Scope::All)[..] else { panic!() };
    world.dialed(a, Ok(()));
    world.dialed(b, Err(down()));
    let mut tried = Vec::new();
    for _ in 0..3 {
        assert_eq!(world.table.choose(&mut tried).unwrap().channel, a);
        assert!(world.table.has_other(&tried));
    }
    assert_eq!(tried.len(), 1);
}

#[test]
fn an_address_is_dialed_once_at_a_time() {
    let mut world = World::new(&["127.0.0.1:1", "127.0.0.1:2"]);
    assert_eq!(world.dials(Scope::All).len(), 2);
    assert!(world.begin(Scope::All).is_empty());
    assert!(world.table.is_connecting());
}

#[test]
fn an_address_that_fails_is_dialed_again_after_a_growing_delay() {
    let mut world = World::new(&["127.0.0.1:1"]);
    let mut delays = Vec::new();
    let mut dial = world.dials(Scope::Due)[0];
    for jitter in [0.0, 0.0, 0.0, 0.0, 0.0, 1.0] {
        world.table.dialed(dial, Err(down()), world.now, jitter);
        let failed_at = world.now;
        dial = loop {
            if let [dial] = world.dials(Scope::Due)[..] {
                break dial;
            }
            world.now += Duration::from_millis(1);
        };
        delays.push((world.now - failed_at).as_millis());
    }
    assert_eq!(delays, [100, 200, 400, 800, 1_000, 500]);
}

#[test]
fn a_request_without_a_connection_waits_for_no_delay() {
    let mut world = World::new(&["127.0.0.1:1"]);
    for _ in 0..5 {
        let dials = world.dials(Scope::All);
        world.dialed(dials[0], Err(down()));
    }
    assert!(world.begin(Scope::Due).is_empty());
}

#[test]
fn a_connection_that_never_answered_counts_as_a_failure() {
    let mut world = World::new(&["127.0.0.1:1", "127.0.0.1:2"]);
    let [a, b] = world.connect(Scope::All)[..] else { panic!() };
    world.lose(a, true);
    world.lose(b, false);
    assert_eq!(world.dials(Scope::Due).len(), 1, "only the one that had answered");
    world.now += BACKOFF.first;
    assert_eq!(world.dials(Scope::Due).len(), 1);
}

#[test]
fn each_address_of_a_name_has_its_turn() {
    let mut world = World::new(&["http://a.example"]);
    assert!(resolves(&world.begin(Scope::All)));
    assert!(world.begin(Scope::All).is_empty(), "a name is resolved once at a time");
    let (dials, _) = world.resolved(&["10.0.0.1:1", "10.0.0.2:1"]);
    let [a, b] = dials[..] else { panic!("{dials:?}") };
    world.dialed(a, Ok(()));
    world.dialed(b, Ok(()));
    assert_eq!(world.choices(), [a, b, a].map(Some));
    world.lose(a, true);
    assert_eq!(world.down_labels(), ["http://a.example [10.0.0.1]"]);
}

#[test]
fn a_name_is_resolved_again_once_a_connection_is_lost() {
    let mut world = World::new(&["http://a.example"]);
    world.begin(Scope::All);
    let (dials, _) = world.resolved(&["10.0.0.1:1", "10.0.0.2:1"]);
    let [a, b] = dials[..] else { panic!("{dials:?}") };
    world.dialed(a, Ok(()));
    world.dialed(b, Ok(()));
    assert!(world.begin(Scope::Due).is_empty(), "nothing is missing");
    world.lose(a, true);
    assert!(resolves(&world.begin(Scope::Due)));

    // Its first address has been replaced.
    let (dials, dropped) = world.resolved(&["10.0.0.2:1", "10.0.0.3:1"]);
    let [c] = dials[..] else { panic!("{dials:?}") };
    world.dialed(c, Ok(()));
    assert!(dropped.is_empty());
    assert_eq!(world.choices(), [b, c].map(Some));

    // An address that is not among those of the name any more is dropped with its connection.
    world.lose(c, true);
    assert!(resolves(&world.begin(Scope::Due)));
    let (_, dropped) = world.resolved(&["10.0.0.3:1"]);
    assert_eq!((dropped, world.choices()), (vec![b], [None]));
}

#[test]
fn the_addresses_of_a_name_outlive_a_resolver_that_fails() {
    let mut world = World::new(&["http://a.example"]);
    world.begin(Scope::All);
    let (dials, _) = world.resolved(&["10.0.0.1:1"]);
    world.dialed(dials[0], Ok(()));
    world.lose(dials[0], true);
    assert!(resolves(&world.begin(Scope::All)));
    let (work, _) = world.table.resolved(0, Err(down()), Scope::All, world.now, 0.0);
    assert_eq!(self::dials(&work).len(), 1);
}

#[test]
fn a_name_that_is_unknown_is_resolved_again_after_a_delay() {
    let mut world = World::new(&["http://a.example", "127.0.0.1:2"]);
    world.begin(Scope::All);
    world.table.unresolved(0, down(), world.now, 0.0);
    assert_eq!(world.down_labels(), ["http://a.example"]);
    assert!(world.begin(Scope::Due).is_empty());
    world.now += BACKOFF.first;
    assert!(resolves(&world.begin(Scope::Due)));
}
