//! Session identifiers that stay the same from run to run.
//!
//! A session that comes back with the ISID it had is the same I_T nexus: persistent reservations
//! go on to hold, and the login ends whatever a killed run left at the target, its last writes
//! included (RFC 7143 §6.3.5). So a directory keeps, for each initiator name, *slots*: one base
//! ISID each, and which path of which target had which qualifier.
//!
//! Two processes must never use one slot at once, for each would end the other's sessions. A slot
//! is therefore locked as long as its initiator lives; the second process takes the next slot.
//! The lock is the operating system's (`flock`), so it ends with the process, however it ends. It
//! does not reach over hosts: hosts must have different initiator names.
//!
//! Files are replaced as a whole and synchronised before anything is sent under a new identifier.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{IscsiName, Isid, Portal};

/// Processes with one initiator name on one host at once.
const SLOTS_MAX: usize = 64;

/// Paths remembered per slot; beyond, those longest out of use are forgotten.
const PATHS_MAX: usize = 1024;

/// The state directory cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file could not be read, written or locked.
    #[error("{path}: {reason}; the directory must be writable, or go without one", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file has other contents than this crate writes.
    #[error("{path} is damaged: {reason}; removing it lets the next sessions be new ones", path = .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Every slot belongs to a running process.
    #[error("all {SLOTS_MAX} session slots in {path} are in use by running processes", path = .path.display())]
    Full {
        /// Which directory.
        path: PathBuf,
    },
}

/// What the file of a slot holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    isid: String,
    #[serde(default, rename = "path")]
    paths: Vec<PathRecord>,
}

/// One path; the order of the file is the order of last use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathRecord {
    target: String,
    portal: String,
    qualifier: u16,
}

/// A slot of our own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    file: PathBuf,
    base: Isid,
    paths: Vec<PathRecord>,
    _lock: File,
}

impl Slot {
    /// Takes the first slot of `initiator` that no running process has; makes it if need be, with
    /// a base from `fresh`.
    pub(crate) fn take(
        directory: &Path,
        initiator: &IscsiName,
        fresh: Isid,
    ) -> Result<Self, StateError> {
        let directory = directory.join(initiator.to_string());
        fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
        for slot in 0..SLOTS_MAX {
            let lock = directory.join(format!("slot-{slot}.lock"));
            let Some(held) = try_lock(&lock).map_err(|error| failed(&lock, &error))? else {
                continue;
            };
            let file = directory.join(format!("slot-{slot}.toml"));
            let known = load(&file)?;
            let is_new = known.is_none();
            let (base, paths) = known.unwrap_or((fresh, Vec::new()));
            let slot = Self {
                file,
                base,
                paths,
                _lock: held,
            };
            if is_new {
                slot.save()?;
            }
            return Ok(slot);
        }
        Err(StateError::Full { path: directory })
    }

    pub(crate) fn base(&self) -> Isid {
        self.base
    }

    /// A qualifier for a path for which `is_free` holds: the one it had, else one that no other
    /// path to `target` is remembered with. It is on disk when this returns. `None` when there is
    /// none of either kind.
    pub(crate) fn qualifier(
        &mut self,
        target: &IscsiName,
        portal: &Portal,
        mut candidates: impl Iterator<Item = u16>,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<Option<u16>, StateError> {
        let (target, portal) = (target.to_string(), portal.to_string());
        let had = self.paths.iter().position(|path| {
            path.target == target && path.portal == portal && is_free(path.qualifier)
        });
        if let Some(at) = had {
            let path = self.paths.remove(at);
            let qualifier = path.qualifier;
            // Only the order changes; it is written with the next change that matters.
            self.paths.push(path);
            return Ok(Some(qualifier));
        }
        let taken = |qualifier| {
            let mut others = self.paths.iter().filter(|path| path.target == target);
            others.any(|path| path.qualifier == qualifier)
        };
        let qualifier = candidates.find(|qualifier| is_free(*qualifier) && !taken(*qualifier));
        let Some(qualifier) = qualifier else {
            return Ok(None);
        };
        if self.paths.len() >= PATHS_MAX {
            self.paths.remove(0);
        }
        self.paths.push(PathRecord {
            target,
            portal,
            qualifier,
        });
        self.save()?;
        Ok(Some(qualifier))
    }

    fn save(&self) -> Result<(), StateError> {
        let record = Record {
            isid: self.base.to_string(),
            paths: self.paths.clone(),
        };
        let failed = |error: &dyn std::fmt::Display| StateError::Io {
            path: self.file.clone(),
            reason: error.to_string(),
        };
        let text = toml::to_string(&record).map_err(|error| failed(&error))?;
        replace(&self.file, &text).map_err(|error| failed(&error))
    }
}

/// The lock, unless another process has it.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn load(path: &Path) -> Result<Option<(Isid, Vec<PathRecord>)>, StateError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, &error)),
    };
    let damaged = |reason: String| StateError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let record: Record = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    let isid = record.isid.parse();
    let isid = isid.map_err(|_| damaged(format!("{:?} is no ISID", record.isid)))?;
    Ok(Some((isid, record.paths)))
}

/// Puts `text` in place of the file, wholly or not at all, and lasting when this returns.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

fn failed(path: &Path, error: &io::Error) -> StateError {
    StateError::Io {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
