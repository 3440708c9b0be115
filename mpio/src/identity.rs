//! Which paths lead to the same logical unit.
//!
//! The identity is the best logical-unit designator of VPD page 83h, in the order multipath-tools
//! uses: NAA 6, 5, 2, EUI-64, SCSI name string, T10 vendor id, NAA 3. The last two, and a unit
//! without designators, give a *weak* identity: different disks may carry the same one, so paths
//! are joined only when vendor, product and a non-empty VPD 80h serial number are equal too.
//! Capacity and block size must be equal in every case.
//!
//! Nothing here talks to a device; see [`crate::probe`].

use std::fmt;

use scsi::inquiry::{DeviceType, Tpgs};
use scsi::vpd::identification::{Association, Designator, DesignatorId, Eui64, Naa};

use crate::alua::TargetPort;

/// Who a logical unit is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LuIdentity {
    /// The best designator.
    pub designator: Option<LuDesignator>,
    /// Vendor identification of the standard INQUIRY data.
    pub vendor: String,
    /// Product identification of the standard INQUIRY data.
    pub product: String,
    /// Product revision; not part of the comparison (firmware is updated port by port).
    pub revision: String,
    /// Unit serial number (VPD 80h); empty when the device has none.
    pub serial: String,
}

/// A designator of VPD page 83h, reduced to what identifies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LuDesignator {
    /// What kind it is.
    pub kind: DesignatorKind,
    /// Its bytes as they came.
    pub bytes: Box<[u8]>,
}

/// Kinds of designators, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DesignatorKind {
    /// NAA 6h: IEEE registered extended.
    NaaRegisteredExtended,
    /// NAA 5h: IEEE registered.
    NaaRegistered,
    /// NAA 2h: IEEE extended.
    NaaExtended,
    /// EUI-64 of 8, 12 or 16 bytes.
    Eui64,
    /// SCSI name string.
    ScsiName,
    /// T10 vendor identification (weak).
    T10Vendor,
    /// NAA 3h: locally assigned (weak).
    NaaLocal,
}

impl DesignatorKind {
    fn of(id: &DesignatorId) -> Option<Self> {
        Some(match id {
            DesignatorId::Naa(Naa::RegisteredExtended(_)) => Self::NaaRegisteredExtended,
            DesignatorId::Naa(Naa::Registered(_)) => Self::NaaRegistered,
            DesignatorId::Naa(Naa::Extended(_)) => Self::NaaExtended,
            DesignatorId::Eui64(
                Eui64::Plain(_) | Eui64::WithDirectory(_) | Eui64::WithExtension(_),
            ) => Self::Eui64,
            DesignatorId::ScsiName(_) => Self::ScsiName,
            DesignatorId::T10Vendor { .. } => Self::T10Vendor,
            DesignatorId::Naa(Naa::Local(_)) => Self::NaaLocal,
            DesignatorId::RelativeTargetPort(_)
            | DesignatorId::TargetPortGroup(_)
            | DesignatorId::LogicalUnitGroup(_)
            | DesignatorId::Md5(_)
            | DesignatorId::Uuid(_)
            | DesignatorId::Other
            | _ => return None,
        })
    }

    /// Whether different units may carry the same designator of this kind.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::T10Vendor | Self::NaaLocal)
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::NaaRegisteredExtended
            | Self::NaaRegistered
            | Self::NaaExtended
            | Self::NaaLocal => "naa.",
            Self::Eui64 => "eui.",
            Self::ScsiName => "",
            Self::T10Vendor => "t10.",
        }
    }
}

impl fmt::Display for LuDesignator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.prefix())?;
        match self.kind {
            DesignatorKind::ScsiName | DesignatorKind::T10Vendor => {
                let text = String::from_utf8_lossy(&self.bytes);
                let text = text.trim_end_matches(['\0', ' ']);
                for c in text.chars() {
                    f.write_str(match c {
                        ' ' => "_",
                        c if c.is_control() => "?",
                        _ => {
                            write!(f, "{c}")?;
                            continue;
                        }
                    })?;
                }
                Ok(())
            }
            DesignatorKind::NaaRegisteredExtended
            | DesignatorKind::NaaRegistered
            | DesignatorKind::NaaExtended
            | DesignatorKind::NaaLocal
            | DesignatorKind::Eui64 => self.bytes.iter().try_for_each(|b| write!(f, "{b:02x}")),
        }
    }
}

impl LuIdentity {
    /// Makes an identity of what the device said.
    #[must_use]
    pub(crate) fn new(
        inquiry: &scsi::inquiry::Inquiry,
        designators: &[Designator],
        serial: String,
    ) -> Self {
        Self {
            designator: best(designators),
            vendor: inquiry.vendor.clone(),
            product: inquiry.product.clone(),
            revision: inquiry.revision.clone(),
            serial,
        }
    }

