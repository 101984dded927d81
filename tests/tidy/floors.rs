//! Imports run downward only.

use crate::paths::{Named, paths};
use crate::{Source, check, rust};

/// The folders of `src/` and their floors, as ARCHITECTURE.md has them. A folder may name itself
/// and what lies below its floor; those of one floor don't know each other.
const FLOORS: [(&str, u8); 18] = [
    ("cli", 6),
    ("app", 5),
    ("rpc", 4),
    ("engine", 3),
    ("mcp", 3),
    ("acp", 3),
    ("audit", 3),
    ("agent", 2),
    ("store", 2),
    ("tool", 2),
    ("auth", 2),
    ("http_server", 2),
    ("quota", 2),
    ("exec", 1),
    ("machine", 1),
    ("telemetry", 1),
    ("model", 0),
    ("redact", 0),
];

fn floor(folder: &str) -> Option<u8> {
    FLOORS.into_iter().find(|(name, _)| *name == folder).map(|(_, floor)| floor)
}

#[test]
fn imports_run_downward_only() {
    let mut broken = Vec::new();
    for source in rust().iter().filter(|source| source.is_in(&["src/"])) {
        let Some((folder, _)) = source.path["src/".len()..].split_once('/') else { continue };
        let Some(own) = floor(folder) else {
            broken.push(format!("{}: `{folder}` has no floor", source.path));
            continue;
        };
        for named in paths(&source.code()) {
            let Some(other) = folder_of(source, &named) else { continue };
            if other != folder && floor(other).is_some_and(|other| other >= own) {
                let path = named.segments.join("::");
                broken.push(format!("{}:{}: `{path}`", source.path, named.line));
            }
        }
    }
    check("a folder names only itself and the floors below it (ARCHITECTURE.md)", &broken);
}

/// The folder of `src/` that a path leads to, by `crate::` or by as many `super::` as it takes.
fn folder_of<'a>(source: &Source, named: &'a Named) -> Option<&'a str> {
    let segments = &named.segments;
    if named.starts_with("crate") {
        return segments.get(1).map(String::as_str);
    }
    let module = source.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
    let depth = module.split('/').count() - 1;
    let ups = segments.iter().take_while(|segment| *segment == "super").count();
    (ups == depth).then(|| segments.get(ups).map(String::as_str)).flatten()
}

#[test]
fn the_machine_is_a_pure_function() {
    let forbidden = [
        "tokio",
        "futures",
        "rand",
        "uuid",
        "tracing",
        "std::fs",
        "std::io",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::sync",
        "std::time::Instant",
        "std::time::SystemTime",
        "async",
        "await",
    ];
    let mut broken = Vec::new();
    let sources = rust().into_iter().filter(|source| source.is_in(&["src/machine/"]));
    for source in sources.filter(|source| !source.is_in(&["src/machine/tests"])) {
        for named in paths(&source.code()) {
            if forbidden.iter().any(|path| named.starts_with(path)) {
                let path = named.segments.join("::");
                broken.push(format!("{}:{}: `{path}`", source.path, named.line));
            }
        }
    }
    check("machine/ does no I/O and knows no clock, chance, thread or task", &broken);
}
