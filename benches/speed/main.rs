//! The speed of the server, each case beside its base line in the same run.
//!
//! `cargo bench --bench speed [-- [--rounds N] [case]...]`. BENCHMARKS.md explains the table that
//! this prints.

mod bare;
mod cases;
mod child;
mod client;
mod measure;
mod model;
mod serve;
#[path = "../support/session.rs"]
mod session;
mod table;
mod tools;

use std::process::ExitCode;

/// The error of a case or a server.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Rounds of a case unless `--rounds` says otherwise.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == child::SERVE).is_some() {
        return runtime.block_on(serve::serve(arguments));
    }
    let (mut rounds, mut names) = (ROUNDS, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().unwrap_or_default().parse()?,
            // cargo passes this flag to every benchmark.
            "--bench" => {}
            name => names.push(name.to_owned()),
        }
    }
    runtime.block_on(cases::run(rounds, &names))
}

/// The time of this machine, which the server's times are of.
#[expect(
    clippy::disallowed_methods,
    reason = "the server's events bear the time of the wall clock"
)]
pub(crate) fn wall_micros() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64() * 1e6
}
