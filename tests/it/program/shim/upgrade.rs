//! An upgrade from the program of an earlier version: what runs goes on.
//!
//! The tests of the program itself need one: `just upgrade COMMIT` builds it and runs them.

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::kills::{FLAGS, check_ends};
use super::worker::Job;
use crate::history::{History, Shims, check_everything_with};
use crate::support::program::{Program, Site};
use crate::support::waiting::variable;
use crate::support::{remote, seed, soon};

/// Names the program of the earlier version.
const PROGRAM_VARIABLE: &str = "CALLPARK_OLD_BIN";

/// The calls that run at the upgrade.
const CALLS: usize = 20;

/// The end of the server of the earlier version.
enum End {
    Stopped,
    Killed,
}

async fn earlier_server(site: &Site) -> Program {
    let Some(program) = variable(PROGRAM_VARIABLE) else {
        panic!("{PROGRAM_VARIABLE} names no program: `just upgrade COMMIT` builds one and sets it")
    };
    let data = site.data().display().to_string();
    let first = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
    site.serve_with(site.other(&program, &[&first[..], &FLAGS].concat())).await
}

async fn upgrade(end: End) {
    let mut random = StdRng::seed_from_u64(seed());
    let site = Site::new();
    let files = site.folder().join("files");
    std::fs::create_dir(&files).expect("a folder");
    let server = earlier_server(&site).await;
    let clients = server.connect();
    let session_id = remote::session(&clients).await;
    let mut jobs: Vec<Job> =
        (0..CALLS).map(|number| Job::new(&files, number, &session_id, &mut random)).collect();
    for job in &mut jobs {
        assert!(job.start(&clients).await, "no answer");
    }
    let begun = async {
        while jobs.iter().any(|job| job.runs() == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the start of all calls", begun).await;
    match end {
        End::Stopped => drop(server.terminate().await.0.exits(0)),
        End::Killed => server.kill().await,
    }
    let running = site.processes().len();
    let server = site.serve(&FLAGS).await;
    check_ends(&server, &mut jobs).await;
    let works = jobs.iter().map(Job::work).collect();
    let known = History { stops: 1, shims: Shims::Lived, works, ..History::default() };
    check_everything_with(&server.connect(), known).await;
    server.cli(&["run", "bash", "--", "exit 3"]).await.exits(3);
    server.terminate().await.0.exits(0);
    // An idle shim ends with its server. An earlier one may leave the folder of all shims.
    let gone = async {
        while !site.shims().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the end of the shims", gone).await;
    assert!(running > 0, "nothing ran at the upgrade");
    println!("{running} processes ran at the upgrade");
}

#[tokio::test]
#[ignore = "needs the program of an earlier version: just upgrade COMMIT"]
async fn calls_of_an_earlier_version_go_on_after_its_stop() {
    upgrade(End::Stopped).await;
}

#[tokio::test]
#[ignore = "needs the program of an earlier version: just upgrade COMMIT"]
async fn calls_of_an_earlier_version_go_on_after_a_kill() {
    upgrade(End::Killed).await;
}
