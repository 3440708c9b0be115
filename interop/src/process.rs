//! Programs with a deadline, whose output is kept.
//!
//! Output goes to files in the test's log directory instead of pipes: nothing blocks on a full
//! pipe, the output of a running program can be read at any time, and a failed test leaves it all
//! behind for people.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox::Sandbox;
use crate::wait;

/// How long a program may run when the test does not say.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// A program that is about to be run.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    line: String,
    limit: Duration,
    log: PathBuf,
}

impl Tool {
    /// Prepares `program`; it will run in the test's namespace with an empty standard input.
    #[must_use]
    pub fn new(sandbox: &Sandbox, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let name = PathBuf::from(program);
        let name = name
            .file_name()
            .unwrap_or(program)
            .to_string_lossy()
            .into_owned();
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir(sandbox.scratch());
        Self {
            command,
            line: name.clone(),
            limit: DEFAULT_LIMIT,
            log: sandbox.next_log(&name),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.line.push(' ');
        self.line.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(self, args: I) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Adds the words of a command line that needs no quoting.
    #[must_use]
    pub fn words(self, words: &str) -> Self {
        self.args(words.split_whitespace())
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Gives the file `path` as standard input.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn stdin_file(mut self, path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        self.command.stdin(file);
        Ok(self)
    }

    /// Gives a pipe, file or device as standard output; what is written there is not kept.
    #[must_use]
    pub fn stdout_to(mut self, stdout: impl Into<Stdio>) -> Redirected {
        self.command.stdout(stdout);
        Redirected(self)
    }

    /// Allows the program to run for `limit`.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts the program and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be started, for example because its package is not installed.
    pub fn start(mut self) -> Result<Running> {
        let out = self.log.with_extension("out");
        self.command.stdout(File::create(&out)?);
        self.spawn(out)
    }

    fn spawn(mut self, out: PathBuf) -> Result<Running> {
        let err = self.log.with_extension("err");
        self.command.stderr(File::create(&err)?);
        let child = self
            .command
            .spawn()
            .with_context(|| format!("starting `{}` (is its package installed?)", self.line))?;
        Ok(Running {
            child,
            line: self.line,
            limit: self.limit,
            out,
            err,
        })
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time. The exit status is not judged here.
    pub fn run(self) -> Result<Finished> {
        self.start()?.finish()
    }
}

/// A program that is about to be run with its standard output going elsewhere.
#[derive(Debug)]
pub struct Redirected(Tool);

impl Redirected {
    /// Starts the program and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self) -> Result<Running> {
        let out = self.0.log.with_extension("out");
        File::create(&out)?;
        self.0.spawn(out)
    }
}

/// A program that is running; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    limit: Duration,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// What it has printed on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        lossy(&self.err)
    }

    /// What it has printed on standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        lossy(&self.out)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` to it.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(id).context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("signalling `{}`", self.line))
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails if the program has ended; for use while waiting for something it is to do.
    ///
    /// # Errors
    /// With the program's last words.
    pub fn still_running(&mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!(
                "`{}` ended early ({status}):\n{}{}",
                self.line,
                self.stdout(),
                self.stderr()
            );
        }
        Ok(())
    }

    /// Waits for its end, as long as its limit allows.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn finish(mut self) -> Result<Finished> {
        let waited = wait::until(&format!("the end of `{}`", self.line), self.limit, || {
            Ok(self.child.try_wait()?)
        });
        let status = waited.with_context(|| {
            format!(
                "it had printed:\n{}{}",
                tail(&self.stdout()),
                tail(&self.stderr())
            )
        })?;
        Ok(Finished {
            status,
            stdout: fs::read(&self.out)?,
            stderr: self.stderr(),
            line: self.line.clone(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either may fail because the program has ended already, which is just as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    status: ExitStatus,
    /// Standard output, as bytes.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
    line: String,
}

impl Finished {
    /// The exit status, unless a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Both outputs, for tools that do not care where they print.
    #[must_use]
    pub fn everything(&self) -> String {
        self.text() + &self.stderr
    }

    /// Demands exit status `code`.
    ///
    /// # Errors
    /// When the status was another one, with what the program printed.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.status.code() == Some(code),
            "`{}` ended with {} instead of status {code}:\n{}{}",
            self.line,
            self.status,
            tail(&self.text()),
            tail(&self.stderr),
        );
        Ok(self)
    }

    /// Demands exit status 0.
    ///
    /// # Errors
    /// When the status was another one, with what the program printed.
    pub fn success(self) -> Result<Self> {
        self.expect(0)
    }

    /// Demands that standard error contains each of `words` (whatever their case).
    ///
    /// # Errors
    /// When one is missing.
    pub fn says(self, words: &[&str]) -> Result<Self> {
        let said = self.stderr.to_lowercase();
        for word in words {
            ensure!(
                said.contains(&word.to_lowercase()),
                "`{}` did not say {word:?}:\n{}",
                self.line,
                tail(&self.stderr),
            );
        }
        Ok(self)
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    /// When it is not exactly one JSON document.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.stdout)
            .with_context(|| format!("`{}` printed no JSON:\n{}", self.line, tail(&self.text())))
    }
}

fn lossy(path: &PathBuf) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The last lines of `text`, where errors are.
pub(crate) fn tail(text: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    let mut tail = lines
        .iter()
        .skip(skipped)
        .copied()
        .collect::<Vec<_>>()
        .join("\n");
    if !tail.is_empty() {
        tail.push('\n');
    }
    if skipped > 0 {
        format!("[{skipped} lines before]\n{tail}")
    } else {
        tail
    }
}
