//! The command line. Verbs, options and exit statuses are a contract with scripts.

pub(crate) mod paths;
pub(crate) mod pr;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use initiator::{
    Checker, Failback, IscsiName, LoadBalancePolicy, NoPathRetry, Portal, SecondFence,
};

use crate::size::{parse_duration, parse_size};
use crate::url::{Address, AddressError, Side, Url, parse_portal_argument};

/// Use iSCSI disks from user space, over several paths.
#[derive(Debug, Parser)]
#[command(
    name = "iscsi",
    version,
    after_help = "URL: iscsi://host[:port][,tpgt]/target/lun, IPv6 addresses in brackets. Several URLs of one \
logical unit are several paths to it. Sizes take k, M, G, T (powers of 1024).

Exit status: 0 done, 1 other failure, 2 usage, 3 no portal reachable, 4 login refused or \
authentication failed, 5 no such target or LUN, 6 I/O error reported by the device, 7 outcome of \
a write unknown, 8 verification failed; 130 after Ctrl-C.

Examples:
  iscsi demo
  iscsi discover 192.0.2.1
  iscsi ls iscsi://192.0.2.1/iqn.2026-11.org.example:disk
  iscsi cp disk.img iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0,iscsi://192.0.2.2/iqn.2026-11.org.example:disk/0 --verify"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How results and events are shown.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Show on standard error what happens on the wire: logins, sessions, paths; twice: every PDU.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the targets a portal knows, with all their portals.
    #[command(after_help = "Example: iscsi discover '[2001:db8::1]:3260' --json")]
    Discover(DiscoverArgs),
    /// List the logical units of a target, or of every target of a portal.
    #[command(after_help = "A URL may end after the portal or after the target here.

Example: iscsi ls iscsi://192.0.2.1/iqn.2026-11.org.example:disk")]
    Ls(LsArgs),
    /// Show identity, capacity, negotiated keys and paths of a logical unit.
    #[command(
        after_help = "Example: iscsi info iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 \
-k HeaderDigest=CRC32C,None"
    )]
    Info(UnitArgs),
    /// Read bytes from a logical unit.
    #[command(
        after_help = "Example: iscsi read iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 \
--offset 0 --length 512 | xxd"
    )]
    Read(ReadArgs),
    /// Write bytes to a logical unit.
    #[command(
        after_help = "A start or end inside a block is read, merged and written back; another writer of the same \
block in that moment would lose its change.

Example: iscsi write iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 --offset 1M -i part.img"
    )]
    Write(WriteArgs),
    /// Copy a whole file or logical unit to another.
    #[command(
        after_help = "A destination file is written beside its final place and renamed at the end, so an existing file \
stays as it was unless everything was copied; devices and pipes are written directly. A logical \
unit may be larger than what is copied to it; the rest stays as it was.

Ctrl-C stops the copy, logs out and tells how far it got; a second one ends at once and may leave a \
.part file beside the destination.

Examples:
  iscsi cp iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 backup.img
  iscsi cp backup.img iscsi://a/iqn.2026-11.org.example:disk/0,iscsi://b/iqn.2026-11.org.example:disk/0 --verify"
    )]
    Cp(CpArgs),
    /// Show a logical unit's groups and paths, what each is doing and has done.
    #[command(
        after_help = "The tree is that of multipath -ll: the unit, its groups of paths by priority, a line for each path \
with the states of the path, of its last check and of its session.

Examples:
  iscsi paths iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 --all-paths
  iscsi paths iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 --all-paths --watch=1s --json"
    )]
    Paths(paths::PathsArgs),
    /// Persistent reservations, over all paths at once.
    #[command(
        after_help = "Registrations belong to the session identifiers, which are kept from run to run.

Examples:
  iscsi pr register iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 --pr-key 0x1234
  iscsi pr reserve iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 --pr-key 0x1234 --type wero
  iscsi pr show iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0"
    )]
    Pr(pr::PrArgs),
    /// Reset a logical unit, a target or a nexus. ENDS WHAT OTHERS HAVE UNDER WAY THERE.
    #[command(
        after_help = "The reset reaches every initiator of the logical unit, or of the target; only --nexus concerns \
this command alone (its own sessions; needs a target with iSCSIProtocolLevel 2).

Example: iscsi reset --lun iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0"
    )]
    Reset(ResetArgs),
    /// Measure a logical unit. --rw write and randwrite OVERWRITE ITS DATA.
    #[command(
        after_help = "Example: iscsi bench iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 \
--rw randread --bs 4k --qd 32 --time 5 --json"
    )]
    Bench(BenchArgs),
    /// Make a CHAP secret of 128 random bits, for both sides.
    #[command(
        after_help = "Give each direction, and each target, a secret of its own.

