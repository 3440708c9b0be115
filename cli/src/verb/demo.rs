//! `iscsi demo`.

use crate::connect::Context;

/// Runs the verb.
///
/// # Errors
/// Not there yet.
#[expect(clippy::unused_async, reason = "waits for the embedded target")]
pub(crate) async fn run(_context: &Context) -> anyhow::Result<()> {
    anyhow::bail!("the embedded target is not there yet")
}
