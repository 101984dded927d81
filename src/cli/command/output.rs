//! `callpark output`: the output of a task.

use callpark_client::{
    OutputChunk, OutputOptions,
    v1::{OutputStream, ReadOutputResponse},
};
use futures::StreamExt as _;

use super::Context;
use crate::cli::{
    args::ids,
    error::Failure,
    exit::Exit,
    print::{output::Out, result::eprint_dropped},
};
use crate::model::terminal::as_shown;

/// Print the output of a task, byte for byte
///
/// By default, prints standard output and standard error together, in the order in which they were
/// written. With --tail, lines are printed as a terminal shows them at their end: what a progress bar
/// has overwritten is left out. On a terminal, sequences that do more than set colours are left out,
/// unless --raw is given.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// Id of the task, the beginning of one, or `last`
    #[arg(value_name = "ID", value_parser = ids::task)]
    id: ids::GivenId,

    /// Keep printing new output until the task finishes
    #[arg(short, long)]
    follow: bool,

    /// Print standard output only
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,

    /// Print standard error only
    #[arg(long)]
    stderr: bool,

    /// Start with the last LINES lines
    #[arg(long, value_name = "LINES", conflicts_with = "offset",
        value_parser = clap::value_parser!(i32).range(1..))]
    tail: Option<i32>,

    /// Start at this byte
    #[arg(long, value_name = "BYTES", default_value_t = 0,
        value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,

    /// Pass the tool's output to a terminal unchanged, with sequences that move the cursor, set the
    /// title or the clipboard, or do more than set colours
    #[arg(long)]
    raw: bool,
}

pub(crate) async fn run(args: OutputArgs, context: &mut Context) -> Result<Exit, Failure> {
    if args.raw {
        context.out.set_raw();
    }
    let stream = match (args.stdout, args.stderr) {
        (true, _) => OutputStream::Stdout,
        (_, true) => OutputStream::Stderr,
        _ => OutputStream::Combined,
    };
    let options = OutputOptions::new()
        .with_stream(stream)
        .with_offset(args.offset)
        .with_tail_lines(args.tail)
        .with_follow(args.follow);
    let id = args.id.resolve(&context.client).await?;
    let mut chunks = std::pin::pin!(context.client.tasks().handle(id).output(options));
    // The whole tail is the first chunk. In JSON, chunks have their bytes.
    let mut is_tail = args.tail.is_some() && !context.out.json;
    while let Some(chunk) = chunks.next().await {
        let mut chunk = chunk?;
        if std::mem::take(&mut is_tail) {
            chunk.data = as_shown(&chunk.data).into_owned().into();
        }
        print(chunk, &mut context.out).await?;
    }
    Ok(Exit::Success)
}

async fn print(chunk: OutputChunk, out: &mut Out) -> Result<(), Failure> {
    eprint_dropped(chunk.skipped_bytes);
    if !out.json {
        return out.tool_output(&chunk.data).await;
    }
    let length = i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
    let answer = ReadOutputResponse {
        offset: chunk.offset,
        next_offset: chunk.offset.saturating_add(length),
        total_bytes: chunk.total_bytes,
        eof: chunk.eof,
        data: chunk.data,
        ..Default::default()
    };
    out.json_line(&answer).await
}
