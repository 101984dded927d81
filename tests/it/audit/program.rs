//! The audit log of a server in a process of its own, and `callpark audit verify`.

use std::io::Write as _;
use std::path::Path;

use futures::future::join_all;
use serde_json::json;

use super::lines;
use crate::support::program::{Program, Site};
use crate::support::small_disk::SmallDisk;
use crate::support::{bash, soon, v1};

/// Runs so many calls at the same time, whatever becomes of them.
async fn flood(server: &Program, count: usize) {
    let clients = server.connect();
    let calls = (0..count).map(|_| {
        let mut tools = clients.tools.clone();
        async move { tools.create_session(v1::CreateSessionRequest::default()).await.is_ok() }
    });
    join_all(calls).await;
}

#[tokio::test]
async fn the_chain_goes_on_after_a_crash_and_says_so_if_it_was_broken() {
    let site = Site::new();
    let path = site.folder().join("audit.jsonl");
    let file = path.display().to_string();
    let flags = ["--audit-file", &file, "--audit-bytes-max", "64KiB", "--audit-files", "100"];
    for round in 0..3 {
        let server = site.serve(&flags).await;
        flood(&server, 200).await;
        let kill = async {
            // While it writes.
            tokio::join!(flood(&server, 200), async {
                super::soon("a line", async {
                    while lines(&path).is_empty() {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
                server.live.signal(rustix::process::Signal::KILL);
            });
        };
        kill.await;
        server.live.ended().await;
        // A crash rarely tears a line by itself.
        let mut log = std::fs::OpenOptions::new().append(true).open(&path).expect("a file");
        write!(log, "{{\"sequence\":{round}").expect("written");
    }
    let server = site.serve(&flags).await;
    flood(&server, 1).await;
    server.terminate().await;
    let mut command = site.command(&["audit", "verify"]);
    command.env("CALLPARK_AUDIT_FILE", &path);
    let verified = crate::support::program::run(command).await.exits(0);
    let (sequence, hash) = verified.line().split_once(' ').expect("a hash");
    assert!(sequence.parse::<u64>().expect("a number") > 300, "{verified}");
    assert!(verified.stderr().contains("42 bytes were damaged"), "{verified}");
    let hash = hash.to_owned();
    let files = all_files(&path);
    assert!(files.len() > 3, "{files:?}");
    let mut arguments = vec!["audit", "verify", "--hash", &hash];
    arguments.extend(files.iter().map(String::as_str));
    site.run(&arguments).await.exits(0);
    arguments[3] = "00";
    let missing = site.run(&arguments).await.exits(1);
    assert!(missing.stderr().contains("no line of it has the hash 00"), "{missing}");
    // One letter of a line in the middle.
    let broken = &files[1];
    let text = std::fs::read_to_string(broken).expect("text");
    std::fs::write(broken, text.replacen("\"tenant\":\"local\"", "\"tenant\":\"other\"", 1))
        .expect("written");
    let arguments: Vec<&str> =
        ["audit", "verify"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let found = site.run(&arguments).await.exits(1);
    assert!(found.stderr().contains(&format!("the chain is broken at {broken}:1: ")), "{found}");
    let mut arguments = arguments.clone();
    arguments.push("--json");
    let found = site.run(&arguments).await.exits(1).json();
    assert_eq!((&found["intact"], &found["broken"]["line"]), (&json!(false), &json!(1)));
    site.run(&["audit", "verify"]).await.exits(78);
    site.run(&["audit", "verify", "/nonexistent/file"]).await.exits(74);
}

/// The files of a log, in the order in which they were written.
fn all_files(path: &Path) -> Vec<String> {
    let files = callpark::internals::audit::audit_files(path).expect("files");
    files.iter().map(|file| file.display().to_string()).collect()
}

#[tokio::test]
async fn a_full_disk_stops_no_request_and_the_loss_is_said() {
    let site = Site::new();
    let Some(disk) = SmallDisk::new(&site, "size=1m").await else { return };
    let (data, file) = (site.data().display().to_string(), disk.folder().join("audit.jsonl"));
    let file = file.display().to_string();
    let flags = ["--data-dir", &data, "--audit-file", &file, "--admin-listen", "127.0.0.1:0"];
    let server = disk.serve(&site, &flags).await;
    flood(&server, 3).await;
    let path = disk.seen_from_here().join("audit.jsonl");
    let written = |count: usize| {
        let path = path.clone();
        async move {
            let lines = async {
                while lines(&path).len() < count {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            soon("the lines", lines).await;
        }
    };
    written(3).await;
    disk.fill(0);
    let mut tools = server.connect().tools;
    for _ in 0..40 {
        soon("an answer", tools.run_tool(bash("true"))).await.expect("it runs all the same");
    }
    disk.free();
    let before = lines(&path).len();
    tools.run_tool(bash("true")).await.expect("an answer");
    written(before + 2).await;
    server.terminate().await;
    let lines = lines(&path);
    let lost: Vec<_> = lines.iter().filter(|line| line["action"] == "lost").collect();
    let count: u64 = lost.iter().filter_map(|line| line["count"].as_u64()).sum();
    assert!(count > 20, "{lost:?}");
    assert_eq!(
        lines.len() as u64 - lost.len() as u64 + count,
        44,
        "each request has a line, or is counted"
    );
    let report = callpark::internals::audit::verify(&[path], None).expect("a whole chain");
    assert_eq!((report.lost_entries, report.damaged_bytes), (count, 0));
}
