//! The program `callpark`.

use std::process::ExitCode;

fn main() -> ExitCode {
    callpark::cli::main()
}
