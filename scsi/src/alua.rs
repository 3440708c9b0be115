//! Asymmetric logical unit access (SPC-4 §5.15): the data of REPORT TARGET PORT GROUPS (§6.37)
//! and SET TARGET PORT GROUPS (§6.45).
//!
//! Whether a device has any of this says [`crate::inquiry::Tpgs`]; which group a path belongs to
//! says [`crate::vpd::identification::DeviceIdentification::target_port_group`]. This module only
//! reads and writes; what a state means for a path is multipath's business.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::{ParseError, be};

/// How a logical unit can be used through the ports of a group (ASYMMETRIC ACCESS STATE, 4 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessState {
    /// 0h: as well as can be.
    ActiveOptimized,
    /// 1h: fully, but slower than through others.
    ActiveNonOptimized,
    /// 2h: only commands that ask about the device; can be made active.
    Standby,
    /// 3h: as standby, and less; must not be counted on.
    Unavailable,
    /// 4h: some blocks optimized, some not (REPORT REFERRALS tells which).
    LbaDependent,
    /// Eh: the ports are not to be used.
    Offline,
    /// Fh: on the way from one state to another.
    Transitioning,
    /// 5h to Dh: reserved by the standard.
    Reserved(u8),
}

impl AccessState {
    /// The seven states of the standard, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::ActiveOptimized,
        Self::ActiveNonOptimized,
        Self::Standby,
        Self::Unavailable,
        Self::LbaDependent,
        Self::Offline,
        Self::Transitioning,
    ];

    /// From the low four bits.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code & 0x0f {
            0x0 => Self::ActiveOptimized,
            0x1 => Self::ActiveNonOptimized,
            0x2 => Self::Standby,
            0x3 => Self::Unavailable,
            0x4 => Self::LbaDependent,
            0xe => Self::Offline,
            0xf => Self::Transitioning,
            other => Self::Reserved(other),
        }
    }

    /// The four bits.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ActiveOptimized => 0x0,
            Self::ActiveNonOptimized => 0x1,
            Self::Standby => 0x2,
            Self::Unavailable => 0x3,
            Self::LbaDependent => 0x4,
            Self::Offline => 0xe,
            Self::Transitioning => 0xf,
            Self::Reserved(code) => code & 0x0f,
        }
    }

    /// The standard's words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveOptimized => "active/optimized",
            Self::ActiveNonOptimized => "active/non-optimized",
            Self::Standby => "standby",
            Self::Unavailable => "unavailable",
            Self::LbaDependent => "logical block dependent",
            Self::Offline => "offline",
            Self::Transitioning => "transitioning",
            Self::Reserved(_) => "reserved",
        }
    }

    /// Its bit in [`SupportedStates`].
    const fn support_bit(self) -> u8 {
        match self {
            Self::ActiveOptimized => 0x01,
            Self::ActiveNonOptimized => 0x02,
            Self::Standby => 0x04,
            Self::Unavailable => 0x08,
            Self::LbaDependent => 0x10,
            Self::Offline => 0x40,
            Self::Transitioning => 0x80,
            Self::Reserved(_) => 0,
        }
    }
}

impl fmt::Display for AccessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Reserved(code) = self {
            return write!(f, "reserved ({code:x}h)");
        }
        f.pad(self.name())
    }
}

/// The states a group can be in (the bits T_SUP, O_SUP, LBD_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP).
/// Some devices set none of them; then nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SupportedStates(pub u8);

impl SupportedStates {
    /// Whether the group says it can be in this state.
    #[must_use]
    pub const fn contains(self, state: AccessState) -> bool {
        self.0 & state.support_bit() != 0
    }

