//! `iscsi write`: a file or standard input to a byte range.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use anyhow::Context as _;
use serde::Serialize;

use crate::args::WriteArgs;
use crate::connect::{Context, with_unit};
use crate::{output, stream};

/// Runs the verb.
///
/// # Errors
/// More data than fit, those of reading the source and of writing.
pub(crate) async fn run(context: &Context, args: &WriteArgs) -> anyhow::Result<()> {
    let address = args.unit.address()?;
    let (source, size) = match &args.input {
        None => (
            File::from(std::io::stdin().as_fd().try_clone_to_owned()?),
            None,
        ),
        Some(path) => {
            let context = || format!("cannot open {}", path.display());
            let file = File::open(path).with_context(context)?;
            let metadata = file.metadata().with_context(context)?;
            (file, metadata.is_file().then_some(metadata.len()))
        }
    };
    let source = Arc::new(source);
    let bytes = with_unit(context, &args.unit.login, &address, async |_, unit| {
        let capacity = unit.geometry().bytes();
        let offset = args.offset;
        anyhow::ensure!(
            offset <= capacity,
            "offset {offset} is beyond the end of the logical unit at {capacity}; nothing was written"
        );
        if let Some(size) = size {
            anyhow::ensure!(
                size <= capacity - offset,
                "{size} bytes from offset {offset} on reach beyond the end of the logical unit at {capacity}; nothing was written"
            );
        }
        stream::write_from(unit, offset, &source, &context.interrupt).await
    })
    .await?;
    if context.output.json {
        return output::print_json(&Json {
            offset: args.offset,
            bytes,
        });
    }
    output::print(&format!(
        "{bytes} bytes written at offset {} and flushed\n",
        args.offset
    ))
}

#[derive(Serialize)]
struct Json {
    offset: u64,
    bytes: u64,
}
