//! Where CHAP names and secrets come from.
//!
//! A secret is read from a file or from the environment, never from an argument: arguments are
//! visible to every user of the machine. It is not printed, not even its length.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use initiator::{ChapAlgorithm, ChapCredentials, Secret};

use crate::args::{AlgorithmName, LoginArgs};
use crate::exit::Failure;

/// The credentials of both directions.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    /// Ours.
    pub(crate) chap: Option<ChapCredentials>,
    /// The target's.
    pub(crate) mutual: Option<ChapCredentials>,
}

/// Collects credentials from the options and from `environment`.
///
/// # Errors
/// A name without a secret or the other way round, mutual without our own, an unreadable file.
pub(crate) fn collect(
    args: &LoginArgs,
    environment: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Credentials> {
    let chap = one_side(
        &Source {
            name: args.chap_name.as_deref(),
            file: args.chap_secret_file.as_deref(),
            variable: environment("ISCSI_CHAP_SECRET"),
            options: ("--chap-name", "--chap-secret-file", "ISCSI_CHAP_SECRET"),
        },
        algorithms(&args.chap_alg),
    )?;
    let mutual = one_side(
        &Source {
            name: args.mutual_name.as_deref(),
            file: args.mutual_secret_file.as_deref(),
            variable: environment("ISCSI_MUTUAL_SECRET"),
            options: (
                "--mutual-name",
                "--mutual-secret-file",
                "ISCSI_MUTUAL_SECRET",
            ),
        },
        Vec::new(),
    )?;
    if chap.is_none() && mutual.is_some() {
        return Err(usage(
            "mutual CHAP needs our own credentials too (--chap-name, --chap-secret-file)",
        ));
    }
    if chap.is_none() && !args.chap_alg.is_empty() {
        return Err(usage("--chap-alg needs --chap-name and a secret"));
    }
    Ok(Credentials { chap, mutual })
}

struct Source<'a> {
    name: Option<&'a str>,
    file: Option<&'a Path>,
    variable: Option<OsString>,
    options: (&'static str, &'static str, &'static str),
}

fn one_side(
    source: &Source<'_>,
    algorithms: Vec<ChapAlgorithm>,
) -> anyhow::Result<Option<ChapCredentials>> {
    let (name_option, file_option, variable) = source.options;
    // A file was asked for on this very command line; a variable may be left over.
    let secret = match (source.file, &source.variable) {
        (Some(file), _) => Some(read_secret(file)?),
        (None, Some(value)) => Some(value.as_encoded_bytes().to_vec()),
        (None, None) => None,
    };
    match (source.name, secret) {
        (None, None) => Ok(None),
        (Some(name), Some(secret)) if !name.is_empty() => {
            if secret.is_empty() {
                return Err(usage(&format!("the secret for {name_option} is empty")));
            }
            let secret = Secret::new(secret);
            Ok(Some(ChapCredentials {
                name: name.to_owned(),
                secret,
                algorithms,
            }))
        }
        (Some(_), Some(_)) => Err(usage(&format!("{name_option} is empty"))),
        (Some(_), None) => Err(usage(&format!(
            "{name_option} needs a secret: {file_option} FILE or {variable}"
        ))),
        // A secret alone in the environment is no request to use it; a file option is.
        (None, Some(_)) if source.file.is_none() => Ok(None),
        (None, Some(_)) => Err(usage(&format!("{file_option} needs {name_option}"))),
    }
}

fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let context = || format!("cannot read the secret in {}", path.display());
    let file = File::open(path).with_context(context)?;
    warn_if_exposed(path, &file);
    let mut secret = Vec::with_capacity(MAX_SECRET_BYTES);
    let limit = u64::try_from(MAX_SECRET_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(3);
    file.take(limit)
        .read_to_end(&mut secret)
        .with_context(context)?;
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    if secret.len() > MAX_SECRET_BYTES {
        return Err(usage(&format!(
            "{} holds more than {MAX_SECRET_BYTES} bytes; is it a secret?",
            path.display()
        )));
    }
    Ok(secret)
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

fn algorithms(names: &[AlgorithmName]) -> Vec<ChapAlgorithm> {
    let one = |name: &AlgorithmName| match name {
        AlgorithmName::Md5 => ChapAlgorithm::Md5,
        AlgorithmName::Sha1 => ChapAlgorithm::Sha1,
        AlgorithmName::Sha256 => ChapAlgorithm::Sha256,
        AlgorithmName::Sha3_256 => ChapAlgorithm::Sha3_256,
    };
    names.iter().map(one).collect()
}

fn usage(text: &str) -> anyhow::Error {
    Failure::Usage(text.to_owned()).into()
}

/// Longest secret that is taken, in bytes.
const MAX_SECRET_BYTES: usize = 1024;
