//! tgtd, the userspace SCSI target of Debian's package `tgt`.
//!
//! Facts about version 1.0.85 the tests rely on: portals are given at the start; digests and
//! other keys are offered as set by [`TgtBuilder::set`]; LUN 0 is a controller, disks start at 1; it
//! ignores SIGTERM while it has targets, so it is killed; it keeps its control socket under
//! `/run/tgtd`, which is private to the test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::data::sparse_file;
use crate::process::{Running, Tool};
use crate::sandbox::Sandbox;
use crate::wait;

/// Name of the target that [`Tgt`] serves unless told otherwise.
pub const TARGET: &str = "iqn.2024-01.test:tgtd";

const READY_LIMIT: Duration = Duration::from_secs(10);

/// A disk of tgtd.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its logical unit number, from 1 on.
    pub lun: u64,
    /// Its size.
    pub bytes: u64,
    /// Size of a block.
    pub block_bytes: u32,
    /// tgtd's parameters, such as `readonly=1,scsi_sn=first`.
    pub parameters: String,
}

/// What a tgtd is to serve.
#[derive(Clone, Debug)]
pub struct TgtBuilder {
    control: u16,
    target: String,
    portals: Vec<String>,
    iscsi_options: Vec<String>,
    settings: Vec<(String, String)>,
    disks: Vec<Disk>,
    incoming: Option<(String, String)>,
    outgoing: Option<(String, String)>,
}

impl Default for TgtBuilder {
    fn default() -> Self {
        Self {
            control: 0,
            target: TARGET.to_owned(),
            portals: Vec::new(),
            iscsi_options: Vec::new(),
            settings: Vec::new(),
            disks: Vec::new(),
            incoming: None,
            outgoing: None,
        }
    }
}

impl TgtBuilder {
    /// Gives the instance its control number; only needed for a second tgtd in one test.
    #[must_use]
    pub fn control(mut self, number: u16) -> Self {
        self.control = number;
        self
    }

    /// Names the target.
    #[must_use]
    pub fn target(mut self, name: &str) -> Self {
        name.clone_into(&mut self.target);
        self
    }

    /// Listens on `portal` (`127.0.0.1:3260` or `[::1]:3260`) as well.
    #[must_use]
    pub fn portal(mut self, portal: &str) -> Self {
        self.portals.push(portal.to_owned());
        self
    }

    /// Adds an option of tgtd's `--iscsi`, such as `nop_interval=2`.
    #[must_use]
    pub fn iscsi_option(mut self, option: &str) -> Self {
        self.iscsi_options.push(option.to_owned());
        self
    }

    /// Sets a key of the target (`HeaderDigest`, `RedirectAddress`, ...).
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a disk of `bytes` with the next LUN; the first one is LUN 1.
    #[must_use]
    pub fn disk(self, bytes: u64) -> Self {
        self.disk_with(bytes, "")
    }

    /// The same with tgtd's parameters, such as `thin_provisioning=1`.
    #[must_use]
    pub fn disk_with(self, bytes: u64, parameters: &str) -> Self {
        let lun = self.disks.len() as u64 + 1;
        self.disk_at(Disk {
            lun,
            bytes,
            block_bytes: 512,
            parameters: parameters.to_owned(),
        })
    }

