//! Where CHAP names and secrets come from.
//!
//! A secret is read from a file or from the environment, never from an argument: arguments are
//! visible to every user of the machine. It is not printed, not even its length.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use initiator::{ChapAlgorithm, ChapCredentials, MutualCredentials, Secret};
use zeroize::Zeroizing;

use crate::args::{AlgorithmName, LoginArgs};
use crate::exit::Failure;

/// The credentials of both directions.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    /// Ours.
    pub(crate) chap: Option<ChapCredentials>,
    /// The target's.
    pub(crate) mutual: Option<MutualCredentials>,
}

/// Collects credentials from the options and from `environment`.
///
/// # Errors
/// A name without a secret, mutual without our own, an unreadable or unusable secret.
pub(crate) fn collect(
    args: &LoginArgs,
    environment: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Credentials> {
    let ours = Source {
        file: args.chap_secret_file.as_deref(),
        variable: environment(OURS),
        variable_name: OURS,
    };
    let theirs = Source {
        file: args.mutual_secret_file.as_deref(),
        variable: environment(THEIRS),
        variable_name: THEIRS,
    };
    // A secret alone in the environment is no request to use it; a name or a file option is.
    let chap = match &args.chap_name {
        Some(name) => {
            let secret = ours.secret()?.ok_or_else(|| {
                usage(format!(
                    "--chap-name needs a secret: --chap-secret-file FILE or {OURS}"
                ))
            })?;
            Some(with_algorithms(
                ChapCredentials::new(name, secret),
                &args.chap_alg,
            ))
        }
        None if args.chap_secret_file.is_some() => {
            return Err(usage("--chap-secret-file needs --chap-name".to_owned()));
        }
        None if !args.chap_alg.is_empty() => {
            return Err(usage(
                "--chap-alg needs --chap-name and a secret".to_owned(),
            ));
        }
        None => None,
    };
    // Who authenticates and has a secret of the target's means it to be checked: to leave it out
    // for want of a name would be trust nobody asked for.
    let wanted = args.mutual_secret_file.is_some() || (chap.is_some() && theirs.variable.is_some());
    let mutual = match &args.mutual_name {
        None if !wanted => None,
        name => {
            let secret = theirs.secret()?.ok_or_else(|| {
                usage(format!(
                    "--mutual-name needs a secret: --mutual-secret-file FILE or {THEIRS}"
                ))
            })?;
            Some(MutualCredentials {
                name: name.clone(),
                secret,
            })
        }
    };
    Ok(Credentials { chap, mutual })
}

const OURS: &str = "ISCSI_CHAP_SECRET";
const THEIRS: &str = "ISCSI_MUTUAL_SECRET";

/// Where one secret may come from.
struct Source<'a> {
    file: Option<&'a Path>,
    variable: Option<OsString>,
    variable_name: &'static str,
}

impl Source<'_> {
    /// A file was asked for on this very command line; a variable may be left over.
    fn secret(&self) -> anyhow::Result<Option<Secret>> {
        if let Some(path) = self.file {
            return read_secret(path).map(Some);
        }
        let Some(value) = &self.variable else {
            return Ok(None);
        };
        let secret = value.to_str().map_or_else(
            || Secret::from_bytes(value.as_encoded_bytes().to_vec()),
            Secret::from_text,
        );
        let name = self.variable_name;
        secret
            .map(Some)
            .map_err(|error| usage(format!("{name}: {error}")))
    }
}

fn read_secret(path: &Path) -> anyhow::Result<Secret> {
    let shown = path.display();
    let context = || format!("cannot read the secret in {shown}");
    let file = File::open(path).with_context(context)?;
    warn_if_exposed(path, &file);
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES));
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    file.take(limit)
        .read_to_end(&mut bytes)
        .with_context(context)?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let secret = std::str::from_utf8(text)
        .map_or_else(|_| Secret::from_bytes(text.to_vec()), Secret::from_text);
    secret.map_err(|error| usage(format!("{shown}: {error}")))
}

fn warn_if_exposed(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt as _;
    let exposed = file
        .metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o077 != 0);
    if exposed {
        let path = path.display();
        crate::output::note(&format!("{path} can be read by others; chmod 600 it"));
    }
}