Example: (umask 077; iscsi secret >secret.txt)"
    )]
    Secret,
    /// Show everything at once against a built-in target on loopback; touches nothing else.
    Demo,
}

#[derive(Debug, Args)]
pub(crate) struct DiscoverArgs {
    /// Address or name, with a port if it is not 3260.
    #[arg(value_name = "PORTAL", value_parser = Discreet(portal_of))]
    pub(crate) portal: Portal,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// A portal, a target or a logical unit.
    #[arg(help = "iscsi://host[:port][,tpgt][/target[/lun]]", value_name = "URL", required = true, value_parser = Discreet(url_of))]
    pub(crate) urls: Vec<Url>,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// One logical unit and how to get there.
#[derive(Debug, Args)]
pub(crate) struct UnitArgs {
    /// The paths to it.
    #[arg(help = "iscsi://host[:port][,tpgt]/target/lun; several are several paths", value_name = "URL", required = true, value_parser = Discreet(url_of))]
    pub(crate) urls: Vec<Url>,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

impl UnitArgs {
    /// The unit that the URLs name.
    ///
    /// # Errors
    /// [`AddressError`] when they do not belong together.
    pub(crate) fn address(&self) -> Result<Address, AddressError> {
        let address = Address::join_targets(&self.urls)?;
        address.check(self.login.across_targets)?;
        Ok(address)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
    /// First byte.
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub(crate) offset: u64,
    /// Number of bytes.
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub(crate) length: u64,
    /// Where to; standard output if not given.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
    /// First byte.
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub(crate) offset: u64,
    /// Where from; standard input if not given.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// A file, or URLs of one logical unit joined by commas.
    #[arg(value_name = "SRC", value_parser = Discreet(side_of))]
    pub(crate) source: Side,
    /// A file, or URLs of one logical unit joined by commas.
    #[arg(value_name = "DST", value_parser = Discreet(side_of))]
    pub(crate) destination: Side,
    /// Read both sides again afterwards and compare.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    #[command(flatten)]
    pub(crate) what: ResetScope,
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
}

/// What is reset; exactly one.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ResetScope {
    /// The logical unit of the URL.
    #[arg(long)]
    pub(crate) lun: bool,
    /// All logical units of the target.
    #[arg(long)]
    pub(crate) target_warm: bool,
    /// The target as after power on; it drops all sessions of everybody.
    #[arg(long)]
    pub(crate) target_cold: bool,
    /// The I_T nexus: the sessions of this command.
    #[arg(long)]
    pub(crate) nexus: bool,
}

/// What `bench` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Workload {
    /// Sequential reads.
    Read,
    /// Sequential writes; overwrites the data.
    Write,
    /// Random reads.
    RandRead,
    /// Random writes; overwrites the data.
    RandWrite,
    /// Random reads and writes, mixed as `--mix` says; overwrites the data.
    RandRw,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
    /// Access pattern; write, randwrite and randrw OVERWRITE the logical unit.
    #[arg(long, value_enum, default_value = "randread")]
    pub(crate) rw: Workload,
    /// Reads of 100 I/Os in randrw.
    #[arg(long, value_name = "PERCENT", default_value = "70", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) mix: u8,
    /// Bytes per I/O.
    #[arg(long, value_name = "N", value_parser = parse_size, default_value = "4k")]
    pub(crate) bs: u64,
    /// I/Os in flight.
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) qd: u16,
    /// How long.
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration, default_value = "5")]
    pub(crate) time: Duration,
    /// Worker threads of the runtime; 1 is one thread for everything, without handing over.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
    /// The sessions, and the tasks that do I/O, on one thread of their own beside those of the runtime.
    #[arg(long)]
    pub(crate) sharded: bool,
}

/// CHAP algorithms by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AlgorithmName {
    /// CHAP_A 5.
    Md5,
    /// CHAP_A 6.
    Sha1,
    /// CHAP_A 7.
    Sha256,
    /// CHAP_A 8.
    #[value(name = "sha3-256")]
    Sha3_256,
}

/// The policies by the names and aliases the library knows.
fn policy_parser() -> impl TypedValueParser<Value = LoadBalancePolicy> {
    let value = |policy: LoadBalancePolicy| {
        clap::builder::PossibleValue::new(policy.name()).aliases(policy.aliases())
    };
    let values = LoadBalancePolicy::ALL.map(value);
    clap::builder::PossibleValuesParser::new(values).try_map(|name| name.parse())
}

