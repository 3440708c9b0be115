//! Standard output and standard error.
//!
//! A result is made up whole, then written at once; a reader that goes away (`| head`) is an
//! error with a status, never a panic.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::exit::Failure;

/// Writes a result to standard output.
///
/// # Errors
/// [`Failure::OutputClosed`], or whatever writing met.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(output_error)
}

/// Writes a result as one indented JSON document.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Names the closed pipe; keeps every other error.
pub(crate) fn output_error(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::OutputClosed.into();
    }
    anyhow::Error::new(error).context("cannot write to standard output")
}

/// A remark for people on standard error. A closed standard error is nothing to fail for.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "iscsi: {}", crate::render::plain(text));
}
