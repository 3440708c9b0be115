//! `iscsi secret`: a CHAP secret that nobody can guess (RFC 7143 §9.2.1).

use anyhow::Context as _;
use initiator::Secret;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::connect::Context;
use crate::output;

/// The JSON output.
#[derive(Serialize)]
struct Made<'a> {
    secret: &'a str,
}

/// Runs the verb.
///
/// # Errors
/// The operating system has no randomness, or the output is closed.
pub(crate) fn run(context: &Context) -> anyhow::Result<()> {
    let mut entropy = Zeroizing::new([0; 16]);
    getrandom::fill(entropy.as_mut()).context("no randomness from the operating system")?;
    let secret = Secret::generate(*entropy);
    if context.output.json {
        output::print_json(&Made { secret: &secret })
    } else {
        output::print(&format!("{}\n", *secret))
    }
}
