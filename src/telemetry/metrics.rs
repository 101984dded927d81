//! The counters, gauges and histograms of a server.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use super::label::{CallCap, ConnectionRefusal, LogSource, RecordKind};
use super::registry::{MetricRegistry, by_value, increment};
use super::rejected_credentials::RejectionLog;
use super::{FollowUpMetrics, QuotaMetrics, ReplicaMetrics, RpcMetrics, name};
use crate::model::{State, ToolKind};

/// The pause between two moves of histogram samples into their buckets, and the interval of the lines
/// about rejected credentials.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The method under which requests for unknown methods are counted. Callers choose their names, so
/// a series for each would have no bound.
const OTHER_METHOD: &str = "other";

/// A gauge that is one higher until this guard is dropped.
#[must_use = "the gauge falls when the guard is dropped"]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The metrics of a server.
///
/// A clone is a handle to the same metrics. Counting is an atomic addition to a counter that is
/// registered already.
#[derive(Clone)]
pub struct Metrics(Arc<Handles>);

struct Handles {
    prometheus: PrometheusHandle,
    rejections: RejectionLog,
    registry: MetricRegistry,
    calls_started: HashMap<ToolKind, Counter>,
    calls_parked: HashMap<ToolKind, Counter>,
    calls_finished: HashMap<(ToolKind, State), Counter>,
    calls_refused: HashMap<CallCap, Counter>,
    calls_live: Gauge,
    calls_running: Gauge,
    shims: Gauge,
    shim_runs: Gauge,
    shim_spooled_bytes: Gauge,
    requests_replayed: Counter,
    tasks_expired: Counter,
    records_unreadable: HashMap<RecordKind, Counter>,
    follow_ups: FollowUpMetrics,
    events_appended: Counter,
    sequences_trimmed: Counter,
    output_bytes_kept: Counter,
    output_bytes_dropped: Counter,
    store_append_seconds: Histogram,
    store_commit_appends: Histogram,
    clock_steps: [Counter; 2],
    log_reads: HashMap<LogSource, Counter>,
    rpcs: HashMap<String, RpcMetrics>,
    other_rpcs: RpcMetrics,
    replicas: ReplicaMetrics,
    quotas: QuotaMetrics,
    streams_open: Gauge,
    connections_open: Gauge,
    connections_accepted: Counter,
    connections_refused: HashMap<ConnectionRefusal, Counter>,
    accept_errors: Counter,
}

impl Default for Metrics {
    /// Creates metrics without names of methods: all RPCs are counted as `other`.
    fn default() -> Self {
        Self::new(std::iter::empty::<String>())
    }
}

impl Metrics {
    /// Creates the metrics of a server that has these methods, each as `package.Service/Method`.
    pub fn new(methods: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let registry = MetricRegistry::new();
        let of_kind = |name| {
            by_value(ToolKind::ALL, |kind| registry.counter(name, &[("tool_kind", kind.as_str())]))
        };
        let output =
            |disposition| registry.counter(name::OUTPUT_BYTES, &[("disposition", disposition)]);
        Self(Arc::new(Handles {
            prometheus: registry.prometheus(),
            rejections: RejectionLog::default(),
            calls_started: of_kind(name::CALLS_STARTED),
            calls_parked: of_kind(name::CALLS_PARKED),
            calls_finished: calls_finished(&registry),
            calls_refused: by_value(CallCap::ALL, |cap| {
                registry.counter(name::CALLS_REFUSED, &[("cap", cap.as_str())])
            }),
            calls_live: registry.gauge(name::CALLS_LIVE, &[]),
            calls_running: registry.gauge(name::CALLS_RUNNING, &[]),
            shims: registry.gauge(name::SHIMS, &[]),
            shim_runs: registry.gauge(name::SHIM_RUNS, &[]),
            shim_spooled_bytes: registry.gauge(name::SHIM_SPOOLED_BYTES, &[]),
            requests_replayed: registry.counter(name::REQUESTS_REPLAYED, &[]),
            tasks_expired: registry.counter(name::TASKS_EXPIRED, &[]),
            records_unreadable: by_value(RecordKind::ALL, |kind| {
                registry.counter(name::RECORDS_UNREADABLE, &[("record", kind.as_str())])
            }),
            follow_ups: FollowUpMetrics::new(&registry),
            events_appended: registry.counter(name::EVENTS_APPENDED, &[]),
            sequences_trimmed: registry.counter(name::SEQUENCES_TRIMMED, &[]),
            output_bytes_kept: output("kept"),
            output_bytes_dropped: output("dropped"),
            store_append_seconds: registry.histogram(name::STORE_APPEND_SECONDS, &[]),
            store_commit_appends: registry.histogram(name::STORE_COMMIT_APPENDS, &[]),
            clock_steps: ["back", "forward"]
                .map(|direction| registry.counter(name::CLOCK_STEPS, &[("direction", direction)])),
            log_reads: by_value(LogSource::ALL, |source| {
                registry.counter(name::LOG_READS, &[("source", source.as_str())])
            }),
            rpcs: methods
                .into_iter()
                .map(Into::into)
                .map(|method: String| (method.clone(), RpcMetrics::new(&registry, &method)))
                .collect(),
            other_rpcs: RpcMetrics::new(&registry, OTHER_METHOD),
            replicas: ReplicaMetrics::new(&registry),
            quotas: QuotaMetrics::new(&registry),
            streams_open: registry.gauge(name::STREAMS_OPEN, &[]),
            connections_open: registry.gauge(name::CONNECTIONS_OPEN, &[]),
            connections_accepted: registry.counter(name::CONNECTIONS_ACCEPTED, &[]),
            connections_refused: by_value(ConnectionRefusal::ALL, |reason| {
                registry.counter(name::CONNECTIONS_REFUSED, &[("reason", reason.as_str())])
            }),
            accept_errors: registry.counter(name::ACCEPT_ERRORS, &[]),
            registry,
        }))
    }