/// One `-k Key=Value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfferArg {
    pub(crate) key: String,
    pub(crate) value: String,
}

fn parse_offer(text: &str) -> Result<OfferArg, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok(OfferArg {
            key: key.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("write Key=Value, as in HeaderDigest=CRC32C".to_owned()),
    }
}

fn parse_no_path_retry(text: &str) -> Result<NoPathRetry, String> {
    match text.parse() {
        Ok(retry) => Ok(retry),
        Err(_) => parse_duration(text)
            .map(NoPathRetry::For)
            .map_err(|error| format!("neither fail nor queue nor a time: {error}")),
    }
}

fn parse_fence(text: &str) -> Result<SecondFence, String> {
    match text.split_once('=') {
        Some(("timer", time)) => parse_duration(time)
            .map(SecondFence::Timer)
            .map_err(|error| error.to_string()),
        None if text == "none" => Ok(SecondFence::None),
        None if text == "lu-reset" => Ok(SecondFence::LuReset),
        None if text == "pr-abort" => Ok(SecondFence::PrAbort),
        None if text == "stpg" => Ok(SecondFence::Stpg),
        _ => Err("one of none, lu-reset, pr-abort, stpg, timer=TIME".to_owned()),
    }
}

/// Who we are and what is offered at login.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Login")]
pub(crate) struct LoginArgs {
    /// Log in over every portal that SendTargets lists for the target.
    #[arg(long)]
    pub(crate) all_paths: bool,
    /// Take URLs of different targets as paths to one logical unit, which several targets present.
    /// Each must show the same unique identifier.
    #[arg(long)]
    pub(crate) across_targets: bool,
    /// What is offered at login, as in -k InitialR2T=No; repeatable.
    #[arg(short = 'k', long = "key", value_name = "Key=Value", value_parser = parse_offer)]
    pub(crate) keys: Vec<OfferArg>,
    /// Connections per session, over the portals of its portal group in turn: the same as
    /// -k MaxConnections=N. The target may allow fewer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: Option<u16>,
    /// Our iSCSI name; if not given, made once and kept in ~/.config/iscsi/initiatorname.
    #[arg(
        long,
        value_name = "NAME",
        env = "ISCSI_INITIATOR_NAME",
        hide_env_values = true
    )]
    pub(crate) initiator_name: Option<IscsiName>,
    /// Where session identifiers are kept, so that a later run is the same initiator port to the
    /// target: its login ends what a killed run left there, and persistent reservations go on to
    /// hold. If not given, ~/.local/state/iscsi.
    #[arg(long, value_name = "DIR", env = "ISCSI_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Use new session identifiers and keep none.
    #[arg(long, conflicts_with = "state_dir")]
    pub(crate) no_state: bool,
    /// Name to authenticate with (CHAP). The secret comes from a file or ISCSI_CHAP_SECRET.
    #[arg(
        long,
        value_name = "NAME",
        env = "ISCSI_CHAP_NAME",
        hide_env_values = true
    )]
    pub(crate) chap_name: Option<String>,
    /// File with our secret; one newline at its end does not count.
    #[arg(long, value_name = "FILE")]
    pub(crate) chap_secret_file: Option<PathBuf>,
    /// Algorithms to offer, the most wanted first.
    #[arg(long, value_name = "ALG", value_enum, value_delimiter = ',')]
    pub(crate) chap_alg: Vec<AlgorithmName>,
    /// Take secrets below 96 bits too (RFC 7143 §9.2.1 forbids them on open networks).
    #[arg(long)]
    pub(crate) allow_short_secrets: bool,
    /// Name the target must authenticate with (mutual CHAP). The secret comes from a file or
    /// ISCSI_MUTUAL_SECRET.
    #[arg(
        long,
        value_name = "NAME",
        env = "ISCSI_MUTUAL_NAME",
        hide_env_values = true
    )]
    pub(crate) mutual_name: Option<String>,
    /// File with the target's secret; one newline at its end does not count.
    #[arg(long, value_name = "FILE")]
    pub(crate) mutual_secret_file: Option<PathBuf>,
    /// How paths are chosen.
    #[arg(long, value_name = "NAME", value_parser = policy_parser(), ignore_case = true, default_value = "service-time")]
    pub(crate) policy: LoadBalancePolicy,
    /// What I/O does while no path is up: fail, queue (for ever), or wait so long and then fail.
    #[arg(long, value_name = "fail|queue|TIME", value_parser = parse_no_path_retry, default_value = "60s")]
    pub(crate) no_path_retry: NoPathRetry,
    /// What a path is asked from time to time: tur (TEST UNIT READY), rtpg (REPORT TARGET PORT
    /// GROUPS, where there are any), nop (a NOP-Out, no SCSI command).
    #[arg(long, value_name = "tur|rtpg|nop", default_value = "tur")]
    pub(crate) checker: Checker,
    /// When I/O goes back to better paths (ALUA): immediate, manual (never by itself), followover
    /// (when one of them comes up), or after so many seconds.
    #[arg(long, value_name = "MODE", default_value = "immediate")]
    pub(crate) failback: Failback,
    /// What is done about a lost write when its session cannot be reinstated: none (it ends with an
    /// unknown outcome), timer=TIME (waits, then repeats it: no guarantee), lu-reset (aborts what
    /// all hosts do on the unit), stpg (has an array move the unit), pr-abort.
    #[arg(long, value_name = "HOW", value_parser = parse_fence, default_value = "none")]
    pub(crate) fence: SecondFence,
    /// How much longer a lost write is held after the target has confirmed that it is over; for
    /// targets that confirm too early.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) fence_settle: Option<Duration>,
    /// How long one I/O is retried, whatever the reason, before it fails; time without any path
    /// does not count. 60s if not given.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) io_deadline: Option<Duration>,
}

