//! The states of all connections of a pool, and the choice among them. Pure: no clock, no randomness
//! and no I/O.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::Status;

use crate::transport::address::{Target, label};

/// The number of one address of a pool. An address that vanishes and comes back gets another one.
pub(crate) type AddressId = u64;

/// The number of one attempt to connect, and of the connection that results from it.
pub(super) type ConnectionId = u64;

/// The addresses that are dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The ones whose delay has passed.
    Due,
    /// All, because none is connected.
    All,
}

/// A step that a table asks for.
#[derive(Debug)]
pub(super) enum Work {
    /// Resolve the name of an endpoint.
    Resolve { endpoint: usize, scope: Scope },
    /// Open a connection.
    Dial { endpoint: usize, connection: ConnectionId, target: Target },
}

/// The connection that a request uses.
#[derive(Debug)]
pub(super) struct Choice<C> {
    pub(super) address: AddressId,
    pub(super) label: Arc<str>,
    pub(super) channel: C,
}

/// The addresses of all endpoints.
pub(super) struct Table<C> {
    endpoints: Vec<Group<C>>,
    backoff: Backoff,
    /// The position, among all addresses, at which the next choice begins.
    next: usize,
    last_id: u64,
}

/// An endpoint with its addresses.
struct Group<C> {
    name: Arc<str>,
    /// The addresses come from a name that has to be resolved.
    is_named: bool,
    is_resolving: bool,
    resolution: Trouble,
    addresses: Vec<Address<C>>,
}

struct Address<C> {
    id: AddressId,
    /// The endpoint, with the address if it has several.
    label: Arc<str>,
    target: Target,
    state: State<C>,
    trouble: Trouble,
}

enum State<C> {
    Down,
    Dialing(ConnectionId),
    Connected(ConnectionId, C),
}

/// The failures in a row of one address, or of the resolution of a name.
#[derive(Default)]
struct Trouble {
    failures: u32,
    retry_at: Option<Instant>,
    newest: Option<Status>,
}

impl Trouble {
    fn fail(&mut self, status: Status, delay: Duration, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now.checked_add(delay);
        self.newest = Some(status);
    }

    fn is_due(&self, scope: Scope, now: Instant) -> bool {
        scope == Scope::All || self.retry_at.is_none_or(|at| at <= now)
    }
}

/// The delay before an address is dialed again: it doubles with each failure, and a random part of up
/// to half of it is left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) max: Duration,
}

