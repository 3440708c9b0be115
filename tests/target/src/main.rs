//! `iscsi-test-target`: the in-memory target as a program.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use test_target::{Chap, Config, Lun, Portal, Server};

/// An in-memory iSCSI target that judges its initiator.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on, with an optional portal group tag: 127.0.0.1:3260 or 127.0.0.1:3261,2.
    #[arg(long, default_value = "127.0.0.1:3260")]
    listen: Vec<String>,
    /// Size of a LUN (k, M, G), with an optional block size: 64M or 64M,4096. LUNs are numbered from 0.
    #[arg(long, default_value = "64M")]
    lun: Vec<String>,
    /// Name of the target.
    #[arg(long, default_value = "iqn.2026-01.org.example:test-target")]
    name: String,
    /// CHAP: user name and file with the secret, as user:file.
    #[arg(long)]
    chap: Option<String>,
    /// Mutual CHAP: the target's own name and file with its secret, as name:file.
    #[arg(long, requires = "chap")]
    mutual: Option<String>,
    /// Asks for CHAP in discovery sessions too.
    #[arg(long)]
    chap_in_discovery: bool,
    /// Length of the CHAP challenge in bytes.
    #[arg(long, default_value_t = 16)]
    challenge: usize,
    /// Commands taken ahead.
    #[arg(long, default_value_t = 128)]
    queue_depth: u32,
    /// Own value of an operational key, as Key=Value (InitialR2T, ImmediateData, MaxBurstLength, ...).
    #[arg(long)]
    key: Vec<String>,
    /// Seconds between pings of the target; 0 sends none.
    #[arg(long, default_value_t = 0)]
    ping: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (config, addresses) = configure(&arguments)?;
    let server = Server::start(config, &addresses).await?;
    for address in server.local_addrs() {
        eprintln!("listening on {address}");
    }
    tokio::signal::ctrl_c().await?;
    let violations = server.violations();
    for violation in &violations {
        eprintln!("violation: {violation}");
    }
    eprintln!("{} violations", violations.len());
    server.shutdown().await;
    Ok(())
}

fn configure(arguments: &Arguments) -> Result<(Config, Vec<SocketAddr>), Box<dyn Error>> {
    let mut config = Config {
        target_name: arguments.name.clone(),
        queue_depth: arguments.queue_depth.max(1),
        chap_in_discovery: arguments.chap_in_discovery,
        ping_every: (arguments.ping > 0).then(|| std::time::Duration::from_secs(arguments.ping)),
        portals: Vec::new(),
        luns: Vec::new(),
        journal: false,
        ..Config::default()
    };
    let mut addresses = Vec::new();
    for listen in &arguments.listen {
        let (address, group) = listen.rsplit_once(',').unwrap_or((listen, "1"));
        addresses.push(address.parse()?);
        config.portals.push(Portal {
            address: address.to_owned(),
            group: group.parse()?,
        });
    }
    for (number, lun) in arguments.lun.iter().enumerate() {
        config.luns.push(parse_lun(lun, number)?);
    }
    for pair in &arguments.key {
        set_key(&mut config, pair)?;
    }
    if let Some(chap) = &arguments.chap {
        let (name, secret) = credentials(chap)?;
        let mut chap = Chap::one_way(&name, &secret);
        chap.challenge_bytes = arguments.challenge;
        if let Some(mutual) = &arguments.mutual {
            chap.mutual = Some(credentials(mutual)?);
        }
        config.chap = Some(chap);
    }
    Ok((config, addresses))
}

fn credentials(argument: &str) -> Result<(String, Vec<u8>), Box<dyn Error>> {
    let (name, file) = argument
        .split_once(':')
        .ok_or("credentials are name:file")?;
    let mut secret = std::fs::read(PathBuf::from(file))?;
    while secret.last().is_some_and(u8::is_ascii_whitespace) {
        secret.pop();
    }
    Ok((name.to_owned(), secret))
}

fn parse_lun(argument: &str, number: usize) -> Result<Lun, Box<dyn Error>> {
    let (size, block) = argument.split_once(',').unwrap_or((argument, "512"));
    let block_bytes: u32 = block.parse()?;
    if !block_bytes.is_power_of_two() || !(512..=65_536).contains(&block_bytes) {
        return Err(
            format!("block size {block_bytes} is not a power of two from 512 to 65536").into(),
        );
    }
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match size.get(digits.len()..).unwrap_or_default() {
        "" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        other => return Err(format!("unknown size suffix {other:?}").into()),
    };
    let bytes = digits
        .parse::<u64>()?
        .checked_mul(1 << shift)
        .ok_or("size too large")?;
    let blocks = bytes / u64::from(block_bytes);
    if blocks == 0 {
        return Err("a LUN needs at least one block".into());
    }
    Ok(Lun {
        block_bytes,
        blocks,
        read_only: false,
        unique: true,
        serial: format!("TESTTARGET{number:04}"),
    })
}

fn set_key(config: &mut Config, pair: &str) -> Result<(), Box<dyn Error>> {
    let (key, value) = pair.split_once('=').ok_or("keys are Key=Value")?;
    let keys = &mut config.keys;
    let yes = value == "Yes";
    let list = || value.split(',').map(str::to_owned).collect();
    match key {
        "HeaderDigest" => keys.header_digest = list(),
        "DataDigest" => keys.data_digest = list(),
        "MaxConnections" => keys.max_connections = value.parse()?,
        "InitialR2T" => keys.initial_r2t = yes,
        "ImmediateData" => keys.immediate_data = yes,
        "MaxRecvDataSegmentLength" => keys.max_recv_data_segment_bytes = value.parse()?,
        "MaxBurstLength" => keys.max_burst_bytes = value.parse()?,
        "FirstBurstLength" => keys.first_burst_bytes = value.parse()?,
        "DefaultTime2Wait" => keys.time2wait_s = value.parse()?,
        "DefaultTime2Retain" => keys.time2retain_s = value.parse()?,
        "MaxOutstandingR2T" => keys.max_outstanding_r2t = value.parse()?,
        "ErrorRecoveryLevel" => keys.error_recovery_level = value.parse()?,
        "iSCSIProtocolLevel" => keys.protocol_level = value.parse()?,
        "TaskReporting" => keys.task_reporting = list(),
        "DataPDUInOrder" => keys.data_pdu_in_order = yes,
        "DataSequenceInOrder" => keys.data_sequence_in_order = yes,
        other => return Err(format!("unknown key {other:?}").into()),
    }
    Ok(())
}
