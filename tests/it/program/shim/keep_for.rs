//! The runner of shims as a server calls it, with shims of the program.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use callpark::internals::exec::{
    ExecutorOptions, OutputBefore, ProcessRun, RunEvent, RunLimits, RunReport, RunSpec,
    Runner as _, ShimProgram, ShimRunner, UnixExecutor,
};
use callpark::model::{CallId, Exit, ProcessSpec};
use prost::Message as _;
use rustix::process::Signal;

use super::FakeShim;
use super::fake_server::{KeepFor, Order};
use super::faults::{Hello, read_frame, send_hello};
use crate::support::program::{PROGRAM, Site, send};
use crate::support::soon;

/// The settings of the shims.
const SETTINGS: [&str; 2] = ["--output-drain=2s", "--tool-niceness=0"];

/// More orders than a socket holds.
const ORDERS_MAX: usize = 5_000;

/// Opens the runner of a server that has its data on this site.
async fn open(site: &Site, keep_for: Option<Duration>) -> ShimRunner {
    let program = ShimProgram {
        program: PROGRAM.into(),
        settings: SETTINGS.map(str::to_owned).into(),
        folder: site.data().join("callpark.db.shims"),
    };
    let options = ExecutorOptions {
        drain: Duration::from_secs(2),
        chunk_bytes_max: 32 * 1024,
        chunk_delay: Duration::from_millis(5),
        niceness: 0,
    };
    let opened = ShimRunner::open(program, UnixExecutor::new(options), keep_for);
    soon("a runner", opened).await.expect("a shim")
}

/// A run of a shell command, which has the home of the site.
fn spec(site: &Site, command: &str) -> RunSpec {
    let home = site.home().display().to_string();
    let variables = [("PATH", "/usr/bin:/bin"), ("HOME", &home)];
    RunSpec {
        call_id: CallId::from_bytes(*uuid::Uuid::new_v4().as_bytes()),
        process: ProcessSpec {
            argv: vec!["bash".into(), "-c".into(), command.into()],
            working_directory: None,
            environment: variables.map(|(name, value)| (name.into(), value.into())).into(),
            stdin: None,
        },
        limits: RunLimits {
            output_bytes_max: 1 << 20,
            idle_timeout: None,
            execution_timeout: None,
            grace: Duration::from_secs(1),
        },
        output_before: OutputBefore::default(),
    }
}

async fn start(runner: &ShimRunner, spec: RunSpec) -> Box<dyn ProcessRun> {
    soon("a start", runner.start(spec)).await.expect("a run")
}

/// Waits for the end of a run.
async fn end(run: &mut Box<dyn ProcessRun>) -> RunReport {
    let ended = async {
        loop {
            if let RunEvent::Exited(report) = run.next().await {
                return *report;
            }
        }
    };
    soon("the end of a run", ended).await
}

#[tokio::test]
async fn a_run_is_ended_after_its_time_and_none_starts_until_another_time_is_given() {
    let time = Duration::from_secs(1);
    let site = Site::new();
    let runner = open(&site, None).await;
    let mut run = start(&runner, spec(&site, "sleep 300")).await;
    let given = Instant::now();
    runner.keep_for(Some(time));
    let report = end(&mut run).await;
    assert!(given.elapsed() >= time, "{:?}", given.elapsed());
    assert!(report.abandoned && report.stopped && !report.timed_out, "{report:?}");
    assert_eq!(report.exit, Exit::Signal(9));
    let refused = soon("a refusal", runner.start(spec(&site, "true"))).await.err();
    let refused = refused.expect("its time is over").to_string();
    assert!(refused.contains("`bash`") && refused.contains("no sign in time"), "{refused}");
    for again in [Some(Duration::from_secs(600)), None] {
        runner.keep_for(Some(Duration::ZERO));
        soon("a refusal", runner.start(spec(&site, "true"))).await.err().expect("it is over");
        runner.keep_for(again);
        let report = end(&mut start(&runner, spec(&site, "exit 3")).await).await;
        assert_eq!((report.exit, report.abandoned), (Exit::Code(3), false));
    }
    runner.close().await;
}

#[tokio::test]
async fn a_run_that_was_stopped_before_its_time_was_over_is_not_abandoned() {
    use callpark::internals::exec::Stop;
    let site = Site::new();
    let runner = open(&site, None).await;
    let mut run =
        start(&runner, spec(&site, "trap '' TERM; echo; while :; do sleep 0.1; done")).await;
    assert!(matches!(soon("output", run.next()).await, RunEvent::Output(_)));
    run.stop(Stop::Graceful(Duration::from_secs(600)));
    runner.keep_for(Some(Duration::from_millis(300)));
    let report = end(&mut run).await;
    assert!(report.stopped && !report.abandoned, "{report:?}");
    assert_eq!(report.exit, Exit::Signal(9), "the grace ends with the time");
}

