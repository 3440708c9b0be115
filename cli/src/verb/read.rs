//! `iscsi read`: a byte range to a file or standard output.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use serde::Serialize;

use crate::args::ReadArgs;
use crate::connect::{Context, with_unit};
use crate::exit::Failure;
use crate::file::Destination;
use crate::render::progress::Progress;
use crate::{output, stream};

/// Runs the verb.
///
/// # Errors
/// A range beyond the end, those of reading and of writing the destination.
pub(crate) async fn run(context: &Context, args: &ReadArgs) -> anyhow::Result<()> {
    let address = args.unit.address()?;
    if context.output.json && args.output.is_none() {
        let text = "--json needs -o FILE here: standard output carries the data";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    with_unit(context, &args.unit.login, &address, async |_, unit| {
        let capacity = unit.geometry().bytes();
        let fits = args
            .offset
            .checked_add(args.length)
            .is_some_and(|end| end <= capacity);
        anyhow::ensure!(
            fits,
            "{} bytes from offset {} on reach beyond the end of the logical unit at {capacity}",
            args.length,
            args.offset,
        );
        let range = (args.offset, args.length);
        let progress = match args.output {
            // The data may be going to the terminal that the bar would be drawn on.
            None => Progress::silent(),
            Some(_) => Progress::new("reading", args.length),
        };
        let advance = |bytes| progress.advance(bytes);
        let so_far = || progress.so_far();
        match &args.output {
            None => {
                let sink = Arc::new(File::from(std::io::stdout().as_fd().try_clone_to_owned()?));
                let reading = stream::read_to(unit, range, &sink, output::output_error, advance);
                stream::stoppable(&context.interrupt, reading, so_far).await
            }
            Some(path) => {
                let destination = Destination::create(path, args.length, false)?;
                let sink = destination.file();
                let reading = stream::read_to(unit, range, sink, file_error, advance);
                let result = stream::stoppable(&context.interrupt, reading, so_far).await;
                progress.clear();
                result?;
                destination.finish()?;
                if context.output.json {
                    let (offset, bytes) = range;
                    output::print_json(&Json { offset, bytes })?;
                }
                Ok(())
            }
        }
    })
    .await
}

fn file_error(error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context("cannot write to the output file")
}

#[derive(Serialize)]
struct Json {
    offset: u64,
    bytes: u64,
}
