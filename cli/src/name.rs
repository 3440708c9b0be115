//! Our own iSCSI name.
//!
//! Targets decide by it who may log in, so it must stay the same from run to run. It is taken
//! from `--initiator-name`, else `ISCSI_INITIATOR_NAME`, else from the file
//! `$XDG_CONFIG_HOME/iscsi/initiatorname` (`~/.config/iscsi/initiatorname`; without a home
//! directory `/etc/iscsi-userspace/initiatorname`), which is made on first use with 60 bits of the
//! operating system's randomness.
//!
//! The made name is a locally assigned NAA identifier (`naa.3…`, RFC 7143 §4.2.7.5): an `iqn.`
//! name would have to begin with a domain of which we have none. The kernel initiator's
//! `/etc/iscsi/initiatorname.iscsi` is left alone on purpose: two initiators that share a name
//! can end each other's sessions.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use initiator::IscsiName;

/// The name for this run; made and kept if there is none yet.
///
/// # Errors
/// No place to keep it, no randomness, a file that holds something else.
pub(crate) fn initiator_name(
    given: Option<&IscsiName>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<IscsiName> {
    if let Some(name) = given {
        return Ok(name.clone());
    }
    let path = kept_at(environment);
    load_or_make(&path).with_context(|| {
        format!(
            "no initiator name in {}; give --initiator-name or ISCSI_INITIATOR_NAME",
            path.display()
        )
    })
}

fn kept_at(environment: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let config = absolute(&environment, "XDG_CONFIG_HOME")
        .map(|config| config.join("iscsi"))
        .or_else(|| absolute(&environment, "HOME").map(|home| home.join(".config/iscsi")))
        .unwrap_or_else(|| PathBuf::from("/etc/iscsi-userspace"));
    config.join("initiatorname")
}

/// Where session identifiers are kept if nothing else was said: `$XDG_STATE_HOME/iscsi`
/// (`~/.local/state/iscsi`; without a home directory `/var/lib/iscsi-userspace`).
pub(crate) fn state_directory(environment: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    absolute(&environment, "XDG_STATE_HOME")
        .map(|state| state.join("iscsi"))
        .or_else(|| absolute(&environment, "HOME").map(|home| home.join(".local/state/iscsi")))
        .unwrap_or_else(|| PathBuf::from("/var/lib/iscsi-userspace"))
}

/// A variable that holds an absolute path; others do not count.
fn absolute(environment: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    environment(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

fn load_or_make(path: &Path) -> anyhow::Result<IscsiName> {
    if let Some(name) = load(path)? {
        return Ok(name);
    }
    let directory = path.parent().context("no directory")?;
    fs::create_dir_all(directory)?;
    let name = make()?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(file, "InitiatorName={name}")?;
    file.as_file().sync_all()?;
    // Of two runs that both find no file, one wins and the other takes over its name.
    match file.persist_noclobber(path) {
        Ok(_) => {
            fs::File::open(directory)?.sync_all()?;
            Ok(name)
        }
        Err(lost) if lost.error.kind() == std::io::ErrorKind::AlreadyExists => {
            load(path)?.context("the file vanished while it was read")
        }
        Err(failed) => Err(failed.error.into()),
    }
}

fn load(path: &Path) -> anyhow::Result<Option<IscsiName>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("InitiatorName="))
        .context("the file has no line InitiatorName=…")?;
    Ok(Some(line.trim().parse()?))
}

fn make() -> anyhow::Result<IscsiName> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).context("no randomness from the operating system")?;
    let identifier = 3 << 60 | u64::from_be_bytes(random) >> 4;
    Ok(format!("naa.{identifier:016x}").parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(home: &Path) -> impl Fn(&str) -> Option<OsString> {
        let home = home.to_owned();
        move |name| (name == "XDG_CONFIG_HOME").then(|| home.clone().into_os_string())
    }

    #[test]
    fn a_name_is_made_once_and_kept() {
        let home = tempfile::tempdir().expect("a directory");
        let first = initiator_name(None, environment(home.path())).expect("made");
        let second = initiator_name(None, environment(home.path())).expect("kept");
        assert_eq!(first, second);
        let text = first.to_string();
        assert!(text.starts_with("naa.3") && text.len() == 20, "{text}");

        let elsewhere = tempfile::tempdir().expect("a directory");
        let other = initiator_name(None, environment(elsewhere.path())).expect("made");
        assert_ne!(first, other);
    }

    #[test]
    fn a_given_name_touches_no_file() {
        let home = tempfile::tempdir().expect("a directory");
        let given: IscsiName = "iqn.2026-11.org.example:me".parse().expect("a name");
        let name = initiator_name(Some(&given), environment(home.path())).expect("given");
        assert_eq!(name, given);
        assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_spoiled_file_is_an_error_and_is_not_replaced() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("iscsi/initiatorname");
        fs::create_dir_all(path.parent().expect("parent")).expect("made");
        for text in ["", "something else\n", "InitiatorName=not a name\n"] {
            fs::write(&path, text).expect("written");
            assert!(
                initiator_name(None, environment(home.path())).is_err(),
                "{text:?}"
            );
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
        }
    }

    #[test]
    fn comments_and_blanks_around_the_name_do_not_matter() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("iscsi/initiatorname");
        fs::create_dir_all(path.parent().expect("parent")).expect("made");
        fs::write(
            &path,
            "# ours\n\n  InitiatorName=iqn.2026-11.org.example:me \n",
        )
        .expect("made");
        let name = initiator_name(None, environment(home.path())).expect("read");
        assert_eq!(name.to_string(), "iqn.2026-11.org.example:me");
    }

    #[test]
    fn relative_directories_are_ignored() {
        let path = kept_at(|name| (name == "XDG_CONFIG_HOME").then(|| "here".into()));
        assert_eq!(path, Path::new("/etc/iscsi-userspace/initiatorname"));
        let path = kept_at(|name| (name == "HOME").then(|| "/home/me".into()));
        assert_eq!(path, Path::new("/home/me/.config/iscsi/initiatorname"));
        let path = state_directory(|name| (name == "XDG_STATE_HOME").then(|| "here".into()));
        assert_eq!(path, Path::new("/var/lib/iscsi-userspace"));
        let path = state_directory(|name| (name == "HOME").then(|| "/home/me".into()));
        assert_eq!(path, Path::new("/home/me/.local/state/iscsi"));
    }
}
