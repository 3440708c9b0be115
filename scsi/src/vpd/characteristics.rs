//! Page B1h: block device characteristics (SBC-3 §6.5.2).

use super::{page, page_of};
use crate::{ParseError, be};

/// MEDIUM ROTATION RATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Rotation {
    /// Not reported.
    #[default]
    NotReported,
    /// Does not rotate: solid state.
    SolidState,
    /// Revolutions per minute.
    Rpm(u16),
    /// A reserved value.
    Reserved(u16),
}

/// Page B1h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BlockDeviceCharacteristics {
    /// How fast the medium turns.
    pub rotation: Rotation,
    /// PRODUCT TYPE; 0 is not reported.
    pub product_type: u8,
    /// NOMINAL FORM FACTOR, 4 bits; 0 is not reported, 3h is 2.5 inch.
    pub form_factor: u8,
    /// ZONED, 2 bits (SBC-4): 1h host aware, 2h device managed.
    pub zoned: u8,
    /// FUAB: FUA bits behave as in SBC-3's table (a cache that is non-volatile may be enough).
    pub fua_behavior: bool,
    /// VBULS: VERIFY with BYTCHK works on unmapped blocks.
    pub verify_unmapped: bool,
}

impl BlockDeviceCharacteristics {
    /// Reads page B1h; fields behind the end of a short page count as zero.
    ///
    /// # Errors
    /// [`ParseError`] below 4 bytes, and on another page code.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let data = page_of("VPD page B1h", page::BLOCK_DEVICE_CHARACTERISTICS, data)?;
        let byte = |at| be::u8(data, at).unwrap_or(0);
        Ok(Self {
            rotation: match be::u16(data, 4).unwrap_or(0) {
                0 => Rotation::NotReported,
                1 => Rotation::SolidState,
                reserved @ (2..=0x400 | 0xffff) => Rotation::Reserved(reserved),
                rpm => Rotation::Rpm(rpm),
            },
            product_type: byte(6),
            form_factor: byte(7) & 0x0f,
            zoned: byte(8) >> 4 & 3,
            fua_behavior: byte(8) & 2 != 0,
            verify_unmapped: byte(8) & 1 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let mut data = [0_u8; 64];
        data[..9].copy_from_slice(&[0, 0xb1, 0, 0x3c, 0x1c, 0x20, 2, 0xf3, 0b0001_0011]);
        assert_eq!(
            BlockDeviceCharacteristics::parse(&data).unwrap(),
            BlockDeviceCharacteristics {
                rotation: Rotation::Rpm(7200),
                product_type: 2,
                form_factor: 3,
                zoned: 1,
                fua_behavior: true,
                verify_unmapped: true,
            }
        );
        let ssd = BlockDeviceCharacteristics::parse(&[0, 0xb1, 0, 2, 0, 1]).unwrap();
        assert_eq!(ssd.rotation, Rotation::SolidState);
        assert_eq!(ssd.form_factor, 0);
        let odd = BlockDeviceCharacteristics::parse(&[0, 0xb1, 0, 2, 4, 0]).unwrap();
        assert_eq!(odd.rotation, Rotation::Reserved(0x400));
    }
}
