//! The metrics of callpark's services on HTTP/1.

use super::label::{HttpRefusal, HttpService};
use super::metrics::GaugeGuard;
use super::{Metrics, name};

impl Metrics {
    /// Counts a connection of a service as open until the guard is dropped.
    pub fn open_http_connection(&self, service: HttpService) -> GaugeGuard {
        let labels = [("service", service.as_str())];
        GaugeGuard::new(&self.registry().gauge(name::HTTP_CONNECTIONS_OPEN, &labels))
    }

    /// Counts a connection of a service that was closed without use, or before its end.
    pub fn http_connection_refused(&self, service: HttpService, reason: HttpRefusal) {
        let labels = [("service", service.as_str()), ("reason", reason.as_str())];
        self.registry().counter(name::HTTP_CONNECTIONS_REFUSED, &labels).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_service() {
        let metrics = Metrics::default();
        let open = metrics.open_http_connection(HttpService::Admin);
        metrics.http_connection_refused(HttpService::Agents, HttpRefusal::Displaced);
        let page = metrics.render();
        for line in [
            r#"callpark_http_connections_open{service="admin"} 1"#,
            r#"callpark_http_connections_refused_total{service="agents",reason="displaced"} 1"#,
        ] {
            assert!(page.lines().any(|l| l == line), "no line `{line}` in:\n{page}");
        }
        drop(open);
        let line = r#"callpark_http_connections_open{service="admin"} 0"#;
        assert!(metrics.render().lines().any(|l| l == line));
    }
}
