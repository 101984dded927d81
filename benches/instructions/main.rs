//! Instruction counts of the hot paths. They repeat to within a percent where times do not.
//!
//! `cargo bench --bench instructions [-- --keep]` runs each case under callgrind, once with few and
//! once with more repetitions: the difference is what a repetition takes, without what came before.
//! It prints the counts beside those in `kept.txt`, which `--keep` writes anew. Without valgrind it
//! says so and does nothing.

mod cases;
#[path = "../support/session.rs"]
mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The error of a case.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The first argument of this program when it is to run a case.
const CASE: &str = "--case";

/// Instructions of the longer run of a case, about. A clock that is set at the start takes two
/// millions more or less from run to run, which must be few beside these.
const INSTRUCTIONS: u64 = 1_000_000_000;
/// Repetitions of the run that says how many fit in.
const FEW: u64 = 100;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the instructions could not be counted: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, repetitions] = arguments.as_slice()
        && first == CASE
    {
        return cases::run(name, repetitions.parse()?);
    }
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("left out: valgrind is not installed, which counts instructions");
        return Ok(());
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/kept.txt");
    let kept = read(&file)?;
    let mut counted = BTreeMap::new();
    println!("| hot path | instructions | kept | ratio |\n| --- | --- | --- | --- |");
    for name in cases::NAMES {
        let few = count(name, FEW)?;
        let more = (INSTRUCTIONS / (few / FEW)).clamp(2 * FEW, 100 * FEW);
        let instructions = count(name, more)?.saturating_sub(few) / (more - FEW);
        counted.insert((*name).to_owned(), instructions);
        let (before, ratio) = match kept.get(*name) {
            Some(kept) => (kept.to_string(), instructions as f64 / *kept as f64),
            None => (String::new(), 1.0),
        };
        println!("| {name} | {instructions} | {before} | {ratio:.2} |");
    }
    if arguments.iter().any(|argument| argument == "--keep") {
        let lines = counted.iter().map(|(name, count)| format!("{count} {name}\n"));
        std::fs::write(&file, lines.collect::<String>())?;
    }
    Ok(())
}

/// Lines of a count and a name.
fn read(file: &Path) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        let (count, name) = line.split_once(' ').ok_or("a line of kept.txt has no name")?;
        counts.insert(name.to_owned(), count.parse()?);
    }
    Ok(counts)
}

/// The instructions of a whole run.
fn count(name: &str, repetitions: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([CASE, name, &repetitions.to_string()])
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    // "Collected : 123456" stands at the end.
    let count = stderr.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) =
        count.ok_or_else(|| format!("callgrind printed no count of {name}: {stderr}"))?;
    Ok(count.trim().parse()?)
}
