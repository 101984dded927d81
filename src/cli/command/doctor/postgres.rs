//! The store in a PostgreSQL database.

use super::Finding;
use crate::app::config::Config;
use crate::app::postgres_options;
use crate::store::{PostgresReport, inspect_postgres};

const CHECK: &str = "store";

/// Checks the database of a configuration, if it has one.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let options = match postgres_options(config) {
        Ok(Some(options)) => options,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Finding::problem(CHECK, error.to_string(), "")],
    };
    match inspect_postgres(&options).await {
        Ok(report) => vec![describe(&report)],
        Err(error) => vec![Finding::problem(CHECK, error.to_string(), "")],
    }
}

fn describe(report: &PostgresReport) -> Finding {
    let PostgresReport { name, version, schema, known_schema, is_read_only, holder } = report;
    let place = format!("PostgreSQL {version} at {name}");
    if *is_read_only {
        let remedy = "name the primary in the URL, or end the read-only mode";
        return Finding::problem(CHECK, format!("{place} takes no writes"), remedy);
    }
    if schema > known_schema {
        return Finding::problem(
            CHECK,
            format!(
                "{place} has schema {schema}, and this program knows none newer than {known_schema}"
            ),
            "start the newer server again, or choose another database",
        );
    }
    let state = match schema {
        0 => "there is no schema yet: the server creates it".to_owned(),
        schema => format!("schema {schema}"),
    };
    let user = match holder {
        Some(holder) => format!("in use{holder}"),
        None => "not in use".to_owned(),
    };
    Finding::ok(CHECK, format!("{place}: {state}, {user}"))
}
