//! Notifications to the service manager, which is systemd in most cases.
//!
//! Nothing is sent unless the manager has set `NOTIFY_SOCKET`, as it does for a unit of `Type=notify`.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{Vitals, config::Environment},
    cli::print::text::count,
};

/// The longest time between two looks at the server. The manager's watchdog may ask for a shorter one.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest one: a watchdog that asks for less is a mistake, and must not keep a core busy.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The time that a stop waits for a manager that doesn't read.
const SEND_MAX: Duration = Duration::from_secs(1);

/// The time that a stop takes beyond `drain`, with a margin: processes get TERM, time, and KILL.
const STOP_TIME: Duration = Duration::from_secs(15);

/// Reports the state of the server to the service manager.
pub(super) struct Notifier {
    vitals: Vitals,
    /// The addresses of the server, in words.
    addresses: String,
    drain: Duration,
    /// The time after which the manager restarts a server that is silent, if it does.
    watchdog: Option<Duration>,
    /// True if there is a manager that listens.
    is_enabled: bool,
}

impl Notifier {
    /// Creates a notifier of a server with these addresses.
    pub(super) fn new(vitals: Vitals, addresses: &[String], drain: Duration) -> Self {
        Self {
            vitals,
            addresses: addresses.join(" and "),
            drain,
            watchdog: sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero()),
            is_enabled: Environment::capture().get("NOTIFY_SOCKET").is_some(),
        }
    }

    /// Reports that the server is ready once it serves, and looks at it from then on. A sign of life is
    /// sent only where it is well, so that the watchdog restarts a server that hangs, or whose store
    /// takes no changes until then.
    pub(super) async fn follow(&self, stop: &CancellationToken) -> Infallible {
        if !self.is_enabled {
            return std::future::pending().await;
        }
        self.vitals.ready().await;
        let mut status = self.serving();
        self.send(vec!["READY=1".to_owned(), status.clone()]).await;
        let half = self.watchdog.map_or(LOOK_INTERVAL, |interval| interval / 2);
        let period = half.clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL);
        let mut looks = interval_at(Instant::now() + period, period);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let checked = self.vitals.check().await;
            let mut states = Vec::new();
            if self.watchdog.is_some() && checked.is_ok() {
                states.push("WATCHDOG=1".to_owned());
            }
            let now = match checked {
                _ if stop.is_cancelled() => self.stopping(),
                Ok(()) => self.serving(),
                Err(error) => status_of(&format!("not serving: {error}")),
            };
            if now != status {
                status.clone_from(&now);
                states.push(now);
            }
            if !states.is_empty() {
                self.send(states).await;
            }
        }
    }

    /// Reports that the server is about to stop, and how much time it needs for that.
    pub(super) async fn announce_stop(&self) {
        if !self.is_enabled {
            return;
        }
        let time = format!("EXTEND_TIMEOUT_USEC={}", (self.drain + STOP_TIME).as_micros());
        let sending = self.send(vec!["STOPPING=1".to_owned(), self.stopping(), time]);
        if timeout(SEND_MAX, sending).await.is_err() {
            tracing::warn!("the service manager does not read: it was not notified of the stop");
        }
    }

    fn serving(&self) -> String {
        let calls = count(self.vitals.running_calls(), "running call");
        status_of(&format!("serving on {}: {calls}", self.addresses))
    }

    fn stopping(&self) -> String {
        status_of(&format!("stopping: {}", count(self.vitals.running_calls(), "running call")))
    }

    /// Sends states in one message. The socket of a manager that doesn't read blocks: that must not
    /// delay what else this task does, such as accepting connections.
    async fn send(&self, states: Vec<String>) {
        let sent = tokio::task::spawn_blocking(move || {
            let states: Vec<_> = states.iter().map(|state| NotifyState::Custom(state)).collect();
            sd_notify::notify(&states)
        });
        if let Ok(Err(error)) = sent.await {
            tracing::warn!(%error, "the service manager cannot be notified: see NOTIFY_SOCKET");
        }
    }
}

/// Returns a text for people as a state, which has one line.
fn status_of(text: &str) -> String {
    format!("STATUS={}", text.replace(['\n', '\r'], " "))
}
