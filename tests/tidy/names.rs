//! The home of each technique: the only folders that may name it.

use std::collections::BTreeSet;

use crate::paths::paths;
use crate::{check, rust, sources};

/// A path, and where in `src/` it may be named.
const HOMES: [(&str, &[&str]); 37] = [
    // The wire. The command line gets messages from callpark-client, and their JSON by reflection.
    ("tonic", &["src/rpc/", "src/app/"]),
    ("tonic_health", &["src/app/", "src/rpc/forward/"]),
    ("tonic_reflection", &["src/app/"]),
    ("tonic_types", &["src/rpc/", "src/app/"]),
    ("prost", &["src/rpc/", "src/app/", "src/exec/shim/"]),
    ("prost_types", &["src/rpc/", "src/app/", "src/cli/"]),
    ("prost_reflect", &["src/cli/print/json.rs"]),
    ("callpark_proto", &["src/rpc/", "src/app/", "src/cli/print/json.rs"]),
    ("callpark_client", &["src/cli/"]),
    ("axum", &["src/app/", "src/acp/", "src/http_server/"]),
    ("hyper", &["src/http_server/", "src/rpc/forward/"]),
    ("h2", &["src/rpc/forward/"]),
    (
        "rustls",
        &[
            "src/app/",
            "src/mcp/",
            "src/agent/openai/",
            "src/auth/jwt/",
            "src/store/postgres/options.rs",
        ],
    ),
    ("jsonwebtoken", &["src/auth/jwt/"]),
    ("ring", &["src/auth/jwt/"]),
    ("governor", &["src/quota/"]),
    // The databases.
    ("rusqlite", &["src/store/sqlite/"]),
    ("tokio_postgres", &["src/store/postgres/"]),
    ("tokio_postgres_rustls", &["src/store/postgres/options.rs"]),
    ("deadpool_postgres", &["src/store/postgres/"]),
    ("rmcp", &["src/mcp/", "src/acp/"]),
    ("agent_client_protocol", &["src/acp/"]),
    ("reqwest", &["src/mcp/", "src/agent/", "src/auth/jwt/"]),
    ("sse_stream", &["src/mcp/"]),
    ("rmcp_sse_stream", &["src/mcp/"]),
    ("refinery", &["src/store/sqlite/", "src/store/postgres/schema.rs"]),
    // Processes.
    ("tokio::process", &["src/exec/"]),
    ("std::process::Command", &["src/exec/"]),
    ("std::os::unix::process", &["src/exec/"]),
    ("close_fds", &["src/exec/"]),
    // The command line.
    ("clap", &["src/cli/"]),
    ("clap_complete", &["src/cli/"]),
    ("indicatif", &["src/cli/"]),
    ("sd_notify", &["src/cli/command/serve/notify.rs"]),
    // What comes from around the process.
    ("std::env", &["src/app/config/"]),
    ("std::time::SystemTime::now", WALL_CLOCK),
    ("SystemTime::now", WALL_CLOCK),
];

/// The engine, and the comparison with the times of files.
const WALL_CLOCK: &[&str] = &["src/engine/clock.rs", "src/store/sqlite/continuity.rs"];

#[test]
fn each_technique_has_one_home() {
    let mut broken = Vec::new();
    for source in rust().iter().filter(|source| source.is_in(&["src/"])) {
        for named in paths(&source.code()) {
            let strays = HOMES.iter().filter(|(path, homes)| {
                named.segments.len() > 1 && named.starts_with(path) && !source.is_in(homes)
            });
            broken.extend(strays.map(|(path, homes)| {
                let homes = homes.join(" and ");
                format!("{}:{}: `{path}` belongs to {homes}", source.path, named.line)
            }));
        }
    }
    check("what is named outside its home", &broken);
}

#[test]
fn every_command_has_its_file() {
    let source = sources(&["src/machine/command.rs"], "rs").pop().expect("the commands");
    let code = source.code();
    let (_, body) = code.split_once("enum Command {").expect("the enum");
    let (body, _) = body.split_once("\n}").expect("its end");
    let variants = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?;
        name.starts_with(|c: char| c.is_ascii_uppercase()).then(|| snake_case(name))
    });
    let variants: BTreeSet<String> = variants.collect();
    let files = sources(&["src/machine/decide"], "rs").into_iter().filter_map(|source| {
        let name = source.path.strip_prefix("src/machine/decide/")?.strip_suffix(".rs")?;
        (name != "mod").then(|| name.to_owned())
    });
    let files: BTreeSet<String> = files.collect();
    let differences: Vec<String> = variants.symmetric_difference(&files).cloned().collect();
    check("a variant of Command without a file in machine/decide/, or the reverse", &differences);
}

/// The name at the start of a variant's line, as its file is named.
fn snake_case(line: &str) -> String {
    let name = line.chars().take_while(char::is_ascii_alphanumeric);
    let mut snake = String::new();
    for c in name {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