    /// Adds a disk.
    #[must_use]
    pub fn disk_at(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Demands CHAP of initiators.
    #[must_use]
    pub fn chap(mut self, name: &str, secret: &str) -> Self {
        self.incoming = Some((name.to_owned(), secret.to_owned()));
        self
    }

    /// Answers an initiator's challenge with these credentials.
    #[must_use]
    pub fn mutual_chap(mut self, name: &str, secret: &str) -> Self {
        self.outgoing = Some((name.to_owned(), secret.to_owned()));
        self
    }

    /// Starts tgtd and waits until the target can be logged in to.
    ///
    /// # Errors
    /// When tgtd does not start or refuses the configuration.
    pub fn start(&self, sandbox: &Sandbox) -> Result<Tgt> {
        ensure!(!self.portals.is_empty(), "a tgtd without a portal");
        let portals = self.portals.iter().map(|portal| format!("portal={portal}"));
        let options: Vec<String> = portals.chain(self.iscsi_options.iter().cloned()).collect();
        let mut daemon = Tool::new(sandbox, "tgtd")
            .words(&format!("-f -C {} --iscsi", self.control))
            .arg(options.join(","))
            .start()?;
        let control = self.control;
        wait::until("tgtd's control socket", READY_LIMIT, || {
            daemon.still_running()?;
            let probe = admin(sandbox, control)
                .words("--op show --mode target")
                .run()?;
            Ok((probe.code() == Some(0)).then_some(()))
        })?;
        let mut tgt = Tgt {
            daemon,
            control,
            images: BTreeMap::new(),
        };
        self.configure(sandbox, &mut tgt)?;
        Ok(tgt)
    }

    fn configure(&self, sandbox: &Sandbox, tgt: &mut Tgt) -> Result<()> {
        tgt.admin(
            sandbox,
            &format!("--op new --mode target --tid 1 -T {}", self.target),
        )?;
        for disk in &self.disks {
            let image = sandbox.path(&format!("tgt{}-lun{}.img", self.control, disk.lun));
            sparse_file(&image, disk.bytes)?;
            let lun = format!("--mode logicalunit --tid 1 --lun {}", disk.lun);
            let blocks = format!("--blocksize {}", disk.block_bytes);
            tgt.admin(
                sandbox,
                &format!("--op new {lun} {blocks} -b {}", image.display()),
            )?;
            if !disk.parameters.is_empty() {
                tgt.admin(
                    sandbox,
                    &format!("--op update {lun} --params {}", disk.parameters),
                )?;
            }
            tgt.images.insert(disk.lun, image);
        }
        for (name, value) in &self.settings {
            tgt.set(sandbox, name, value)?;
        }
        for (credentials, direction) in [(&self.incoming, ""), (&self.outgoing, " --outgoing")] {
            let Some((name, secret)) = credentials else {
                continue;
            };
            let account = format!("--mode account --user {name}");
            tgt.admin(sandbox, &format!("--op new {account} --password {secret}"))?;
            tgt.admin(sandbox, &format!("--op bind {account} --tid 1{direction}"))?;
        }
        // Last, so that nobody can log in to a target that is half configured.
        tgt.admin(sandbox, "--op bind --mode target --tid 1 -I ALL")
    }
}

/// A running tgtd; killed when dropped.
#[derive(Debug)]
pub struct Tgt {
    daemon: Running,
    control: u16,
    images: BTreeMap<u64, PathBuf>,
}

impl Tgt {
    /// Begins the description of a tgtd.
    #[must_use]
    pub fn builder() -> TgtBuilder {
        TgtBuilder::default()
    }

    /// The backing file of a LUN (1 is the first disk).
    ///
    /// # Errors
    /// When there is no such disk.
    pub fn image(&self, lun: u64) -> Result<&Path> {
        Ok(self.images.get(&lun).context("tgtd serves no such disk")?)
    }

    /// Sets a key of the target; it holds for the logins that follow.
    ///
    /// # Errors
    /// When tgtd refuses it.
    pub fn set(&self, sandbox: &Sandbox, name: &str, value: &str) -> Result<()> {
        self.admin(
            sandbox,
            &format!("--op update --mode target --tid 1 --name {name} --value {value}"),
        )
    }

    /// Runs `tgtadm` with more arguments.
    ///
    /// # Errors
    /// When tgtd refuses the command.
    pub fn admin(&self, sandbox: &Sandbox, words: &str) -> Result<()> {
        admin(sandbox, self.control).words(words).run()?.success()?;
        Ok(())
    }

    /// The initiator names with a session, as tgtd itself lists them (one per session).
    ///
    /// # Errors
    /// When tgtd does not answer.
    pub fn sessions(&self, sandbox: &Sandbox) -> Result<Vec<String>> {
        let shown = admin(sandbox, self.control)
            .words("--op show --mode target")
            .run()?
            .success()?;
        Ok(shown
            .text()
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Initiator: "))
            .filter_map(|rest| rest.split_whitespace().next())
            .map(str::to_owned)
            .collect())
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.daemon.id()
    }
}

fn admin(sandbox: &Sandbox, control: u16) -> Tool {
    Tool::new(sandbox, "tgtadm").words(&format!("-C {control} --lld iscsi"))
}
