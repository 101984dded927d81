//! The memory that a copy takes, in a process of its own.

use std::process::{Command, Stdio};
use std::time::Duration;

use callpark::store::{PostgresOptions, migrate_store};

use super::failures::large;
use crate::cluster::shared;

/// The variables that name the source and the target to the process that copies.
const FROM: &str = "CALLPARK_TEST_COPY_FROM";
const TO: &str = "CALLPARK_TEST_COPY_TO";

const EVENTS: u64 = 20_000;
const EVENT_BYTES: usize = 6 * 1024;
/// The memory that a copy may take with the whole program, in KiB: less than half of the store.
const MEMORY_KIB_MAX: u64 = 55 * 1024;

/// Returns the most memory that this process has had, in KiB.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_a_copy_does_not_depend_on_its_size() {
    #[expect(clippy::disallowed_methods, reason = "the process gets its part from the test")]
    if let (Ok(from), Ok(to)) = (std::env::var(FROM), std::env::var(TO)) {
        let options = PostgresOptions { wait: Duration::ZERO, ..PostgresOptions::new(&to) };
        migrate_store(from.as_ref(), &options).await.expect("a copy");
        assert!(memory_kib() < MEMORY_KIB_MAX, "{} KiB", memory_kib());
        return;
    }
    let source = large(EVENTS, EVENT_BYTES).await;
    let size = std::fs::metadata(source.database()).expect("a database").len() / 1024;
    assert!(size > 2 * MEMORY_KIB_MAX, "{size} KiB");
    let database = shared().database();
    let this = std::env::current_exe().expect("a program");
    let mut copying = Command::new(this);
    copying
        .args(["--exact", "--nocapture"])
        .arg("migration::memory::the_memory_of_a_copy_does_not_depend_on_its_size")
        .env(FROM, source.path())
        .env(TO, shared().local_url(&database))
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || copying.output()).await;
    let output = output.expect("joined").expect("a process");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let events = shared().sql(&database, "SELECT count(*) FROM callpark.events");
    assert_eq!(events, EVENTS.to_string());
}
