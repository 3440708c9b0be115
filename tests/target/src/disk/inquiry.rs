//! INQUIRY and its vital product data pages (SPC-4 §6.4, §7.8; SBC-3 §6.6).

use super::Disk;
use super::sense::Sense;

/// Where an I_T nexus enters the device, as VPD page 83h reports it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entrance {
    pub(crate) target_name: String,
    pub(crate) group: u16,
    /// Target port group, as SCSI counts them.
    pub(crate) port_group: u16,
    /// Relative port identifier; counts from 1.
    pub(crate) port: u16,
}

const PAGES: [u8; 7] = [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2];

/// Answers an INQUIRY of a LUN without logical unit: peripheral qualifier 011b, type 1Fh.
pub(crate) fn absent() -> Vec<u8> {
    let mut data = standard(1);
    if let Some(first) = data.first_mut() {
        *first = 0x7f;
    }
    data
}

/// Standard INQUIRY data: SPC-4 disk with command queueing. The iSCSI version descriptor counts on from 0960h by the
/// protocol level of the session (RFC 7144 §4.2).
pub(crate) fn standard(protocol_level: u8) -> Vec<u8> {
    // TPGS is clear: without configured groups every port is active/optimized.
    let mut data = vec![0x00, 0x00, 0x06, 0x12, 91, 0x00, 0x00, 0x02];
    data.extend(b"RUSTTEST");
    data.extend(b"MEMORY DISK     ");
    data.extend(b"0001");
    data.resize(58, 0);
    // Version descriptors: SAM-5, iSCSI, SPC-4, SBC-3.
    let iscsi = 0x0960 + u16::from(protocol_level);
    for version in [0x00a0, iscsi, 0x0460, 0x04c0] {
        data.extend(version.to_be_bytes());
    }
    data.resize(96, 0);
    data
}

/// Vital product data page `page`.
pub(crate) fn vital(page: u8, disk: &Disk, entrance: &Entrance) -> Result<Vec<u8>, Sense> {
    let body = match page {
        0x00 => PAGES.to_vec(),
        0x80 => disk.lun().serial.as_bytes().to_vec(),
        0x83 => designators(disk, entrance),
        // Extended INQUIRY: simple, ordered and head of queue tasks supported.
        0x86 => [&[0x00, 0x07][..], &[0; 58]].concat(),
        0xb0 => block_limits(),
        // Non-rotating medium.
        0xb1 => [&[0x00, 0x01][..], &[0; 58]].concat(),
        // Thin provisioning: UNMAP, WRITE SAME with UNMAP, LBPRZ.
        0xb2 => vec![0x00, 0xe4, 0x02, 0x00],
        _ => return Err(Sense::cdb_field(2)),
    };
    let mut data = vec![0x00, page];
    data.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    data.extend(body);
    Ok(data)
}

/// NAA-6 identity made from the serial: stable over restarts, equal for equal serials.
pub(crate) fn naa(serial: &str) -> [u8; 16] {
    let mut out = [0; 16];
    let (mut high, mut low) = (0xcbf2_9ce4_8422_2325_u64, 0x9ae1_6a3b_2f90_404f_u64);
    for byte in serial.bytes() {
        high = (high ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        low = (low ^ high).rotate_left(23).wrapping_mul(0x0100_0000_01b3);
    }
    let (first, second) = out.split_at_mut(8);
    // NAA 6 and an OUI of the locally administered kind, then 36 + 64 bits of vendor specific identifier.
    first.copy_from_slice(&(0x6020_0000_0000_0000 | high & 0xf_ffff_ffff).to_be_bytes());
    second.copy_from_slice(&low.to_be_bytes());
    out
}

fn designator(out: &mut Vec<u8>, code_set: u8, kind: u8, bytes: &[u8]) {
    // Protocol identifier 5 (iSCSI) with PIV for designators of ports and of the device.
    let port_related = kind & 0x30 != 0;
    out.extend([
        if port_related {
            0x50 | code_set
        } else {
            code_set
        },
        if port_related { 0x80 | kind } else { kind },
        0,
        u8::try_from(bytes.len()).unwrap_or(0),
    ]);
    out.extend(bytes);
}

fn name_string(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes.resize(bytes.len().div_ceil(4) * 4, 0);
    bytes
}

fn designators(disk: &Disk, entrance: &Entrance) -> Vec<u8> {
    let mut out = Vec::new();
    if disk.lun().unique {
        designator(&mut out, 1, 0x03, &naa(&disk.lun().serial));
    }
    let vendor = format!("RUSTTEST{}", disk.lun().serial);
    designator(&mut out, 2, 0x01, vendor.as_bytes());
    let [high, low] = entrance.port.to_be_bytes();
    designator(&mut out, 1, 0x14, &[0, 0, high, low]);
    let [high, low] = entrance.port_group.to_be_bytes();
    designator(&mut out, 1, 0x15, &[0, 0, high, low]);
    let port_name = format!("{},t,0x{:04x}", entrance.target_name, entrance.group);
    designator(&mut out, 3, 0x18, &name_string(&port_name));
    designator(&mut out, 3, 0x28, &name_string(&entrance.target_name));
    out
}

/// Longest transfer of one command in blocks, as the block limits page says.
pub(crate) const TRANSFER_LIMIT_BLOCKS: u32 = 0xffff;
/// Most blocks one WRITE SAME or one UNMAP may touch.
pub(crate) const UNMAP_LIMIT_BLOCKS: u32 = TRANSFER_LIMIT_BLOCKS;
/// Most blocks one COMPARE AND WRITE may compare.
pub(crate) const COMPARE_AND_WRITE_LIMIT_BLOCKS: u8 = 0xff;
/// Most descriptors of one UNMAP.
pub(crate) const UNMAP_DESCRIPTORS: u32 = 128;

fn block_limits() -> Vec<u8> {
    // WSNZ: WRITE SAME of zero blocks is refused instead of meaning "to the end".
    let mut out = vec![0x01, COMPARE_AND_WRITE_LIMIT_BLOCKS];
    out.extend(8_u16.to_be_bytes());
    out.extend(TRANSFER_LIMIT_BLOCKS.to_be_bytes());
    out.extend(2048_u32.to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    out.extend(UNMAP_LIMIT_BLOCKS.to_be_bytes());
    out.extend(UNMAP_DESCRIPTORS.to_be_bytes());
    out.extend(1_u32.to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    out.extend(u64::from(UNMAP_LIMIT_BLOCKS).to_be_bytes());
    out.resize(60, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Lun;

    #[test]
    fn pages_have_the_lengths_they_claim() {
        let disk = Disk::new(Lun::default());
        let entrance = Entrance {
            target_name: "iqn.2026-01.x:y".into(),
            group: 7,
            port_group: 7,
            port: 2,
        };
        for page in PAGES {
            let data = vital(page, &disk, &entrance).unwrap();
            assert_eq!(data[1], page);
            assert_eq!(
                usize::from(u16::from_be_bytes([data[2], data[3]])),
                data.len() - 4
            );
        }
        assert!(vital(0xc0, &disk, &entrance).is_err());
        let page = vital(0xb0, &disk, &entrance).unwrap();
        assert_eq!(page.len(), 64);
        assert_eq!(standard(1).len(), 96);
        assert_eq!(standard(2)[60..62], [0x09, 0x62]);
    }

    #[test]
    fn naa_is_of_type_six_and_stable() {
        assert_eq!(naa("A")[0] >> 4, 6);
        assert_eq!(naa("A"), naa("A"));
        assert_ne!(naa("A"), naa("B"));
    }
}
