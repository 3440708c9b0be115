//! Arguments of `iscsi paths`.

use std::time::Duration;

use clap::Args;

use super::UnitArgs;
use crate::size::parse_duration;

#[derive(Debug, Args)]
pub(crate) struct PathsArgs {
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
    /// Show it again whenever something happens, and at least this often, until Ctrl-C; with
    /// --json one document per line.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, num_args = 0..=1, require_equals = true, default_missing_value = "2s")]
    pub(crate) watch: Option<Duration>,
}