fn with_algorithms(credentials: ChapCredentials, names: &[AlgorithmName]) -> ChapCredentials {
    let one = |name: &AlgorithmName| match name {
        AlgorithmName::Md5 => ChapAlgorithm::Md5,
        AlgorithmName::Sha1 => ChapAlgorithm::Sha1,
        AlgorithmName::Sha256 => ChapAlgorithm::Sha256,
        AlgorithmName::Sha3_256 => ChapAlgorithm::Sha3_256,
    };
    if names.is_empty() {
        return credentials;
    }
    credentials.with_algorithms(names.iter().map(one).collect())
}

fn usage(text: String) -> anyhow::Error {
    Failure::Usage(text).into()
}

/// Bytes read of a secret's file: the longest secret in hexadecimal, and more than any that is
/// taken.
const MAX_FILE_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Verb};
    use crate::exit::Status;

    fn login(options: &[&str]) -> LoginArgs {
        let words = ["iscsi", "discover", "192.0.2.1"].iter().chain(options);
        let cli = Cli::try_parse_from(words).expect("parsed");
        let Verb::Discover(args) = cli.verb else {
            panic!("{cli:?}")
        };
        args.login
    }

    fn secret(text: &str) -> Secret {
        Secret::from_text(text).expect("a secret")
    }

    #[test]
    fn nothing_given_means_no_authentication() {
        let none = collect(&login(&[]), |_| Some("left over secret".into())).expect("collected");
        assert!(none.chap.is_none() && none.mutual.is_none());
    }

    #[test]
    fn a_file_goes_before_the_environment_and_loses_one_newline() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret");
        fs::write(&path, "").expect("made");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, private).expect("made private");
        for (content, expected) in [
            ("correct horse", "correct horse"),
            ("correct horse\n", "correct horse"),
            ("correct horse\r\n", "correct horse"),
            ("correct horse\n\n", "correct horse\n"),
        ] {
            fs::write(&path, content).expect("written");
            let file = path.to_str().expect("a path");
            let args = login(&["--chap-name", "me", "--chap-secret-file", file]);
            let found = collect(&args, |_| Some("wrong".into())).expect("collected");
            assert_eq!(
                found.chap.expect("ours").secret,
                secret(expected),
                "{content:?}"
            );
        }
    }

    #[test]
    fn the_environment_serves_when_there_is_no_file() {
        let args = login(&[
            "--chap-name",
            "me",
            "--chap-alg",
            "sha256,md5",
            "--mutual-name",
            "it",
        ]);
        let found = collect(&args, |name| Some(format!("value of {name}").into())).expect("both");
        let chap = found.chap.expect("ours");
        assert_eq!(chap.secret, secret("value of ISCSI_CHAP_SECRET"));
        assert_eq!(chap.algorithms, [ChapAlgorithm::Sha256, ChapAlgorithm::Md5]);
        let mutual = found.mutual.expect("theirs");
        assert_eq!(mutual.secret, secret("value of ISCSI_MUTUAL_SECRET"));
        assert_eq!(mutual.name.as_deref(), Some("it"));
    }

    #[test]
    fn a_secret_of_the_targets_is_used_without_a_name_once_we_authenticate() {
        let args = login(&["--chap-name", "me"]);
        let found = collect(&args, |name| Some(format!("value of {name}").into())).expect("both");
        let mutual = found.mutual.expect("theirs");
        assert_eq!(mutual.secret, secret("value of ISCSI_MUTUAL_SECRET"));
        assert_eq!(mutual.name, None);
        let only_ours = |name: &str| (name == OURS).then(|| "our own secret".into());
        assert!(collect(&args, only_ours).expect("one").mutual.is_none());
    }

    #[test]
    fn halves_are_refused_as_usage() {
        for options in [
            &["--chap-name", "me"][..],
            &["--chap-secret-file", "/dev/null"],
            &["--chap-name", "me", "--chap-secret-file", "/dev/null"],
            &["--chap-alg", "md5"],
            &["--mutual-name", "it"],
        ] {
            let error = collect(&login(options), |_| None).expect_err("refused");
            assert_eq!(Status::of(&error), Status::Usage, "{options:?}: {error}");
        }
    }
}
