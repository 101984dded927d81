//! The starts of a server: on first use, and again after it has ended, with growing pauses.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::ServerConfig;
use super::connection::server_error;
use super::open::open;
use super::running_server::RunningServer;
use crate::exec::Launcher;
use crate::telemetry::Metrics;

/// The pause after the second failure in a row. It doubles with each further one; there is none
/// after the first.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The uptime after which the end of a server counts as a first failure.
const STABLE_UPTIME: Duration = Duration::from_secs(60);

/// The result of a start. The error is a whole sentence.
type StartResult = Result<Arc<RunningServer>, String>;

/// Starts one server and keeps it running.
pub(super) struct Supervisor {
    config: Arc<ServerConfig>,
    launcher: Launcher,
    metrics: Metrics,
    /// A permit for each server that may start at the same time.
    starts: Arc<Semaphore>,
    state: Mutex<SupervisorState>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Default)]
struct SupervisorState {
    /// Failures since the server last ran for long.
    failures: u32,
    phase: ServerPhase,
}

/// A start that is under way.
#[derive(Clone)]
struct Starting {
    result: watch::Receiver<Option<StartResult>>,
    since: Instant,
}

#[derive(Default)]
enum ServerPhase {
    #[default]
    Idle,
    Starting(Starting),
    /// A server that was started and may have ended since.
    Up {
        server: Arc<RunningServer>,
        since: Instant,
    },
    /// The pause after an error. The server is not started again before `until`.
    Pausing {
        reason: String,
        until: Instant,
    },
}

impl Supervisor {
    pub(super) fn new(
        config: ServerConfig,
        launcher: Launcher,
        metrics: Metrics,
        starts: Arc<Semaphore>,
    ) -> Self {
        Self {
            config: Arc::new(config),
            launcher,
            metrics,
            starts,
            state: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    pub(super) fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Returns the server, started if it is not running.
    pub(super) async fn server(self: &Arc<Self>) -> StartResult {
        match self.availability()? {
            Availability::Up(server) => Ok(server),
            Availability::Starting(starting) => self.started(starting).await,
            Availability::Pausing { reason, until } => {
                let left = until.saturating_duration_since(Instant::now()).as_secs_f64();
                Err(format!("{reason}; it can be started again in {left:.1} s"))
            }
        }
    }

    /// Returns the server once it is running. Waits for the end of a pause, and fails only if a start
    /// that began after this call has failed.
    pub(super) async fn ready_server(self: &Arc<Self>) -> StartResult {
        let asked = Instant::now();
        loop {
            match self.availability()? {
                Availability::Up(server) => return Ok(server),
                Availability::Starting(starting) => {
                    let is_later = starting.since >= asked;
                    let started = self.started(starting).await;
                    if started.is_ok() || is_later || self.closing.is_cancelled() {
                        return started;
                    }
                }
                Availability::Pausing { until, .. } => {
                    let _ended = self.closing.run_until_cancelled(sleep_until(until)).await;
                }
            }
        }
    }

    /// Waits for the end of a start, which goes on without its callers.
    async fn started(&self, mut starting: Starting) -> StartResult {
        match starting.result.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(started)) => started.clone(),
            Ok(None) | Err(_) => Err(self.stopping()),
        }
    }

    fn stopping(&self) -> String {
        server_error(&self.config.name, "callpark is stopping")
    }

    fn availability(self: &Arc<Self>) -> Result<Availability, String> {
        let mut state = self.lock();
        let now = Instant::now();
        if let ServerPhase::Up { server, since } = &state.phase
            && server.connection.is_closed()
        {
            let was_stable = now.duration_since(*since) >= STABLE_UPTIME;
            let reason = server.connection.error(server.connection.close_reason());
            state.fail(reason, was_stable, now);
        }
        match &state.phase {
            ServerPhase::Up { server, .. } => return Ok(Availability::Up(server.clone())),
            ServerPhase::Starting(starting) => return Ok(Availability::Starting(starting.clone())),
            ServerPhase::Pausing { reason, until }
                if *until > now && !self.closing.is_cancelled() =>
            {
                return Ok(Availability::Pausing { reason: reason.clone(), until: *until });
            }
            ServerPhase::Idle | ServerPhase::Pausing { .. } => {}
        }
        if self.closing.is_cancelled() {
            return Err(self.stopping());
        }
        let (started, result) = watch::channel(None);
        let starting = Starting { result, since: now };
        state.phase = ServerPhase::Starting(starting.clone());
        self.tasks.spawn(self.clone().start(started));
        Ok(Availability::Starting(starting))
    }

    async fn start(self: Arc<Self>, started: watch::Sender<Option<StartResult>>) {
        let opening = async {
            // Never closed.
            let _permit = self.starts.acquire().await;
            open(&self.config, &self.launcher, &self.metrics, &self.tasks).await
        };
        let opened = match self.closing.run_until_cancelled(opening).await {
            Some(opened) => {
                self.metrics.mcp_start(&self.config.name, opened.is_ok());
                opened.map_err(|reason| server_error(&self.config.name, &reason))
            }
            None => Err(self.stopping()),
        };
        let now = Instant::now();
        let opened = match opened {
            Ok((server, parts)) => {
                tracing::info!(server = self.config.name, "an MCP server has started");
                self.lock().phase = ServerPhase::Up { server: server.clone(), since: now };
                self.tasks.spawn(server.connection.clone().keep(parts, self.closing.clone()));
                Ok(server)
            }
            Err(reason) => {
                tracing::warn!(
                    server = self.config.name,
                    reason,
                    "an MCP server could not be started"
                );
                self.lock().fail(reason.clone(), false, now);
                Err(reason)
            }
        };
        // The callers may have gone away.
        started.send_replace(Some(opened));
    }

    /// Ends the server, and waits until it has ended.
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
    fn fail(&mut self, reason: String, was_stable: bool, now: Instant) {
        self.failures = if was_stable { 1 } else { self.failures.saturating_add(1) };
        self.phase = ServerPhase::Pausing { reason, until: now + pause(self.failures) };
    }
}

/// Returns the pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        Some(doublings) => PAUSE_MIN.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX),
        None => Duration::ZERO,
    }
}

enum Availability {
    Up(Arc<RunningServer>),
    Starting(Starting),
    /// The server is not started again before `until`.
    Pausing {
        reason: String,
        until: Instant,
    },
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
