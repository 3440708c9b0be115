//! A target that is logged in to, over one or more sessions.

use crate::{
    Error, Geometry, IscsiName, LogicalUnit, Lun, Portal, PortalGroupTag, SessionSnapshot,
};

/// One portal to log in through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalSpec {
    /// Where.
    pub portal: Portal,
    /// Its portal group, when known.
    pub group: Option<PortalGroupTag>,
}

/// Which target, over which portals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpec {
    /// Its name.
    pub name: IscsiName,
    /// Portals to log in through, one session each.
    pub portals: Vec<PortalSpec>,
    /// Add every portal that SendTargets lists for the target.
    pub all_portals: bool,
}

/// What a logical unit is, disk or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LunDescription {
    /// Its number.
    pub lun: Lun,
    /// T10 vendor identification.
    pub vendor: String,
    /// Product identification.
    pub product: String,
    /// Product revision level.
    pub revision: String,
    /// Peripheral device type (SPC-4 table 142): 0 is a disk.
    pub device_type: u8,
    /// Size and block size; `None` when it is no block device or not ready.
    pub geometry: Option<Geometry>,
    /// The identity that paths are compared by, for people.
    pub identity: Option<String>,
}

/// A target with its sessions. Dropping it does not log out; call [`Target::logout`].
#[derive(Debug)]
pub struct Target(());

/// Receives what happens to sessions and paths, in words for people.
#[derive(Debug)]
pub struct EventReceiver(());

impl EventReceiver {
    /// The next event; `None` when nothing more can happen. Its `Display` is one line.
    #[allow(clippy::unused_async, reason = "stub")]
    pub async fn recv(&mut self) -> Option<String> {
        None
    }
}

#[allow(clippy::unused_async, clippy::unused_self, reason = "stub")]
impl Target {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &IscsiName {
        todo!("the initiator crate is a stub")
    }

    /// Portals that did not log in, with the reason.
    #[must_use]
    pub fn warnings(&self) -> Vec<(Portal, Error)> {
        Vec::new()
    }

    /// The target's logical units (REPORT LUNS).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn luns(&self) -> Result<Vec<Lun>, Error> {
        Err(Error::Unsupported("REPORT LUNS"))
    }

    /// What a logical unit is. Works for devices that are no disks too.
    ///
    /// # Errors
    /// [`Error::NoSuchLun`], [`Error::Io`].
    pub async fn describe_lun(&self, _lun: Lun) -> Result<LunDescription, Error> {
        Err(Error::Unsupported("INQUIRY"))
    }

    /// One logical unit over all paths.
    ///
    /// # Errors
    /// [`Error::NoSuchLun`], [`Error::Assemble`], [`Error::Io`].
    pub async fn logical_unit(&self, _lun: Lun) -> Result<LogicalUnit, Error> {
        Err(Error::Unsupported("logical units"))
    }

    /// All sessions, including those that are not up, with their last error.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionSnapshot> {
        Vec::new()
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> EventReceiver {
        EventReceiver(())
    }

    /// Logs every session out, bounded in time. Flushing is the caller's business.
    ///
    /// # Errors
    /// [`Error::Login`]-like failures of a session that would not end cleanly.
    pub async fn logout(self) -> Result<(), Error> {
        Ok(())
    }
}
