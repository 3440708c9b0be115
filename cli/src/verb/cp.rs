//! `iscsi cp`: a whole file or logical unit to another.

use std::time::Instant;

use initiator::{IoError, IoErrorKind, LogicalUnit};
use serde::Serialize;

use crate::args::CpArgs;
use crate::connect::{Context, with_unit};
use crate::exit::Failure;
use crate::file::{self, Destination};
use crate::render::progress::Progress;
use crate::size::human;
use crate::transfer::{self, End};
use crate::url::{Address, Side};
use crate::{output, stream};

/// Runs the verb.
///
/// # Errors
/// Sides that do not fit each other, those of reading and writing, a verification that fails.
pub(crate) async fn run(context: &Context, args: &CpArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let bytes = match (&args.source, &args.destination) {
        (Side::File(_), Side::File(_)) => {
            let text = "neither side is a URL; cp copies files";
            return Err(Failure::Usage(text.to_owned()).into());
        }
        (Side::File(path), Side::Unit(address)) => {
            let (file, size) = file::open_source(path)?;
            with_unit(context, &args.login, address, async |_, unit| {
                to_unit(context, args, End::File(file), size, unit, address).await
            })
            .await?
        }
        (Side::Unit(address), Side::File(path)) => {
            with_unit(context, &args.login, address, async |_, unit| {
                to_file(context, args, unit, path).await
            })
            .await?
        }
        (Side::Unit(from), Side::Unit(to)) => {
            let names = |address: &Address| -> Vec<_> {
                let parts = address.parts().into_iter();
                parts.map(|part| (part.target, part.lun)).collect()
            };
            let there = names(to);
            if names(from).iter().any(|unit| there.contains(unit)) {
                let text = "source and destination are the same logical unit";
                return Err(Failure::Usage(text.to_owned()).into());
            }
            with_unit(context, &args.login, from, async |_, source| {
                with_unit(context, &args.login, to, async |_, unit| {
                    let size = source.geometry().bytes();
                    to_unit(context, args, End::Unit(source.clone()), size, unit, to).await
                })
                .await
            })
            .await?
        }
    };
    show(context, args, bytes, begun.elapsed().as_secs_f64())
}

async fn to_unit(
    context: &Context,
    args: &CpArgs,
    source: End,
    size: u64,
    unit: &LogicalUnit,
    address: &Address,
) -> anyhow::Result<u64> {
    let capacity = unit.geometry().bytes();
    anyhow::ensure!(
        size <= capacity,
        "the source has {size} bytes ({}), the logical unit only {capacity} ({}); nothing was written",
        human(size),
        human(capacity),
    );
    let destination = End::Unit(unit.clone());
    copy_and_flush(context, &source, &destination, size).await?;
    if args.verify {
        verify(
            context,
            &source,
            &destination,
            size,
            address.target.as_str(),
        )
        .await?;
    }
    Ok(size)
}

/// A device that restarted may have lost what it acknowledged and had not flushed. The source is
/// still there, so it is copied once more; a second restart is an error.
async fn copy_and_flush(
    context: &Context,
    source: &End,
    destination: &End,
    size: u64,
) -> anyhow::Result<()> {
    copy(context, source, destination, size).await?;
    match destination.flush().await {
        Err(error) if is_cache_lost(&error) => {
            output::note("the target may have lost what it had not flushed; copying once more");
            copy(context, source, destination, size).await?;
            destination.flush().await
        }
        result => result,
    }
}

fn is_cache_lost(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<IoError>();
    io.is_some_and(|io| io.kind == IoErrorKind::CacheLost)
}

async fn to_file(
    context: &Context,
    args: &CpArgs,
    unit: &LogicalUnit,
    path: &std::path::Path,
) -> anyhow::Result<u64> {
    let size = unit.geometry().bytes();
    let destination = Destination::create(path, size, args.verify)?;
    if !destination.is_seekable() {
        if args.verify {
            let text = format!("{} cannot be read back; leave out --verify", path.display());
            return Err(Failure::Usage(text).into());
        }
        let progress = Progress::new("copying", size);
        let advance = |bytes| progress.advance(bytes);
        let sink = destination.file();
        let copying = stream::read_to(unit, (0, size), sink, output::output_error, advance);
        stream::stoppable(&context.interrupt, copying, || progress.so_far()).await?;
        destination.finish()?;
        return Ok(size);
    }
    let (source, file) = (
        End::Unit(unit.clone()),
        End::File(destination.file().clone()),
    );
    let work = async {
        copy(context, &source, &file, size).await?;
        if args.verify {
            file.flush().await?;
            destination.forget_cached();
            verify(context, &source, &file, size, &path.display().to_string()).await?;
        }
        Ok(())
    };
    let result: anyhow::Result<()> = work.await;
    drop((source, file));
    if let Err(error) = result {
        return Err(if destination.is_replaced_at_the_end() {
            error.context(format!("{} is as it was before", path.display()))
        } else {
            error
        });
    }
    destination.finish()?;
    Ok(size)
}

async fn copy(context: &Context, from: &End, to: &End, size: u64) -> anyhow::Result<()> {
    let progress = Progress::new("copying", size);
    let result = transfer::copy(from, to, size, &progress, &context.interrupt).await;
    progress.clear();
    result
}

async fn verify(
    context: &Context,
    one: &End,
    other: &End,
    size: u64,
    place: &str,
) -> anyhow::Result<()> {
    let progress = Progress::new("verifying", size);
    let result = transfer::compare(one, other, size, &progress, &context.interrupt).await;
    progress.clear();
    match result? {
        None => Ok(()),
        Some(offset) => Err(Failure::Verification {
            offset,
            place: place.to_owned(),
        }
        .into()),
    }
}

fn show(context: &Context, args: &CpArgs, bytes: u64, seconds: f64) -> anyhow::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "a rate for display")]
    let bytes_per_second = bytes as f64 / seconds.max(1e-9);
    if context.output.json {
        let verified = args.verify;
        return output::print_json(&Json {
            bytes,
            seconds,
            bytes_per_second,
            verified,
        });
    }
    output::print(&format!(
        "{bytes} bytes ({}) copied{} in {seconds:.1} s, {:.1} MB/s\n",
        human(bytes),
        if args.verify { " and verified" } else { "" },
        bytes_per_second / 1e6,
    ))
}

#[derive(Serialize)]
struct Json {
    bytes: u64,
    seconds: f64,
    bytes_per_second: f64,
    verified: bool,
}
