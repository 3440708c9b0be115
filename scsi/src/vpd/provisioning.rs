//! Page B2h: logical block provisioning (SBC-3 §6.5.4).

use super::identification::Designator;
use super::{page, page_of};
use crate::{ParseError, be};

/// PROVISIONING TYPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ProvisioningType {
    /// 0h: fully provisioned, or not reported.
    #[default]
    FullOrUnknown,
    /// 1h: resource provisioned.
    Resource,
    /// 2h: thin.
    Thin,
    /// A reserved value.
    Reserved(u8),
}

/// What unmapped blocks read as (LBPRZ, three bits since SBC-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum UnmappedRead {
    /// 000b: vendor-specific.
    #[default]
    Undefined,
    /// xx1b: zeros.
    Zeros,
    /// 010b: the provisioning initialization pattern.
    Pattern,
    /// A reserved value.
    Reserved(u8),
}

/// Page B2h.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogicalBlockProvisioning {
    /// Threshold sets are 2^n blocks; 0: no thresholds.
    pub threshold_exponent: u8,
    /// LBPU: UNMAP.
    pub unmap: bool,
    /// LBPWS: WRITE SAME (16) with the UNMAP bit.
    pub write_same_16: bool,
    /// LBPWS10: WRITE SAME (10) with the UNMAP bit.
    pub write_same_10: bool,
    /// LBPRZ.
    pub unmapped_reads: UnmappedRead,
    /// ANC_SUP: blocks can be anchored.
    pub anchor: bool,
    /// Provisioning type.
    pub provisioning: ProvisioningType,
    /// THRESHOLD PERCENTAGE; 0: not reported.
    pub threshold_percentage: u8,
    /// The pool the blocks come from, when DP is set.
    pub group: Option<Designator>,
}

impl LogicalBlockProvisioning {
    /// Reads page B2h; fields behind the end of a short page count as zero.
    ///
    /// # Errors
    /// [`ParseError`] below 4 bytes, and on another page code.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let data = page_of("VPD page B2h", page::LOGICAL_BLOCK_PROVISIONING, data)?;
        let byte = |at| be::u8(data, at).unwrap_or(0);
        let group = be::bit(data, 5, 0)
            .then(|| Designator::split_off(data.get(8..)?))
            .flatten();
        Ok(Self {
            threshold_exponent: byte(4),
            unmap: be::bit(data, 5, 7),
            write_same_16: be::bit(data, 5, 6),
            write_same_10: be::bit(data, 5, 5),
            unmapped_reads: match byte(5) >> 2 & 7 {
                0 => UnmappedRead::Undefined,
                odd if odd & 1 != 0 => UnmappedRead::Zeros,
                2 => UnmappedRead::Pattern,
                other => UnmappedRead::Reserved(other),
            },
            anchor: be::bit(data, 5, 1),
            provisioning: match byte(6) & 7 {
                0 => ProvisioningType::FullOrUnknown,
                1 => ProvisioningType::Resource,
                2 => ProvisioningType::Thin,
                other => ProvisioningType::Reserved(other),
            },
            threshold_percentage: byte(7),
            group: group.map(|(designator, _)| designator),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vpd::identification::{DesignatorId, Naa};

    #[test]
    fn fields() {
        let thin = LogicalBlockProvisioning::parse(&[0, 0xb2, 0, 4, 1, 0xe6, 2, 90]).unwrap();
        assert_eq!(
            thin,
            LogicalBlockProvisioning {
                threshold_exponent: 1,
                unmap: true,
                write_same_16: true,
                write_same_10: true,
                unmapped_reads: UnmappedRead::Zeros,
                anchor: true,
                provisioning: ProvisioningType::Thin,
                threshold_percentage: 90,
                group: None,
            }
        );
        let full = LogicalBlockProvisioning::parse(&[0, 0xb2, 0, 4, 0, 0, 0, 0]).unwrap();
        assert_eq!(full, LogicalBlockProvisioning::default());
    }

    #[test]
    fn group_designator() {
        let mut data = vec![0, 0xb2, 0, 16, 0, 0x01, 0, 0, 0x01, 0x03, 0, 8];
        data.extend_from_slice(&[0x50, 1, 2, 3, 4, 5, 6, 7]);
        let id = LogicalBlockProvisioning::parse(&data)
            .unwrap()
            .group
            .map(|group| group.id);
        let naa = Naa::Registered([0x50, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(id, Some(DesignatorId::Naa(naa)));
        // Cut off in the designator.
        assert_eq!(
            LogicalBlockProvisioning::parse(&data[..15]).unwrap().group,
            None
        );
    }
}
