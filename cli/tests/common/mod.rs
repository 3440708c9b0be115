//! Runs the binary under test, away from the user's own settings.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::expect_used, reason = "tests")]

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

/// The `iscsi` command with a private home and no settings in the environment.
pub struct Cli {
    home: tempfile::TempDir,
}

impl Cli {
    pub fn new() -> Self {
        Self {
            home: tempfile::tempdir().expect("a directory"),
        }
    }

    pub fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    pub fn command<I: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iscsi"));
        command
            .args(args)
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .stdin(Stdio::null());
        for name in [
            "ISCSI_INITIATOR_NAME",
            "ISCSI_STATE_DIR",
            "ISCSI_CHAP_NAME",
            "ISCSI_CHAP_SECRET",
            "ISCSI_MUTUAL_NAME",
            "ISCSI_MUTUAL_SECRET",
            "RUST_LOG",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Runs to the end.
    pub fn run<I: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Done {
        self.command(args).output().expect("the binary runs").into()
    }

    /// Runs to the end with `input` on standard input.
    pub fn run_with_input<I: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = I>,
        input: &[u8],
    ) -> Done {
        let mut child = self.spawn(args);
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            // The command may stop reading; that is for the test to judge by its status.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("the binary runs");
        feeder.join().expect("fed");
        output.into()
    }

    /// Starts with everything piped.
    pub fn spawn<I: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Child {
        self.command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs")
    }
}

/// A finished run.
#[derive(Debug)]
pub struct Done {
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Done {
    /// Asserts the exit status and gives standard output as text.
    #[track_caller]
    pub fn text(&self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:#?}");
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts the exit status and that a message was given; gives the message.
    #[track_caller]
    pub fn fails(&self, status: i32) -> &str {
        assert_eq!(self.status, Some(status), "{self:#?}");
        assert!(!self.stderr.trim().is_empty(), "no message: {self:#?}");
        &self.stderr
    }

    /// Asserts success and parses standard output.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text(0)).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