/// Parses a value that may hold a secret by mistake (`iscsi://user%secret@host/…`): clap would
/// repeat a value it does not like, this leaves the wording to the parser.
#[derive(Clone)]
struct Discreet<T>(fn(&OsStr) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Discreet<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let refuse = |text: String| {
            let kind = clap::error::ErrorKind::ValueValidation;
            clap::Error::raw(kind, format!("{text}\n")).with_cmd(command)
        };
        (self.0)(value).map_err(refuse)
    }
}

fn text_of(value: &OsStr) -> Result<&str, String> {
    value
        .to_str()
        .ok_or_else(|| "a URL has no bytes outside UTF-8".to_owned())
}

fn portal_of(value: &OsStr) -> Result<Portal, String> {
    parse_portal_argument(text_of(value)?).map_err(|error| error.to_string())
}

fn url_of(value: &OsStr) -> Result<Url, String> {
    text_of(value)?
        .parse::<Url>()
        .map_err(|error| error.to_string())
}

fn side_of(value: &OsStr) -> Result<Side, String> {
    match value.to_str() {
        Some(text) => text.parse::<Side>().map_err(|error| error.to_string()),
        None => Ok(Side::File(value.into())),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_option_takes_a_secret() {
        for verb in Cli::command().get_subcommands() {
            for option in verb.get_arguments() {
                let id = option.get_id().as_str();
                let flag = !option.get_action().takes_values();
                assert!(
                    !id.contains("secret") || id.ends_with("_file") || flag,
                    "{id}"
                );
            }
        }
    }

    #[test]
    fn the_contract_parses() {
        let url = "iscsi://h:3260,1/iqn.2026-11.org.example:a/0";
        for line in [
            "discover 192.0.2.1".to_owned(),
            format!("ls {url} {url}"),
            format!("info {url} --all-paths --json -v"),
            format!("read {url} --offset 4k --length 1M -o x"),
            format!("write {url} --offset 1 -i x -k InitialR2T=No -k ImmediateData=Yes"),
            format!("cp x {url},iscsi://i/iqn.2026-11.org.example:a/0 --verify"),
            format!("bench {url} --rw randwrite --bs 4k --qd 32 --time 5"),
            "demo".to_owned(),
            format!("paths {url} {url} --watch"),
            format!("paths --watch=500ms {url} --json"),
            format!("bench {url} --policy least-queue-depth"),
            format!("bench {url} --policy RRWS"),
            format!("info {url} --no-path-retry queue --fence timer=20s --fence-settle 1s"),
            format!("info {url} --no-path-retry 90s --fence lu-reset"),
            format!("info {url} --failback followover"),
            format!("info {url} --failback 30"),
            format!("info {url} --checker rtpg"),
            format!("--json info {url} --chap-name u --chap-secret-file f --chap-alg sha256,md5"),
            format!(
                "info {url} --mutual-name t --mutual-secret-file g --initiator-name iqn.2026-11.org.example:me"
            ),
        ] {
            let words = std::iter::once("iscsi").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }
}