    /// Whether the designator alone does not prove that two paths lead to one unit.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.designator
            .as_ref()
            .is_none_or(|designator| designator.kind.is_weak())
    }

    fn same_as(&self, other: &Self) -> Result<(), Difference> {
        let differ =
            |what, left: &dyn fmt::Display, right: &dyn fmt::Display| Difference::Identity {
                what,
                left: left.to_string(),
                right: right.to_string(),
            };
        if self.designator != other.designator {
            return Err(differ("identity", self, other));
        }
        if !self.is_weak() {
            return Ok(());
        }
        if self.vendor != other.vendor || self.product != other.product {
            let name = |it: &Self| format!("{} {}", it.vendor, it.product);
            return Err(differ("vendor and product", &name(self), &name(other)));
        }
        if self.serial != other.serial {
            return Err(differ("serial number", &self.serial, &other.serial));
        }
        if self.serial.is_empty() {
            return Err(Difference::WeakIdentity {
                identity: self.to_string(),
            });
        }
        Ok(())
    }
}

impl fmt::Display for LuIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.designator {
            Some(designator) => designator.fmt(f),
            None if self.serial.is_empty() => write!(f, "{} {}", self.vendor, self.product),
            None => write!(f, "{} {} {}", self.vendor, self.product, self.serial),
        }
    }
}

/// The best logical-unit designator. Among equals the smallest, so that a target that lists
/// them in another order on another port is still recognised.
fn best(designators: &[Designator]) -> Option<LuDesignator> {
    designators
        .iter()
        .filter(|designator| designator.association == Association::LogicalUnit)
        .filter_map(|designator| {
            let kind = DesignatorKind::of(&designator.id)?;
            Some((kind, &designator.bytes))
        })
        .min()
        .map(|(kind, bytes)| LuDesignator {
            kind,
            bytes: bytes.clone(),
        })
}

/// In what two paths differ; left and right as in the error that carries it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Difference {
    /// Different units.
    #[error("{what} is {left} there and {right} here")]
    Identity {
        /// What was compared.
        what: &'static str,
        /// On the left side.
        left: String,
        /// On the right side.
        right: String,
    },
    /// Nothing differs, but nothing proves that it is one unit either.
    #[error("{identity} has no unique identifier and no serial number, so it may be two units")]
    WeakIdentity {
        /// What the unit calls itself.
        identity: String,
    },
    /// Different sizes.
    #[error("{left} blocks there and {right} blocks here")]
    Blocks {
        /// Blocks on the left side.
        left: u64,
        /// Blocks on the right side.
        right: u64,
    },
    /// Different block sizes.
    #[error("blocks of {left} bytes there and of {right} bytes here")]
    BlockBytes {
        /// Bytes per block on the left side.
        left: u32,
        /// Bytes per block on the right side.
        right: u32,
    },
    /// Different device types.
    #[error("device type {left:#04x} there and {right:#04x} here")]
    DeviceType {
        /// On the left side.
        left: u8,
        /// On the right side.
        right: u8,
    },
}

/// What one path showed of the unit behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) identity: LuIdentity,
    pub(crate) device_type: DeviceType,
    pub(crate) block_bytes: u32,
    pub(crate) blocks: u64,
    pub(crate) physical_block_bytes: u32,
    /// In blocks.
    pub(crate) max_transfer: Option<u32>,
    /// In blocks.
    pub(crate) optimal_transfer: Option<u32>,
    pub(crate) read_only: bool,
    /// Writes may be acknowledged while they are only in a volatile cache.
    pub(crate) write_cache: bool,
    /// Whether it has target port groups.
    pub(crate) tpgs: Tpgs,
    /// The port it was seen through; differs from path to path.
    pub(crate) port: TargetPort,
    /// `false`: the target gives no access through that port now, so what is said of blocks means
    /// nothing.
    pub(crate) accessible: bool,
}

impl Profile {
    /// Whether `other` may be a path to the same unit.
    pub(crate) fn same_as(&self, other: &Self) -> Result<(), Difference> {
        if self.device_type != other.device_type {
            return Err(Difference::DeviceType {
                left: self.device_type.0,
                right: other.device_type.0,
            });
        }
        self.identity.same_as(&other.identity)?;
        self.same_blocks(other)
    }