/// Lets a run go on for a time, stops its shim, and lets the run go on for longer. The shim reads that
/// only after the first time.
async fn check_late_order(is_first_read: bool) {
    let time = Duration::from_secs(1);
    let site = Site::new();
    let runner = open(&site, None).await;
    let mut run = start(&runner, spec(&site, "sleep 300")).await;
    let shim = runner.shims()[0].pid;
    if !is_first_read {
        send(shim, Signal::STOP);
    }
    runner.keep_for(Some(time));
    let given = Instant::now();
    if is_first_read {
        // It has been, once the shim answers the next order.
        start(&runner, spec(&site, "true")).await;
        send(shim, Signal::STOP);
    }
    // The first order is written before the second one, which would replace it.
    tokio::task::yield_now().await;
    runner.keep_for(Some(Duration::from_secs(600)));
    tokio::time::sleep(time.saturating_sub(given.elapsed())).await;
    send(shim, Signal::CONT);
    assert!(end(&mut run).await.abandoned);
    let report = end(&mut start(&runner, spec(&site, "exit 3")).await).await;
    assert_eq!(
        (report.exit, report.abandoned),
        (Exit::Code(3), false),
        "the next run has its time"
    );
}

#[tokio::test]
async fn an_order_that_waits_while_the_time_passes_revives_no_run() {
    check_late_order(true).await;
    check_late_order(false).await;
}

/// Kills the only shim, and waits until the runner knows.
async fn kill_shim(runner: &ShimRunner) {
    send(runner.shims()[0].pid, Signal::KILL);
    let gone = async {
        while !runner.shims().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the end of the shim", gone).await;
}

#[tokio::test]
async fn a_shim_that_is_started_later_has_what_is_left_of_the_time() {
    let (time, pause) = (Duration::from_secs(5), Duration::from_secs(3));
    let site = Site::new();
    let given = Instant::now();
    let runner = open(&site, Some(time)).await;
    kill_shim(&runner).await;
    tokio::time::sleep(pause).await;
    let mut run = start(&runner, spec(&site, "sleep 300")).await;
    let started = Instant::now();
    let report = end(&mut run).await;
    assert!(report.abandoned, "{report:?}");
    assert!(given.elapsed() >= time, "{:?}", given.elapsed());
    assert!(started.elapsed() < time, "it had all of the time again: {:?}", started.elapsed());
}

/// A shim that serves one server, and gives its orders about the time to the test once it may read them.
fn slow_shim(site: &Site) -> (mpsc::SyncSender<()>, mpsc::Receiver<KeepFor>) {
    let listener = FakeShim::listen(site);
    let hello = Hello {
        protocol: 1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        settings: SETTINGS.join(" "),
        runs: Vec::new(),
    };
    let (may_read, reads) = mpsc::sync_channel(1);
    let (sender, orders) = mpsc::sync_channel(ORDERS_MAX);
    std::thread::spawn(move || {
        let mut socket = listener.accept();
        read_frame(&mut socket).expect("a server that introduces itself");
        send_hello(&mut socket, hello);
        reads.recv().expect("a test");
        while let Some(frame) = read_frame(&mut socket) {
            let order = Order::decode(&*frame).expect("an order").keep_for;
            // The test may have ended.
            order.into_iter().for_each(|order| _ = sender.send(order));
        }
    });
    (may_read, orders)
}

#[tokio::test]
async fn a_shim_that_reads_nothing_gets_the_newest_time_and_few_others() {
    let site = Site::new();
    let (may_read, orders) = slow_shim(&site);
    let runner = open(&site, None).await;
    for seconds in 1..=ORDERS_MAX {
        runner.keep_for(Some(Duration::from_secs(seconds as u64)));
        // The task that writes has its turn, until the socket is full.
        tokio::task::yield_now().await;
    }
    let last = ORDERS_MAX as u64 * 1_000;
    may_read.send(()).expect("a shim");
    let mut read: Vec<KeepFor> = Vec::new();
    let newest = async {
        while read.last().is_none_or(|order| order.time_ms != Some(last)) {
            match orders.try_recv() {
                Ok(order) => read.push(order),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    soon("the newest time", newest).await;
    assert!(read.len() < ORDERS_MAX / 2, "{} orders", read.len());
    assert!(read.iter().all(|order| order.given_ns > 0));
    assert!(read.windows(2).all(|pair| pair[0].given_ns < pair[1].given_ns), "in their order");
}
