//! Names and identifiers: iSCSI names, ISID, TSIH, CID, portal group tags, portals.

/// Initiator's part of the session identifier (RFC 7143 §11.12.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Isid(pub [u8; 6]);

/// Target session identifying handle; 0 asks for a new session (RFC 7143 §11.12.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tsih(pub u16);

/// Connection identifier within a session (RFC 7143 §11.12.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Cid(pub u16);

/// Target portal group tag (RFC 7143 §13.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortalGroupTag(pub u16);
