//! The registry of one server's metrics.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::name;

#[derive(Clone)]
pub(super) struct MetricRegistry(Arc<PrometheusRecorder>);

impl MetricRegistry {
    pub(super) fn new() -> Self {
        let recorder = recorder();
        name::describe(&recorder);
        Self(Arc::new(recorder))
    }

    pub(super) fn prometheus(&self) -> PrometheusHandle {
        self.0.handle()
    }

    fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
        let labels = labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned()));
        Key::from_parts(name, labels.collect::<Vec<_>>())
    }

    fn metadata() -> Metadata<'static> {
        Metadata::new(module_path!(), Level::INFO, Some(module_path!()))
    }

    pub(super) fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.0.register_counter(&Self::key(name, labels), &Self::metadata())
    }

    pub(super) fn histogram(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        self.0.register_histogram(&Self::key(name, labels), &Self::metadata())
    }

    pub(super) fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.0.register_gauge(&Self::key(name, labels), &Self::metadata())
    }
}

fn recorder() -> PrometheusRecorder {
    let builder = [
        (name::RPC_SECONDS, name::RPC_BUCKETS),
        (name::STORE_APPEND_SECONDS, name::APPEND_BUCKETS),
        (name::STORE_COMMIT_APPENDS, name::COMMIT_BUCKETS),
    ]
    .into_iter()
    .try_fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)
    });
    // This fails only for an empty list of buckets, and none of these is empty.
    builder.unwrap_or_default().build_recorder()
}

/// Adds to a counter, if there is one for the value.
pub(super) fn increment(counter: Option<&Counter>, by: u64) {
    if let Some(counter) = counter {
        counter.increment(by);
    }
}

/// Returns a counter for each value.
pub(super) fn by_value<T: Copy + Eq + Hash>(
    values: &[T],
    counter: impl Fn(T) -> Counter,
) -> HashMap<T, Counter> {
    values.iter().map(|value| (*value, counter(*value))).collect()
}
