//! How the demo is shown: numbered steps with the time since its start, and checks of each.

use tokio::time::Instant;

use callpark_client::v1::{OutputStream, ToolOutput};

use crate::cli::{
    exit::Exit,
    failure::Failure,
    output::{Out, Table},
    time::span,
};

/// Shows the steps, and knows which one it is.
pub(super) struct Stage<'a> {
    out: &'a mut Out,
    began: Instant,
    step: u32,
    checks: u32,
}

impl<'a> Stage<'a> {
    pub(super) fn new(out: &'a mut Out) -> Self {
        Self { out, began: Instant::now(), step: 0, checks: 0 }
    }

    /// Begins a step.
    pub(super) async fn step(&mut self, title: &str) -> Result<(), Failure> {
        self.step += 1;
        let time = span(self.began.elapsed());
        self.out.line(&format!("\n{}. {title}  [{time}]", self.step)).await
    }

    /// Says what happens.
    pub(super) async fn say(&mut self, text: &str) -> Result<(), Failure> {
        for line in text.lines() {
            self.out.line(&format!("   {line}")).await?;
        }
        Ok(())
    }

    /// Shows a piece of output as it comes, with its stream before each line.
    pub(super) async fn output(&mut self, output: &ToolOutput) -> Result<(), Failure> {
        let stream = if output.stream() == OutputStream::Stderr { "stderr" } else { "stdout" };
        self.text(stream, &String::from_utf8_lossy(&output.data)).await
    }

    /// Shows a text with a word before each line.
    pub(super) async fn text(&mut self, prefix: &str, text: &str) -> Result<(), Failure> {
        for line in text.lines() {
            self.out.line(&format!("   {prefix:>7} | {line}")).await?;
        }
        Ok(())
    }

    /// Shows a table.
    pub(super) async fn table(&mut self, table: &Table) -> Result<(), Failure> {
        self.out.table(table).await
    }

    /// Says a claim if it holds. If it doesn't, that is the end of the demo.
    pub(super) async fn check(&mut self, claim: &str, holds: bool) -> Result<(), Failure> {
        if !holds {
            return Err(Failure::Told {
                exit: Exit::Failed,
                text: format!(
                    "step {} of the demo isn't as it should be: not so: {claim}",
                    self.step
                ),
            });
        }
        self.checks += 1;
        self.out.line(&format!("   ok: {claim}")).await
    }

    /// Says that all is done.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        let Self { step, checks, .. } = self;
        let time = span(self.began.elapsed());
        let text = format!("\nall {step} steps were as they should be: {checks} checks in {time}");
        self.out.line(&text).await
    }
}
