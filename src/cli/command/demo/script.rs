//! The output of the demo: numbered steps with the time since the start, and the checks of each.

use tokio::time::Instant;

use callpark_client::v1::ToolOutput;

use crate::cli::{
    error::Failure,
    exit::Exit,
    print::{labels::label, output::Out, table::Table, text::count, time::format_span},
};

/// Prints the steps of the demo and counts them.
pub(super) struct Script<'a> {
    out: &'a mut Out,
    began: Instant,
    step: u32,
    checks: u32,
}

impl<'a> Script<'a> {
    pub(super) fn new(out: &'a mut Out) -> Self {
        Self { out, began: Instant::now(), step: 0, checks: 0 }
    }

    /// Begins a step.
    pub(super) async fn step(&mut self, title: &str) -> Result<(), Failure> {
        self.step += 1;
        let time = format_span(self.began.elapsed());
        self.out.line(&format!("\n{}. {title}  [{time}]", self.step)).await
    }

    /// Prints a text.
    pub(super) async fn print(&mut self, text: &str) -> Result<(), Failure> {
        for line in text.lines() {
            self.out.line(&format!("   {line}")).await?;
        }
        Ok(())
    }

    /// Prints a piece of output as it arrives, with the name of its stream before each line.
    pub(super) async fn print_output(&mut self, output: &ToolOutput) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&output.data);
        self.print_prefixed(&label(output.stream()), &text).await
    }

    /// Prints a text with a prefix before each line.
    pub(super) async fn print_prefixed(&mut self, prefix: &str, text: &str) -> Result<(), Failure> {
        for line in text.lines() {
            self.out.line(&format!("   {prefix:>7} | {line}")).await?;
        }
        Ok(())
    }

    pub(super) async fn table(&mut self, table: &Table) -> Result<(), Failure> {
        self.out.table(table).await
    }

    /// Prints a claim that holds.
    ///
    /// # Errors
    ///
    /// If the claim does not hold, which ends the demo.
    pub(super) async fn check(&mut self, claim: &str, holds: bool) -> Result<(), Failure> {
        if !holds {
            let text =
                format!("step {} of the demo failed: it is not true that {claim}", self.step);
            return Err(Failure::new(Exit::Failed, text));
        }
        self.checks += 1;
        self.out.line(&format!("   ok: {claim}")).await
    }

    /// Prints that all steps passed.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        let checks = count(self.checks, "check");
        let time = format_span(self.began.elapsed());
        self.out.line(&format!("\nall {} steps passed: {checks} in {time}", self.step)).await
    }
}
