//! Command descriptor blocks.
//!
//! [`Cdb`] holds any descriptor block; the builders are its associated functions, by topic in
//! [`primary`] (commands of every device type, SPC-4) and [`block`] (disks, SBC-3). [`media`]
//! reads foreign CDBs: which blocks a command touches. The builders of the data path allocate
//! nothing.

pub mod block;
pub mod media;
pub mod primary;

/// Which way data moves, seen from the initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// No data.
    None,
    /// Data-In: from the device.
    Read,
    /// Data-Out: to the device.
    Write,
}

/// How the device may order a task among others (SAM-5 §8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TaskAttribute {
    /// No attribute given (the device treats it as simple).
    Untagged,
    /// Any order.
    #[default]
    Simple,
    /// After all earlier, before all later.
    Ordered,
    /// Before all others.
    HeadOfQueue,
    /// Only while an ACA condition is in force.
    Aca,
}

/// A command descriptor block of 6 to 260 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cdb(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Inline { bytes: [u8; 16], len: u8 },
    Long(Box<[u8]>),
}

impl Cdb {
    /// Longest CDB that SPC allows and iSCSI's extended-CDB header segment carries, in bytes.
    pub const MAX_BYTES: usize = 260;

    /// Takes raw bytes, whatever they say. `None` when empty or longer than [`Cdb::MAX_BYTES`].
    #[must_use]
    pub fn from_slice(cdb: &[u8]) -> Option<Self> {
        if cdb.is_empty() || cdb.len() > Self::MAX_BYTES {
            return None;
        }
        let mut bytes = [0; 16];
        if let (Some(into), Ok(len)) = (bytes.get_mut(..cdb.len()), u8::try_from(cdb.len())) {
            into.copy_from_slice(cdb);
            return Some(Self(Repr::Inline { bytes, len }));
        }
        Some(Self(Repr::Long(cdb.into())))
    }

    /// A short descriptor block whose length is known to be right.
    fn fixed<const N: usize>(cdb: [u8; N]) -> Self {
        const { assert!(N <= 16) };
        let mut bytes = [0; 16];
        for (into, byte) in bytes.iter_mut().zip(cdb) {
            *into = byte;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 16, checked above")]
        let len = N as u8;
        Self(Repr::Inline { bytes, len })
    }

    /// The bytes, without padding.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { bytes, len } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Repr::Long(bytes) => bytes,
        }
    }

    /// The first byte.
    #[must_use]
    pub fn operation_code(&self) -> u8 {
        self.as_slice().first().copied().unwrap_or(0)
    }
}

impl std::fmt::Debug for Cdb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cdb(")?;
        for (index, byte) in self.as_slice().iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { " " })?;
        }
        f.write_str(")")
    }
}