    /// Whether the device says nothing of it.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<AccessState> for SupportedStates {
    fn from_iter<I: IntoIterator<Item = AccessState>>(states: I) -> Self {
        let bits = states.into_iter().map(AccessState::support_bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

/// Why the state is what it is (STATUS CODE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateChange {
    /// 00h: nothing is known.
    Unknown,
    /// 01h: SET TARGET PORT GROUPS changed it.
    Explicit,
    /// 02h: the target changed it by itself.
    Implicit,
    /// Reserved by the standard.
    Other(u8),
}

/// One target port group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPortGroup {
    /// TARGET PORT GROUP: its identifier. Need not be the portal group tag of iSCSI.
    pub id: u16,
    /// The state now.
    pub state: AccessState,
    /// PREF: the target would like its ports to be used.
    pub preferred: bool,
    /// States it can be in.
    pub supported: SupportedStates,
    /// What made the state.
    pub change: StateChange,
    /// Vendor-specific byte as it came.
    pub vendor_specific: u8,
    /// Relative target port identifiers of its ports.
    pub ports: Vec<u16>,
}

/// The data of REPORT TARGET PORT GROUPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPortGroups {
    /// The groups; of a last one that was cut off, the ports that came.
    pub groups: Vec<TargetPortGroup>,
    /// IMPLICIT TRANSITION TIME: how long a transition may take that the target begins by
    /// itself. `None` without the extended header, and when the target does not say.
    pub implicit_transition: Option<Duration>,
    /// Bytes an allocation length must have for all of the data.
    pub needed_bytes: usize,
}

const WHAT: &str = "REPORT TARGET PORT GROUPS data";

impl TargetPortGroups {
    /// Reads the data, with or without the extended header, whichever was asked for: devices that
    /// do not know the extended one may ignore the wish, and the data tell which it is.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when the header is not whole; [`ParseError::BadField`] when the
    /// format of the header is unknown.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let Some(length) = be::u32(data, 0) else {
            return Err(ParseError::truncated(WHAT, 4, data.len()));
        };
        let needed_bytes = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .saturating_add(4);
        let received = data.len();
        let data = be::clamp(data, needed_bytes);
        // In the short format a group begins here, whose bits 4 to 6 are reserved.
        let (header, implicit_transition) = match be::u8(data, 4).map_or(0, |byte| byte >> 4 & 7) {
            0 => (4, None),
            1 => {
                let Some(seconds) = be::u8(data, 5).filter(|_| data.len() >= 8) else {
                    return Err(ParseError::truncated(WHAT, 8, received));
                };
                let time = Duration::from_secs(seconds.into());
                (8, Some(time).filter(|time| !time.is_zero()))
            }
            format => return Err(ParseError::bad(WHAT, "RETURN DATA FORMAT TYPE", format)),
        };
        let mut rest = data.get(header..).unwrap_or_default();
        let mut groups = Vec::new();
        while let Some((group, after)) = TargetPortGroup::split_off(rest) {
            groups.push(group);
            rest = after;
        }
        Ok(Self {
            groups,
            implicit_transition,
            needed_bytes,
        })
    }

    /// Whether `received` bytes hold all groups.
    #[must_use]
    pub const fn is_whole(&self, received: usize) -> bool {
        received >= self.needed_bytes
    }

    /// The group with this identifier.
    #[must_use]
    pub fn group(&self, id: u16) -> Option<&TargetPortGroup> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// The group that holds the port with this relative identifier.
    #[must_use]
    pub fn group_of_port(&self, port: u16) -> Option<&TargetPortGroup> {
        self.groups.iter().find(|group| group.ports.contains(&port))
    }
}

impl TargetPortGroup {
    /// The first descriptor of `list` and what follows it; `None` when not even its state is
    /// there. The list of ports may be cut off: the Linux kernel's target forgets the bytes of the
    /// extended header when it counts, and the last group pays for it.
    fn split_off(list: &[u8]) -> Option<(Self, &[u8])> {
        let [b0, supported, g0, g1, _, change, vendor_specific, count] = be::array(list, 0)?;
        let rest = list.get(8..)?;
        let ports = usize::from(count).saturating_mul(4).min(rest.len());
        let (ports, rest) = rest.split_at_checked(ports)?;
        let group = Self {
            id: u16::from_be_bytes([g0, g1]),
            state: AccessState::from_code(b0),
            preferred: b0 & 0x80 != 0,
            supported: SupportedStates(supported & 0xdf),
            change: match change {
                0 => StateChange::Unknown,
                1 => StateChange::Explicit,
                2 => StateChange::Implicit,
                other => StateChange::Other(other),
            },
            vendor_specific,
            ports: ports
                .chunks_exact(4)
                .filter_map(|port| be::u16(port, 2))
                .collect(),
        };
        Some((group, rest))
    }
}