impl Backoff {
    fn after(self, failures: u32, jitter: f64) -> Duration {
        let whole = self.first.saturating_mul(2_u32.saturating_pow(failures)).min(self.max);
        whole.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

impl<C: Clone> Table<C> {
    /// Creates a table of endpoints, each with its name and its address. One without an address has to
    /// be resolved.
    pub(super) fn new<'a>(
        endpoints: impl IntoIterator<Item = (&'a str, Option<&'a Target>)>,
        backoff: Backoff,
    ) -> Self {
        let mut table = Self { endpoints: Vec::new(), backoff, next: 0, last_id: 0 };
        for (name, target) in endpoints {
            let name: Arc<str> = name.into();
            let addresses = target.map(|target| Address {
                id: table.new_id(),
                label: Arc::clone(&name),
                target: target.clone(),
                state: State::Down,
                trouble: Trouble::default(),
            });
            table.endpoints.push(Group {
                name,
                is_named: target.is_none(),
                is_resolving: false,
                resolution: Trouble::default(),
                addresses: addresses.into_iter().collect(),
            });
        }
        table
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn addresses(&self) -> impl Iterator<Item = &Address<C>> {
        self.endpoints.iter().flat_map(|group| &group.addresses)
    }

    fn addresses_mut(&mut self) -> impl Iterator<Item = &mut Address<C>> {
        self.endpoints.iter_mut().flat_map(|group| &mut group.addresses)
    }

    /// Returns the next connected address in turn that is not among `tried`. If there is none, the
    /// round begins again: `tried` keeps its last address only, which is used if it is the only one.
    pub(super) fn choose(&mut self, tried: &mut Vec<AddressId>) -> Option<Choice<C>> {
        let choice = self.next_connected(tried).or_else(|| {
            tried.drain(..tried.len().saturating_sub(1));
            self.next_connected(tried)
        });
        let (position, choice) = choice.or_else(|| self.next_connected(&[]))?;
        self.next = position + 1;
        if tried.last() != Some(&choice.address) {
            tried.push(choice.address);
        }
        Some(choice)
    }

    fn next_connected(&self, tried: &[AddressId]) -> Option<(usize, Choice<C>)> {
        let from = self.next.checked_rem(self.addresses().count()).unwrap_or(0);
        let numbered = || self.addresses().enumerate();
        let in_turn = numbered().skip(from).chain(numbered().take(from));
        let mut connected = in_turn.filter_map(|(position, address)| match &address.state {
            State::Connected(_, channel) => Some((position, address, channel)),
            State::Down | State::Dialing(_) => None,
        });
        let (position, address, channel) =
            connected.find(|(_, address, _)| !tried.contains(&address.id))?;
        let (label, channel) = (Arc::clone(&address.label), channel.clone());
        Some((position, Choice { address: address.id, label, channel }))
    }

    /// Returns whether an address is not among `tried`.
    pub(super) fn has_other(&self, tried: &[AddressId]) -> bool {
        self.addresses().any(|address| !tried.contains(&address.id))
    }

    /// Returns whether the result of a step is awaited.
    pub(super) fn is_connecting(&self) -> bool {
        self.endpoints.iter().any(|group| group.is_resolving)
            || self.addresses().any(|address| matches!(address.state, State::Dialing(_)))
    }

    /// Returns the number of addresses, and of names without any.
    pub(super) fn len(&self) -> usize {
        self.endpoints.iter().map(|group| group.addresses.len().max(1)).sum()
    }

    /// Begins to connect what is not connected. A name is resolved before its addresses are dialed.
    pub(super) fn begin(&mut self, scope: Scope, now: Instant) -> Vec<Work> {
        let mut work = Vec::new();
        for endpoint in 0..self.endpoints.len() {
            let Some(group) = self.endpoints.get_mut(endpoint) else { continue };
            if !group.is_named {
                work.extend(self.dial(endpoint, scope, now));
                continue;
            }
            let is_down = |address: &Address<C>| {
                matches!(address.state, State::Down) && address.trouble.is_due(scope, now)
            };
            let is_wanted = group.addresses.is_empty() || group.addresses.iter().any(is_down);
            if is_wanted && !group.is_resolving && group.resolution.is_due(scope, now) {
                group.is_resolving = true;
                work.push(Work::Resolve { endpoint, scope });
            }
        }
        work
    }

    fn dial(&mut self, endpoint: usize, scope: Scope, now: Instant) -> Vec<Work> {
        let mut last_id = self.last_id;
        let group = self.endpoints.get_mut(endpoint);
        let mut work = Vec::new();
        for address in group.into_iter().flat_map(|group| &mut group.addresses) {
            if matches!(address.state, State::Down) && address.trouble.is_due(scope, now) {
                last_id += 1;
                address.state = State::Dialing(last_id);
                let target = address.target.clone();
                work.push(Work::Dial { endpoint, connection: last_id, target });
            }
        }
        self.last_id = last_id;
        work
    }

    /// Records the addresses of a name, and begins to dial them. After an error, those of the last
    /// answer stay. Returns the connections to addresses that the name no longer has.
    pub(super) fn resolved(
        &mut self,
        endpoint: usize,
        result: Result<Vec<SocketAddr>, Status>,
        scope: Scope,
        now: Instant,
        jitter: f64,
    ) -> (Vec<Work>, Vec<C>) {
        let mut dropped = Vec::new();
        match result {
            Ok(found) => dropped = self.replace(endpoint, &found),
            Err(status) => self.unresolved(endpoint, status, now, jitter),
        }
        if let Some(group) = self.endpoints.get_mut(endpoint) {
            group.is_resolving = false;
        }
        (self.dial(endpoint, scope, now), dropped)
    }

    /// Records that a name cannot be resolved.
    pub(super) fn unresolved(
        &mut self,
        endpoint: usize,
        status: Status,
        now: Instant,
        jitter: f64,
    ) {
        let Some(group) = self.endpoints.get_mut(endpoint) else { return };
        group.is_resolving = false;
        let delay = self.backoff.after(group.resolution.failures, jitter);
        group.resolution.fail(status, delay, now);
    }

    fn replace(&mut self, endpoint: usize, found: &[SocketAddr]) -> Vec<C> {
        let mut last_id = self.last_id;
        let Some(group) = self.endpoints.get_mut(endpoint) else { return Vec::new() };
        group.resolution = Trouble::default();
        let mut old = std::mem::take(&mut group.addresses);
        let target_is = |address: &Address<C>, ip: &SocketAddr| matches!(&address.target, Target::Tcp(target) if target == ip);
        for ip in found {
            let label = match found.len() {
                1 => Arc::clone(&group.name),
                _ => label(&group.name, ip).into(),
            };
            let known = old.iter().position(|address| target_is(address, ip));
            group.addresses.push(match known {
                Some(index) => Address { label, ..old.swap_remove(index) },
                None => {
                    last_id += 1;
                    let target = Target::Tcp(*ip);
                    let trouble = Trouble::default();
                    Address { id: last_id, label, target, state: State::Down, trouble }
                }
            });
        }
        self.last_id = last_id;
        let connected = old.into_iter().filter_map(|address| match address.state {
            State::Connected(_, channel) => Some(channel),
            State::Down | State::Dialing(_) => None,
        });
        connected.collect()
    }

    /// Records the result of a dial.
    pub(super) fn dialed(
        &mut self,
        connection: ConnectionId,
        result: Result<C, Status>,
        now: Instant,
        jitter: f64,
    ) {
        let backoff = self.backoff;
        let mut addresses = self.addresses_mut();
        let dialing = addresses.find(
            |address| matches!(address.state, State::Dialing(current) if current == connection),
        );
        // Otherwise the name no longer has the address.
        let Some(address) = dialing else { return };
        match result {
            Ok(channel) => address.state = State::Connected(connection, channel),
            Err(status) => {
                address.state = State::Down;
                let delay = backoff.after(address.trouble.failures, jitter);
                address.trouble.fail(status, delay, now);
            }
        }
    }

    /// Records the end of a connection, and returns it. After one that has answered, the address is
    /// dialed again at once, and otherwise after a delay.
    pub(super) fn lost(
        &mut self,
        connection: ConnectionId,
        has_answered: bool,
        status: Status,
        now: Instant,
        jitter: f64,
    ) -> Option<C> {
        let backoff = self.backoff;
        let mut addresses = self.addresses_mut();
        let address = addresses.find(
            |address| matches!(address.state, State::Connected(current, _) if current == connection),
        )?;
        if has_answered {
            address.trouble = Trouble { newest: Some(status), ..Trouble::default() };
        } else {
            let delay = backoff.after(address.trouble.failures, jitter);
            address.trouble.fail(status, delay, now);
        }
        match std::mem::replace(&mut address.state, State::Down) {
            State::Connected(_, channel) => Some(channel),
            State::Down | State::Dialing(_) => None,
        }
    }

    /// Returns the newest failure of each address that is not connected, and of each name that has none.
    pub(super) fn failures(&self) -> Vec<(Arc<str>, Status)> {
        let mut failures = Vec::new();
        for group in &self.endpoints {
            if group.addresses.is_empty() {
                failures.extend(failure(&group.name, &group.resolution));
            }
            for address in &group.addresses {
                if !matches!(address.state, State::Connected(..)) {
                    failures.extend(failure(&address.label, &address.trouble));
                }
            }
        }
        failures
    }
}

fn failure(label: &Arc<str>, trouble: &Trouble) -> Option<(Arc<str>, Status)> {
    trouble.newest.clone().map(|status| (Arc::clone(label), status))
}
