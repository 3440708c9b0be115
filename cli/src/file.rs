//! Files as source and destination.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::exit::Failure;

/// Opens a file to be copied; gives its size.
///
/// # Errors
/// It cannot be opened, or is something without a size.
pub(crate) fn open_source(path: &Path) -> anyhow::Result<(Arc<File>, u64)> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    let kind = file
        .metadata()
        .with_context(|| format!("cannot examine {shown}"))?
        .file_type();
    if kind.is_dir() {
        return Err(Failure::Usage(format!("{shown} is a directory")).into());
    }
    if !kind.is_file() && !kind.is_block_device() {
        let text = format!(
            "{shown} has no size; use 'iscsi write URL --offset 0 -i {shown}' for pipes and devices without an end"
        );
        return Err(Failure::Usage(text).into());
    }
    // The length of a block device is where its end is.
    let size = file
        .seek(SeekFrom::End(0))
        .with_context(|| format!("cannot examine {shown}"))?;
    file.rewind()?;
    Ok((Arc::new(file), size))
}

/// A file that is being made.
#[derive(Debug)]
pub(crate) struct Destination {
    file: Arc<File>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Written under another name beside its place; removed if it never gets there.
    Replace {
        temporary: tempfile::TempPath,
        place: PathBuf,
    },
    /// A device or a pipe: written where it is.
    Direct { seekable: bool },
}

impl Destination {
    /// Opens a destination for `size` bytes that may be read back if `read_back`. An existing
    /// regular file stays as it is until [`Destination::finish`].
    ///
    /// # Errors
    /// A directory, a missing directory, no permission, no room.
    pub(crate) fn create(path: &Path, size: u64, read_back: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                Err(Failure::Usage(format!("{shown} is a directory")).into())
            }
            Ok(found) if !found.is_file() => Self::direct(path, size, read_back)
                .with_context(|| format!("cannot write to {shown}")),
            Ok(found) => Self::replace(&fs::canonicalize(path)?, Some(&found), size)
                .with_context(|| format!("cannot write to {shown}")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::replace(path, None, size).with_context(|| format!("cannot create {shown}"))
            }
            Err(error) => Err(error).with_context(|| format!("cannot examine {shown}")),
        }
    }

    fn direct(path: &Path, size: u64, read_back: bool) -> anyhow::Result<Self> {
        // A pipe that is open for reading as well never tells that its reader went away.
        let is_pipe = fs::metadata(path)?.file_type().is_fifo();
        let mut options = OpenOptions::new();
        let mut file = options.write(true).read(read_back && !is_pipe).open(path)?;
        let seekable = file.stream_position().is_ok();
        if file.metadata()?.file_type().is_block_device() {
            let room = file.seek(SeekFrom::End(0))?;
            file.rewind()?;
            anyhow::ensure!(
                room >= size,
                "the device has {room} bytes, {size} are needed"
            );
        }
        Ok(Self {
            file: Arc::new(file),
            kind: Kind::Direct { seekable },
        })
    }

    fn replace(place: &Path, found: Option<&fs::Metadata>, size: u64) -> anyhow::Result<Self> {
        let name = place.file_name().context("no file name")?;
        let directory = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        // A new file gets what the umask leaves of rw-rw-rw-, as from any other tool.
        let mode = found.map_or(0o666, |found| found.permissions().mode() & 0o7777);
        let made = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .permissions(fs::Permissions::from_mode(mode & 0o777))
            .tempfile_in(directory)?;
        let (file, temporary) = made.into_parts();
        if let Some(found) = found {
            // Only root may give files away; for everybody else the new file is already theirs.
            let _ = std::os::unix::fs::fchown(&file, Some(found.uid()), Some(found.gid()));
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        reserve(&file, size)?;
        let kind = Kind::Replace {
            temporary,
            place: place.to_owned(),
        };
        Ok(Self {
            file: Arc::new(file),
            kind,
        })
    }

    /// The open file, for writing and reading.
    pub(crate) const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Whether it can be written by position and read back.
    pub(crate) const fn is_seekable(&self) -> bool {
        !matches!(self.kind, Kind::Direct { seekable: false })
    }

    /// Whether a failure leaves what was there before.
    pub(crate) const fn is_replaced_at_the_end(&self) -> bool {
        matches!(self.kind, Kind::Replace { .. })
    }

    /// Makes what was written last, under its name.
    ///
    /// # Errors
    /// Those of fsync and rename; the old file, if any, is still in its place then.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self.file.sync_all() {
            // Pipes and some devices have nothing to flush and say so.
            Err(error)
                if error.kind() == io::ErrorKind::InvalidInput
                    && !self.is_replaced_at_the_end() => {}
            result => result.context("flushing the file failed")?,
        }
        if let Kind::Replace { temporary, place } = self.kind {
            let directory = temporary
                .parent()
                .unwrap_or_else(|| Path::new("."))
                .to_owned();
            temporary
                .persist(&place)
                .with_context(|| format!("cannot rename to {}", place.display()))?;
            File::open(directory)?
                .sync_all()
                .context("flushing the directory failed")?;
        }
        Ok(())
    }

    /// Throws the file's pages out of memory, so that reading it back asks the medium.
    pub(crate) fn forget_cached(&self) {
        use rustix::fs::{Advice, fadvise};
        // Advice only: a file system that does not take it is read from memory.
        let _ = fadvise(&*self.file, 0, None, Advice::DontNeed);
    }
}

/// Takes the room up front, so that a full disk shows before hours of copying.
fn reserve(file: &File, size: u64) -> anyhow::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    if size == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
            Err(io::Error::from(error)).with_context(|| format!("no room for {size} bytes"))
        }
        // File systems without it find out while writing.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk.img");
        fs::write(&path, "old").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");

        let dropped = Destination::create(&path, 3, true).expect("created");
        dropped.file().write_all_at(b"new", 0).expect("written");
        drop(dropped);
        assert_eq!(fs::read(&path).expect("read"), b"old");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);

        let kept = Destination::create(&path, 3, true).expect("created");
        kept.file().write_all_at(b"new", 0).expect("written");
        kept.finish().expect("finished");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(
            fs::metadata(&path).expect("found").permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_link_is_followed_and_stays_a_link() {
        let directory = tempfile::tempdir().expect("a directory");
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "old").expect("written");
        std::os::unix::fs::symlink("real", &link).expect("linked");
        let destination = Destination::create(&link, 3, true).expect("created");
        destination.file().write_all_at(b"new", 0).expect("written");
        destination.finish().expect("finished");
        assert_eq!(fs::read(&real).expect("read"), b"new");
        assert!(fs::symlink_metadata(&link).expect("found").is_symlink());
    }

    #[test]
    fn a_directory_and_a_missing_directory_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(Destination::create(directory.path(), 1, true).is_err());
        assert!(Destination::create(&directory.path().join("no/file"), 1, true).is_err());
        assert!(open_source(directory.path()).is_err());
        assert!(open_source(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn devices_are_written_directly() {
        let null = Destination::create(Path::new("/dev/null"), 1 << 40, true).expect("opened");
        assert!(!null.is_replaced_at_the_end());
        null.finish().expect("finished");
    }
}