/// One wish of SET TARGET PORT GROUPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetState {
    /// Bring a group into a state.
    Group {
        /// Its identifier.
        id: u16,
        /// The state wanted.
        state: SettableState,
    },
    /// Take the target port with this relative identifier offline.
    PortOffline(u16),
}

/// The states that SET TARGET PORT GROUPS can bring a group into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SettableState {
    /// [`AccessState::ActiveOptimized`].
    ActiveOptimized,
    /// [`AccessState::ActiveNonOptimized`].
    ActiveNonOptimized,
    /// [`AccessState::Standby`].
    Standby,
    /// [`AccessState::Unavailable`].
    Unavailable,
}

impl From<SettableState> for AccessState {
    fn from(state: SettableState) -> Self {
        match state {
            SettableState::ActiveOptimized => Self::ActiveOptimized,
            SettableState::ActiveNonOptimized => Self::ActiveNonOptimized,
            SettableState::Standby => Self::Standby,
            SettableState::Unavailable => Self::Unavailable,
        }
    }
}

/// The parameter list of SET TARGET PORT GROUPS; goes with
/// [`Cdb::set_target_port_groups`](crate::Cdb::set_target_port_groups).
#[must_use]
pub fn set_target_port_groups(wishes: &[SetState]) -> Bytes {
    let mut list = vec![0; 4];
    for wish in wishes {
        let (state, id) = match *wish {
            SetState::Group { id, state } => (AccessState::from(state), id),
            SetState::PortOffline(port) => (AccessState::Offline, port),
        };
        let [high, low] = id.to_be_bytes();
        list.extend_from_slice(&[state.code(), 0, high, low]);
    }
    list.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two groups: 1 optimized and preferred with ports 1 and 2; 300 transitioning with port 3.
    const GROUPS: [u8; 28] = [
        0x80, 0xdf, 0, 1, 0, 2, 0xaa, 2, 0, 0, 0, 1, 0, 0, 0, 2, // group 1
        0x0f, 0x83, 0x01, 0x2c, 0, 1, 0, 1, 0, 0, 0, 3, // group 300
    ];

    fn short() -> Vec<u8> {
        [&[0, 0, 0, 28][..], &GROUPS].concat()
    }

    fn extended(seconds: u8) -> Vec<u8> {
        [&[0, 0, 0, 32, 0x10, seconds, 0, 0][..], &GROUPS].concat()
    }

    fn expected() -> Vec<TargetPortGroup> {
        vec![
            TargetPortGroup {
                id: 1,
                state: AccessState::ActiveOptimized,
                preferred: true,
                supported: SupportedStates(0xdf),
                change: StateChange::Implicit,
                vendor_specific: 0xaa,
                ports: vec![1, 2],
            },
            TargetPortGroup {
                id: 300,
                state: AccessState::Transitioning,
                preferred: false,
                supported: SupportedStates(0x83),
                change: StateChange::Explicit,
                vendor_specific: 0,
                ports: vec![3],
            },
        ]
    }

    #[test]
    fn both_headers() {
        let groups = TargetPortGroups::parse(&short()).unwrap();
        assert_eq!(groups.groups, expected());
        assert_eq!(groups.implicit_transition, None);
        assert_eq!(groups.needed_bytes, 32);
        let groups = TargetPortGroups::parse(&extended(60)).unwrap();
        assert_eq!(groups.groups, expected());
        assert_eq!(groups.implicit_transition, Some(Duration::from_secs(60)));
        assert_eq!(groups.needed_bytes, 36);
        let silent = TargetPortGroups::parse(&extended(0)).unwrap();
        assert_eq!(silent.implicit_transition, None);
    }

    #[test]
    fn finds_groups_by_name_and_by_port() {
        let groups = TargetPortGroups::parse(&short()).unwrap();
        assert_eq!(groups.group(300).unwrap().ports, [3]);
        assert_eq!(groups.group(2), None);
        assert_eq!(groups.group_of_port(2).unwrap().id, 1);
        assert_eq!(groups.group_of_port(300), None);
    }

    #[test]
    fn states_and_their_bits() {
        let codes = [0x0, 0x1, 0x2, 0x3, 0x4, 0xe, 0xf];
        let bits = [0x01, 0x02, 0x04, 0x08, 0x10, 0x40, 0x80];
        for ((state, code), bit) in AccessState::ALL.into_iter().zip(codes).zip(bits) {
            assert_eq!(AccessState::from_code(code), state);
            assert_eq!(AccessState::from_code(code | 0xf0), state);
            assert_eq!(state.code(), code);
            assert!(SupportedStates(bit).contains(state), "{state}");
            assert!(!SupportedStates(!bit).contains(state), "{state}");
        }
        for code in 5..0xe {
            assert_eq!(AccessState::from_code(code), AccessState::Reserved(code));
            assert_eq!(AccessState::Reserved(code).code(), code);
            assert!(!SupportedStates(0xff).contains(AccessState::Reserved(code)));
        }
        assert_eq!(AccessState::Reserved(9).to_string(), "reserved (9h)");
        assert_eq!(
            AccessState::ActiveNonOptimized.to_string(),
            "active/non-optimized"
        );
        let two = [AccessState::ActiveOptimized, AccessState::Transitioning];
        assert_eq!(two.into_iter().collect::<SupportedStates>().0, 0x81);
        assert!(SupportedStates::default().is_unknown());
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let whole = extended(1);
        for len in 0..whole.len() {
            let parsed = TargetPortGroups::parse(&whole[..len]);
            let Ok(groups) = parsed else {
                assert!(len < 8, "{len}");
                continue;
            };
            // A group is there with its state, and as many ports as came.
            let count = if len < 16 {
                0
            } else {
                1 + usize::from(len >= 32)
            };
            let ids: Vec<u16> = groups.groups.iter().map(|group| group.id).collect();
            assert_eq!(ids, [1, 300][..count], "{len}");
            let ports: usize = groups.groups.iter().map(|group| group.ports.len()).sum();
            let came = len.clamp(16, 24) / 4 - 4 + usize::from(len >= 36);
            assert_eq!(ports, came, "{len}");
            assert!(!groups.is_whole(len));
        }
        assert!(TargetPortGroups::parse(&whole).unwrap().is_whole(36));
        // A group that claims more ports than there are.
        let mut lying = short();
        lying[11] = 255;
        assert_eq!(TargetPortGroups::parse(&lying).unwrap().groups.len(), 1);
        // Bytes behind the length are no data.
        let mut shorter = short();
        shorter[3] = 16;
        assert_eq!(TargetPortGroups::parse(&shorter).unwrap().groups.len(), 1);
        assert_eq!(TargetPortGroups::parse(&[0; 4]).unwrap().groups, []);
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let mut data = extended(1);
        data[4] = 0x20;
        let error = TargetPortGroups::parse(&data).unwrap_err();
        assert!(error.to_string().contains("RETURN DATA FORMAT TYPE is 0x2"));
    }

    #[test]
    fn wishes() {
        let list = set_target_port_groups(&[
            SetState::Group {
                id: 0x0102,
                state: SettableState::ActiveOptimized,
            },
            SetState::Group {
                id: 2,
                state: SettableState::Standby,
            },
            SetState::PortOffline(7),
        ]);
        assert_eq!(
            list[..],
            [0, 0, 0, 0, 0, 0, 1, 2, 2, 0, 0, 2, 0x0e, 0, 0, 7]
        );
        for (state, code) in [
            (SettableState::ActiveNonOptimized, 1),
            (SettableState::Unavailable, 3),
        ] {
            let wish = SetState::Group { id: 0, state };
            assert_eq!(set_target_port_groups(&[wish])[4], code);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = TargetPortGroups::parse(&bytes);
        }

        /// Random bodies behind a right header get further.
        #[test]
        fn any_groups(body in proptest::collection::vec(0_u8.., 0..600)) {
            let mut data = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
            data.extend_from_slice(&body);
            if let Ok(groups) = TargetPortGroups::parse(&data) {
                let bytes: usize = groups.groups.iter().map(|it| 8 + 4 * it.ports.len()).sum();
                proptest::prop_assert!(bytes <= body.len());
                proptest::prop_assert!(groups.is_whole(data.len()));
            }
        }
    }
}