    pub(super) fn registry(&self) -> &MetricRegistry {
        &self.0.registry
    }

    /// Renders all metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.0.prometheus.render()
    }

    /// Moves the samples of the histograms into their buckets and writes the number of rejected
    /// credentials that had no line, every five seconds until `stop`. Without it the samples accumulate
    /// between one [`Metrics::render`] and the next.
    pub async fn upkeep(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL)).await.is_some() {
            self.0.prometheus.run_upkeep();
            self.0.rejections.begin_interval();
        }
        self.0.rejections.begin_interval();
    }

    /// Logs that the credentials of a request were rejected: `missing`, `invalid`, `expired` or
    /// `revoked`.
    pub fn credentials_rejected(&self, reason: &'static str, peer: Option<&dyn fmt::Display>) {
        self.0.rejections.rejected(reason, peer);
    }

    /// Counts a call that was accepted.
    pub fn call_started(&self, kind: ToolKind) {
        increment(self.0.calls_started.get(&kind), 1);
    }

    /// Counts a call that was parked.
    pub fn call_parked(&self, kind: ToolKind) {
        increment(self.0.calls_parked.get(&kind), 1);
    }

    /// Counts a call that ended in this terminal state. Other states are ignored.
    pub fn call_finished(&self, kind: ToolKind, state: State) {
        increment(self.0.calls_finished.get(&(kind, state)), 1);
    }

    /// Counts a call that was refused before it started.
    pub fn call_refused(&self, cap: CallCap) {
        increment(self.0.calls_refused.get(&cap), 1);
    }

    /// Adds `change` to the number of live calls.
    pub fn live_calls_changed(&self, change: i32) {
        self.0.calls_live.increment(f64::from(change));
    }

    /// Counts a call as running until the guard is dropped.
    pub fn running_call(&self) -> GaugeGuard {
        GaugeGuard::new(&self.0.calls_running)
    }

    /// Shows the number of shims, of their runs, and of the bytes that they had in files when this
    /// server connected.
    pub fn shims(&self, shims: usize, runs: usize, spooled_bytes: u64) {
        // Beyond 2^53 the numbers are rounded.
        let gauge = |gauge: &Gauge, number: u64| gauge.set(number as f64);
        gauge(&self.0.shims, shims as u64);
        gauge(&self.0.shim_runs, runs as u64);
        gauge(&self.0.shim_spooled_bytes, spooled_bytes);
    }

    /// Counts a request that was answered from the record of an earlier one.
    pub fn request_replayed(&self) {
        self.0.requests_replayed.increment(1);
    }

    /// Counts tasks that were removed after their retention.
    pub fn tasks_expired(&self, tasks: u64) {
        self.0.tasks_expired.increment(tasks);
    }

    /// Counts a record that could not be read back.
    pub fn record_unreadable(&self, kind: RecordKind) {
        increment(self.0.records_unreadable.get(&kind), 1);
    }

    /// Returns the metrics of follow-ups.
    pub fn follow_ups(&self) -> &FollowUpMetrics {
        &self.0.follow_ups
    }

    /// Counts events that were appended to a log.
    pub fn events_appended(&self, events: u64) {
        self.0.events_appended.increment(events);
    }

    /// Counts events that were removed from the beginning of a log.
    pub fn sequences_trimmed(&self, sequences: u64) {
        self.0.sequences_trimmed.increment(sequences);
    }

    /// Counts bytes of output that are kept and dropped.
    pub fn output(&self, kept: u64, dropped: u64) {
        self.0.output_bytes_kept.increment(kept);
        self.0.output_bytes_dropped.increment(dropped);
    }

    /// Records the time from sending an append to the store until it was durable.
    pub fn store_appended(&self, elapsed: Duration) {
        self.0.store_append_seconds.record(elapsed);
    }

    /// Records the number of appends in one commit of the store.
    pub fn store_committed(&self, appends: usize) {
        self.0.store_commit_appends.record(f64::from(u32::try_from(appends).unwrap_or(u32::MAX)));
    }

    /// Counts a step of the machine's clock, forward or back.
    pub fn clock_stepped(&self, forward: bool) {
        self.0.clock_steps[usize::from(forward)].increment(1);
    }

    /// Counts a page of a log that was read from `source`.
    pub fn log_read(&self, source: LogSource) {
        increment(self.0.log_reads.get(&source), 1);
    }

    /// Returns the metrics of a method, named as `package.Service/Method`, or those of `other` if it
    /// is unknown.
    pub fn rpc(&self, method: &str) -> &RpcMetrics {
        self.0.rpcs.get(method).unwrap_or(&self.0.other_rpcs)
    }

    /// Returns the metrics of a replica.
    pub fn replicas(&self) -> &ReplicaMetrics {
        &self.0.replicas
    }

    /// Returns the metrics of limits per tenant.
    pub fn quotas(&self) -> &QuotaMetrics {
        &self.0.quotas
    }

    /// Counts a response stream as open until the guard is dropped.
    pub fn open_stream(&self) -> GaugeGuard {
        GaugeGuard::new(&self.0.streams_open)
    }

    /// Counts a connection whose handshake succeeded, as open until the guard is dropped.
    pub fn open_connection(&self) -> GaugeGuard {
        self.0.connections_accepted.increment(1);
        GaugeGuard::new(&self.0.connections_open)
    }

    /// Counts a connection that was closed before it could be used.
    pub fn connection_refused(&self, reason: ConnectionRefusal) {
        increment(self.0.connections_refused.get(&reason), 1);
    }

    /// Counts a failure of the operating system to accept a connection.
    pub fn accept_failed(&self) {
        self.0.accept_errors.increment(1);
    }
}

