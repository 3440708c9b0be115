//! istgt, the userspace target of Debian's package `istgt`.
//!
//! Facts about version 0.4 (20111008) the tests rely on: portal groups have tags of their own;
//! CHAP is MD5 only, with challenges of 1,024 bytes; `UseDigest` can demand digests; every
//! LogicalUnit section is one target; LUN numbers start at 0. It refuses to start when its pid file
//! exists and with `InitialR2T No` in the global section.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::data::sparse_file;
use crate::process::{Running, Tool};
use crate::sandbox::Sandbox;
use crate::wait;

/// Name of the target that [`Istgt`] serves.
pub const TARGET: &str = "iqn.2024-01.test:disk1";

const READY_LIMIT: Duration = Duration::from_secs(10);

/// What an istgt is to serve.
#[derive(Clone, Debug, Default)]
pub struct IstgtBuilder {
    groups: Vec<Vec<String>>,
    settings: Vec<(String, String)>,
    digests: Option<String>,
    disks: Vec<u64>,
    authentication: Option<String>,
    accounts: String,
    discovery_authentication: Option<String>,
}

impl IstgtBuilder {
    /// Adds a portal group; its tag is its number, counted from 1.
    #[must_use]
    pub fn portal_group(mut self, portals: &[&str]) -> Self {
        self.groups
            .push(portals.iter().map(|portal| (*portal).to_owned()).collect());
        self
    }

    /// Sets a line of the global section, such as `MaxBurstLength 1048576`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Demands digests: `Header`, `Data` or `Header Data`.
    #[must_use]
    pub fn digests(mut self, which: &str) -> Self {
        self.digests = Some(which.to_owned());
        self
    }

    /// Adds a disk of `bytes`; the first one is LUN 0.
    #[must_use]
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disks.push(bytes);
        self
    }

    /// Demands CHAP of initiators.
    #[must_use]
    pub fn chap(mut self, name: &str, secret: &str) -> Self {
        self.authentication = Some("CHAP".to_owned());
        self.accounts = format!("Auth \"{name}\" \"{secret}\"");
        self
    }

    /// Demands mutual CHAP.
    #[must_use]
    pub fn mutual_chap(mut self, incoming: (&str, &str), outgoing: (&str, &str)) -> Self {
        self.authentication = Some("CHAP Mutual".to_owned());
        self.accounts = format!(
            "Auth \"{}\" \"{}\" \"{}\" \"{}\"",
            incoming.0, incoming.1, outgoing.0, outgoing.1
        );
        self
    }

    /// Demands the same authentication for discovery sessions.
    #[must_use]
    pub fn protect_discovery(mut self) -> Self {
        self.discovery_authentication = self.authentication.clone();
        self
    }

    /// Starts istgt and waits until every portal accepts connections.
    ///
    /// # Errors
    /// When istgt does not start or refuses the configuration.
    pub fn start(&self, sandbox: &Sandbox) -> Result<Istgt> {
        let mut images = Vec::new();
        for (lun, bytes) in self.disks.iter().enumerate() {
            let image = sandbox.path(&format!("istgt-lun{lun}.img"));
            sparse_file(&image, *bytes)?;
            images.push(image);
        }
        let auth = sandbox.path("istgt-auth.conf");
        fs::write(&auth, format!("[AuthGroup1]\n  {}\n", self.accounts))?;
        let conf = sandbox.path("istgt.conf");
        fs::write(&conf, self.configuration(&auth, &images))?;
        fs::copy(&conf, sandbox.logs().join("istgt.conf"))?;
        let mut daemon = Tool::new(sandbox, "istgt")
            .arg("-D")
            .arg("-c")
            .arg(&conf)
            .start()?;
        for portal in self.groups.iter().flatten() {
            let address: SocketAddr = portal
                .parse()
                .with_context(|| format!("{portal} is no address"))?;
            wait::until("istgt's portal", READY_LIMIT, || {
                daemon.still_running()?;
                Ok(TcpStream::connect(address).ok().map(drop))
            })?;
        }
        Ok(Istgt {
            _daemon: daemon,
            images,
        })
    }

    fn configuration(&self, auth: &Path, images: &[PathBuf]) -> String {
        let mut text = String::from("[Global]\n  NodeBase \"iqn.2024-01.test\"\n");
        let discovery = self.discovery_authentication.as_deref().unwrap_or("None");
        let authentication = self.authentication.as_deref().unwrap_or("None");
        let digests = self.digests.as_deref().unwrap_or("Auto");
        let mut line = |words: std::fmt::Arguments<'_>| {
            text.push_str(&words.to_string());
            text.push('\n');
        };
        line(format_args!("  PidFile /run/istgt.pid"));
        line(format_args!("  AuthFile {}", auth.display()));
        line(format_args!("  LogFacility local7"));
        line(format_args!("  DiscoveryAuthMethod {discovery}"));
        if self.discovery_authentication.is_some() {
            line(format_args!("  DiscoveryAuthGroup AuthGroup1"));
        }
        for (name, value) in &self.settings {
            line(format_args!("  {name} {value}"));
        }
        // It will not start without a control portal; nobody uses it.
        line(format_args!(
            "[UnitControl]\n  AuthMethod CHAP Mutual\n  AuthGroup AuthGroup1"
        ));
        line(format_args!(
            "  Portal UC1 127.0.0.1:3261\n  Netmask 127.0.0.1"
        ));
        for (index, portals) in self.groups.iter().enumerate() {
            let tag = index + 1;
            line(format_args!("[PortalGroup{tag}]"));
            for (number, portal) in portals.iter().enumerate() {
                line(format_args!("  Portal P{tag}{number} {portal}"));
            }
        }
        line(format_args!(
            "[InitiatorGroup1]\n  InitiatorName \"ALL\"\n  Netmask ALL"
        ));
        line(format_args!("[LogicalUnit1]\n  TargetName disk1"));
        for index in 0..self.groups.len() {
            line(format_args!(
                "  Mapping PortalGroup{} InitiatorGroup1",
                index + 1
            ));
        }
        line(format_args!("  AuthMethod {authentication}"));
        line(format_args!("  AuthGroup AuthGroup1"));
        line(format_args!("  UseDigest {digests}"));
        line(format_args!("  UnitType Disk"));
        for (lun, image) in images.iter().enumerate() {
            line(format_args!("  LUN{lun} Storage {} Auto", image.display()));
        }
        text
    }
}

/// A running istgt; killed when dropped.
#[derive(Debug)]
pub struct Istgt {
    _daemon: Running,
    images: Vec<PathBuf>,
}

impl Istgt {
    /// Begins the description of an istgt.
    #[must_use]
    pub fn builder() -> IstgtBuilder {
        IstgtBuilder::default()
    }

    /// The backing file of a LUN.
    ///
    /// # Errors
    /// When there is no such LUN.
    pub fn image(&self, lun: usize) -> Result<&Path> {
        Ok(self.images.get(lun).context("istgt serves no such LUN")?)
    }
}