    /// Whether blocks are the same, as far as both can be seen.
    pub(crate) fn same_blocks(&self, other: &Self) -> Result<(), Difference> {
        if !self.accessible || !other.accessible {
            return Ok(());
        }
        if self.block_bytes != other.block_bytes {
            return Err(Difference::BlockBytes {
                left: self.block_bytes,
                right: other.block_bytes,
            });
        }
        if self.blocks != other.blocks {
            return Err(Difference::Blocks {
                left: self.blocks,
                right: other.blocks,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use scsi::vpd::identification::CodeSet;

    pub(crate) fn profile(naa: u8) -> Profile {
        Profile {
            identity: LuIdentity {
                designator: Some(LuDesignator {
                    kind: DesignatorKind::NaaRegisteredExtended,
                    bytes: [0x60, naa].into(),
                }),
                vendor: "V".into(),
                product: "P".into(),
                revision: "1".into(),
                serial: "S".into(),
            },
            device_type: DeviceType::DISK,
            block_bytes: 512,
            blocks: 1000,
            physical_block_bytes: 512,
            max_transfer: None,
            optimal_transfer: None,
            read_only: false,
            write_cache: false,
            tpgs: Tpgs::None,
            port: TargetPort::default(),
            accessible: true,
        }
    }

    fn designator(association: Association, id: DesignatorId, bytes: &[u8]) -> Designator {
        Designator {
            association,
            kind: 0,
            code_set: CodeSet::Binary,
            protocol: None,
            bytes: bytes.into(),
            id,
        }
    }

    #[test]
    fn designators_are_taken_in_the_order_of_multipath_tools() {
        let lu = Association::LogicalUnit;
        let in_order = [
            designator(
                lu,
                DesignatorId::Naa(Naa::RegisteredExtended([6; 16])),
                &[1],
            ),
            designator(lu, DesignatorId::Naa(Naa::Registered([5; 8])), &[2]),
            designator(lu, DesignatorId::Naa(Naa::Extended([2; 8])), &[3]),
            designator(lu, DesignatorId::Eui64(Eui64::Plain([0; 8])), &[4]),
            designator(lu, DesignatorId::ScsiName("x".into()), &[5]),
            designator(
                lu,
                DesignatorId::T10Vendor {
                    vendor: "x".into(),
                    id: [0].into(),
                },
                &[6],
            ),
            designator(lu, DesignatorId::Naa(Naa::Local([3; 8])), &[7]),
        ];
        for start in 0..in_order.len() {
            let mut rest = in_order[start..].to_vec();
            rest.reverse();
            let expected = u8::try_from(start + 1).unwrap();
            assert_eq!(&*best(&rest).unwrap().bytes, [expected]);
        }
        let port = designator(
            Association::TargetPort,
            DesignatorId::Naa(Naa::RegisteredExtended([6; 16])),
            &[1],
        );
        assert_eq!(best(&[port]), None);
    }

    #[test]
    fn what_differs_is_named() {
        let one = profile(1);
        assert_eq!(one.same_as(&profile(1)), Ok(()));
        assert!(matches!(
            one.same_as(&profile(2)),
            Err(Difference::Identity { .. })
        ));
        let mut other = profile(1);
        other.blocks = 999;
        assert_eq!(
            one.same_as(&other),
            Err(Difference::Blocks {
                left: 1000,
                right: 999
            })
        );
        let mut other = profile(1);
        other.block_bytes = 4096;
        assert!(matches!(
            one.same_as(&other),
            Err(Difference::BlockBytes { .. })
        ));
        // A strong identity does not care about firmware or serial.
        let mut other = profile(1);
        other.identity.revision = "2".into();
        other.identity.serial = "T".into();
        assert_eq!(one.same_as(&other), Ok(()));
    }

    #[test]
    fn weak_identities_need_a_serial_number() {
        for kind in [
            Some(DesignatorKind::T10Vendor),
            Some(DesignatorKind::NaaLocal),
            None,
        ] {
            let weak = |serial: &str, product: &str| {
                let mut it = profile(1);
                it.identity.designator = kind.map(|kind| LuDesignator {
                    kind,
                    bytes: [1].into(),
                });
                it.identity.serial = serial.into();
                it.identity.product = product.into();
                it
            };
            assert_eq!(weak("S", "P").same_as(&weak("S", "P")), Ok(()));
            assert!(matches!(
                weak("", "P").same_as(&weak("", "P")),
                Err(Difference::WeakIdentity { .. })
            ));
            assert!(weak("S", "P").same_as(&weak("T", "P")).is_err());
            assert!(weak("S", "P").same_as(&weak("S", "Q")).is_err());
        }
    }

    #[test]
    fn identities_read_like_wwids() {
        let show = |kind, bytes: &[u8]| {
            LuDesignator {
                kind,
                bytes: bytes.into(),
            }
            .to_string()
        };
        assert_eq!(show(DesignatorKind::NaaRegistered, &[0x5f, 1]), "naa.5f01");
        assert_eq!(show(DesignatorKind::T10Vendor, b"IET  1\0\0"), "t10.IET__1");
        assert_eq!(show(DesignatorKind::ScsiName, b"iqn.x,L,0\0"), "iqn.x,L,0");
    }
}