fn calls_finished(registry: &MetricRegistry) -> HashMap<(ToolKind, State), Counter> {
    let mut counters = HashMap::new();
    for kind in ToolKind::ALL {
        for state in State::ALL.iter().filter(|state| state.is_terminal()) {
            let labels = [("tool_kind", kind.as_str()), ("state", state.as_str())];
            counters.insert((*kind, *state), registry.counter(name::CALLS_FINISHED, &labels));
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_line(metrics: &Metrics, line: &str) {
        let page = metrics.render();
        assert!(page.lines().any(|l| l == line), "no line `{line}` in:\n{page}");
    }

    #[test]
    fn two_servers_in_one_process_count_apart() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.call_started(ToolKind::Command);
        check_line(&one, r#"callpark_calls_started_total{tool_kind="command"} 1"#);
        check_line(&other, r#"callpark_calls_started_total{tool_kind="command"} 0"#);
    }

    #[test]
    fn the_end_of_a_call_is_counted_by_kind_and_state() {
        let metrics = Metrics::default();
        metrics.call_finished(ToolKind::BuiltIn, State::TimedOut);
        metrics.call_finished(ToolKind::BuiltIn, State::Running);
        check_line(
            &metrics,
            r#"callpark_calls_finished_total{tool_kind="built_in",state="timed_out"} 1"#,
        );
        assert!(!metrics.render().contains(r#"state="running""#));
    }

    #[test]
    fn a_gauge_falls_when_its_guard_is_dropped() {
        let metrics = Metrics::default();
        let stream = metrics.open_stream();
        check_line(&metrics, "callpark_streams_open 1");
        drop(stream);
        check_line(&metrics, "callpark_streams_open 0");
    }

    #[test]
    fn unknown_methods_add_no_series() {
        let metrics = Metrics::new(["callpark.v1.ToolRunner/RunTool"]);
        metrics.rpc("callpark.v1.ToolRunner/RunTool").finished(0, Duration::from_millis(3));
        metrics.rpc("evil/Name").finished(12, Duration::from_millis(3));
        metrics.rpc("evil/Other").finished(99, Duration::from_millis(3));
        check_line(
            &metrics,
            r#"callpark_rpc_requests_total{method="callpark.v1.ToolRunner/RunTool",code="OK"} 1"#,
        );
        check_line(
            &metrics,
            r#"callpark_rpc_requests_total{method="other",code="UNIMPLEMENTED"} 1"#,
        );
        check_line(&metrics, r#"callpark_rpc_requests_total{method="other",code="UNKNOWN"} 1"#);
        assert!(!metrics.render().contains("evil"));
    }

    #[test]
    fn latencies_fall_into_buckets() {
        let metrics = Metrics::default();
        metrics.store_appended(Duration::from_micros(700));
        metrics.store_committed(3);
        check_line(&metrics, r#"callpark_store_append_duration_seconds_bucket{le="0.0005"} 0"#);
        check_line(&metrics, r#"callpark_store_append_duration_seconds_bucket{le="0.001"} 1"#);
        check_line(&metrics, r#"callpark_store_commit_appends_bucket{le="4"} 1"#);
    }

    #[test]
    fn every_series_has_a_description() {
        let metrics = Metrics::new(["a/B"]);
        metrics.rpc("a/B").finished(0, Duration::ZERO);
        metrics.store_appended(Duration::ZERO);
        metrics.store_committed(1);
        let page = metrics.render();
        for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).expect("a name");
            assert!(page.contains(&format!("# HELP {name} ")), "{name} has no description");
        }
    }
}
