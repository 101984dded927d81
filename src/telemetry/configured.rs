//! Metrics by names of the configuration: models, agents and MCP servers.
//!
//! A series begins with its first count. Names that callers choose are never labels, because their
//! number has no bound.

use super::{Metrics, name};
use crate::model::Usage;

impl Metrics {
    /// Counts an attempt at a request to `model`, or at a turn of the agent of this name, with the
    /// stable name of its error if it failed.
    pub fn model_request(&self, model: &str, outcome: Result<(), &'static str>) {
        let outcome = outcome.err().unwrap_or("ok");
        self.count(name::MODEL_REQUESTS, &[("model", model), ("outcome", outcome)], 1);
    }

    /// Counts the usage that a model or an agent reported.
    pub fn model_used(&self, model: &str, usage: &Usage) {
        for (direction, tokens) in [
            ("input", usage.input_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("output", usage.output_tokens),
        ] {
            self.count(name::MODEL_TOKENS, &[("model", model), ("direction", direction)], tokens);
        }
    }

    /// Counts an answer of `model` whose reasoning or signatures were not kept.
    pub fn provider_data_dropped(&self, model: &str) {
        self.count(name::PROVIDER_DATA_DROPPED, &[("model", model)], 1);
    }

    /// Counts an attempt to start or reach the MCP server `server`.
    pub fn mcp_start(&self, server: &str, succeeded: bool) {
        let outcome = if succeeded { "started" } else { "failed" };
        self.count(name::MCP_STARTS, &[("server", server), ("outcome", outcome)], 1);
    }

    /// Counts a text of the MCP server `server` that is of no use.
    pub fn mcp_unreadable(&self, server: &str) {
        self.count(name::MCP_UNREADABLE, &[("server", server)], 1);
    }

    /// Counts a call that an agent made with its own tool and that was left out of the log.
    pub fn agent_call_left_out(&self, agent: &str) {
        self.count(name::AGENT_CALLS_LEFT_OUT, &[("model", agent)], 1);
    }

    fn count(&self, name: &'static str, labels: &[(&'static str, &str)], by: u64) {
        self.registry().counter(name, labels).increment(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_servers_are_counted_by_their_names() {
        let metrics = Metrics::default();
        metrics.model_request("main", Ok(()));
        metrics.model_request("main", Ok(()));
        metrics.model_request("main", Err("model_timeout"));
        let usage = Usage {
            input_tokens: 100,
            cached_input_tokens: 40,
            output_tokens: 10,
            ..Usage::default()
        };
        metrics.model_used("main", &usage);
        metrics.model_used("main", &usage);
        metrics.provider_data_dropped("main");
        metrics.mcp_start("files", true);
        metrics.mcp_start("files", false);
        metrics.mcp_unreadable("files");
        metrics.agent_call_left_out("copilot");
        let page = metrics.render();
        for line in [
            r#"callpark_model_requests_total{model="main",outcome="ok"} 2"#,
            r#"callpark_model_requests_total{model="main",outcome="model_timeout"} 1"#,
            r#"callpark_model_tokens_total{model="main",direction="input"} 200"#,
            r#"callpark_model_tokens_total{model="main",direction="cached_input"} 80"#,
            r#"callpark_model_tokens_total{model="main",direction="output"} 20"#,
            r#"callpark_model_data_dropped_total{model="main"} 1"#,
            r#"callpark_mcp_starts_total{server="files",outcome="started"} 1"#,
            r#"callpark_mcp_starts_total{server="files",outcome="failed"} 1"#,
            r#"callpark_mcp_unreadable_total{server="files"} 1"#,
            r#"callpark_agent_calls_left_out_total{model="copilot"} 1"#,
        ] {
            assert!(page.lines().any(|l| l == line), "no line `{line}` in:\n{page}");
        }
        for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).expect("a name");
            assert!(page.contains(&format!("# HELP {name} ")), "{name} has no description");
        }
    }
}
