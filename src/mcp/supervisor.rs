//! Starts a server when it is wanted, and again when it has died, but not at once every time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::ServerConfig;
use super::connection::{ServerConnection, blame};
use super::open::open;
use crate::exec::Launcher;
use crate::telemetry::Metrics;

/// The pause after the second failure; it doubles with each further one. After the first there is
/// none.
const PAUSE: Duration = Duration::from_secs(1);
/// Where the doubling ends.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A server that has been there for so long has not failed by starting.
const PROVEN: Duration = Duration::from_secs(60);

/// What came of a start.
type StartResult = Result<Arc<ServerConnection>, String>;

/// Answers for one server.
pub(super) struct Supervisor {
    config: Arc<ServerConfig>,
    launcher: Launcher,
    metrics: Metrics,
    state: Mutex<SupervisorState>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Default)]
struct SupervisorState {
    /// Failures since it was last there for long.
    failures: u32,
    phase: ServerPhase,
}

#[derive(Default)]
enum ServerPhase {
    /// Nobody has asked for it.
    #[default]
    Idle,
    /// It is on its way.
    Starting(watch::Receiver<Option<StartResult>>),
    /// It was there, and may be gone.
    Up { connection: Arc<ServerConnection>, since: Instant },
    /// It isn't tried again before this moment.
    Pausing { reason: String, until: Instant },
}

impl Supervisor {
    pub(super) fn new(config: ServerConfig, launcher: Launcher, metrics: Metrics) -> Self {
        Self {
            config: Arc::new(config),
            launcher,
            metrics,
            state: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    pub(super) fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// The server, which is started if it has to be. An error says why there is none.
    pub(super) async fn connection(self: &Arc<Self>) -> StartResult {
        let mut starting = match self.look()? {
            Availability::Up(connection) => return Ok(connection),
            Availability::Starting(starting) => starting,
        };
        // The start goes on when those who wait for it leave.
        match starting.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(started)) => started.clone(),
            Ok(None) | Err(_) => Err(blame(&self.config.name, "callpark stops")),
        }
    }

    fn look(self: &Arc<Self>) -> Result<Availability, String> {
        let mut state = self.lock();
        let now = Instant::now();
        if let ServerPhase::Up { connection, since } = &state.phase
            && connection.is_closed()
        {
            let was_proven = now.duration_since(*since) >= PROVEN;
            let reason = connection.blame(connection.why());
            state.fail(reason, was_proven, now);
        }
        match &state.phase {
            ServerPhase::Up { connection, .. } => return Ok(Availability::Up(connection.clone())),
            ServerPhase::Starting(starting) => return Ok(Availability::Starting(starting.clone())),
            ServerPhase::Pausing { reason, until } if *until > now => {
                let left = until.duration_since(now).as_secs_f64();
                return Err(format!("{reason}; it is started again in {left:.1} s at the soonest"));
            }
            ServerPhase::Idle | ServerPhase::Pausing { .. } => {}
        }
        if self.closing.is_cancelled() {
            return Err(blame(&self.config.name, "callpark stops"));
        }
        let (started, starting) = watch::channel(None);
        state.phase = ServerPhase::Starting(starting.clone());
        self.tasks.spawn(self.clone().start(started));
        Ok(Availability::Starting(starting))
    }

    async fn start(self: Arc<Self>, started: watch::Sender<Option<StartResult>>) {
        let opening = open(&self.config, &self.launcher, &self.tasks);
        let opened = match self.closing.run_until_cancelled(opening).await {
            Some(opened) => {
                self.metrics.mcp_start(&self.config.name, opened.is_ok());
                opened.map_err(|reason| blame(&self.config.name, &reason))
            }
            None => Err(blame(&self.config.name, "callpark stops")),
        };
        let now = Instant::now();
        let opened = match opened {
            Ok((connection, running)) => {
                tracing::info!(server = self.config.name, "an MCP server is there");
                self.lock().phase = ServerPhase::Up { connection: connection.clone(), since: now };
                self.tasks.spawn(connection.clone().keep(running, self.closing.clone()));
                Ok(connection)
            }
            Err(reason) => {
                tracing::warn!(server = self.config.name, reason, "an MCP server can't be had");
                self.lock().fail(reason.clone(), false, now);
                Err(reason)
            }
        };
        // Those who waited may have left.
        started.send_replace(Some(opened));
    }

    /// Ends the server, and waits for its end.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn lock(&self) -> MutexGuard<'_, SupervisorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SupervisorState {
    fn fail(&mut self, reason: String, was_proven: bool, now: Instant) {
        self.failures = if was_proven { 1 } else { self.failures.saturating_add(1) };
        self.phase = ServerPhase::Pausing { reason, until: now + pause(self.failures) };
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        Some(doublings) => PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX),
        None => Duration::ZERO,
    }
}

/// How things stand.
enum Availability {
    Up(Arc<ServerConnection>),
    Starting(watch::Receiver<Option<StartResult>>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_a_minute() {
        let pauses: Vec<u64> = (1..=9).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }
}
