//! tshark as a judge of what was on the wire.
//!
//! tshark knows iSCSI well: having seen the login it verifies header and data digests and marks
//! PDUs it cannot take apart as malformed. A recording therefore starts before the login. Marker
//! datagrams to the discard port prove that recording has begun, and that all that was
//! sent before the end has been written to the file.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, process};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::process::{Running, Tool};
use crate::sandbox::Sandbox;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(20);
/// Decoding is slow where the machine is.
const DECODE_LIMIT: Duration = Duration::from_secs(90);
const DISCARD_PORT: &str = "127.0.0.1:9";

/// A recording in progress.
#[derive(Debug)]
pub struct Capture {
    recorder: Running,
    file: PathBuf,
}

impl Capture {
    /// Starts recording iSCSI on the loopback interface; returns when packets are being written.
    ///
    /// # Errors
    /// When tshark does not start recording.
    pub fn start(sandbox: &Sandbox) -> Result<Self> {
        let file = sandbox.logs().join("wire.pcapng");
        let recorder = Tool::new(sandbox, "tshark")
            .words("-i lo -q -B 64 -f")
            .arg("tcp port 3260 or udp port 9")
            .arg("-w")
            .arg(&file)
            .limit(LIMIT)
            .start()?;
        let mut capture = Self { recorder, file };
        capture.wait_for_marker("first")?;
        Ok(capture)
    }

    /// How many packets that match `filter` are in the file already. Recording goes on.
    ///
    /// # Errors
    /// When tshark cannot be run.
    pub fn count_so_far(&self, sandbox: &Sandbox, filter: &str) -> Result<usize> {
        // The file may end in the middle of a packet, which tshark complains of at the end.
        let seen = tshark(sandbox, &self.file).arg("-Y").arg(filter).run()?;
        Ok(seen.text().lines().count())
    }

    /// Ends the recording with everything that was sent so far in it.
    ///
    /// # Errors
    /// When tshark does not write it all down.
    pub fn stop(mut self) -> Result<Recording> {
        self.wait_for_marker("last")?;
        self.recorder.signal(Signal::INT)?;
        self.recorder.finish()?.success()?;
        Ok(Recording { file: self.file })
    }

    /// Sends marker datagrams until one of them is in the file.
    fn wait_for_marker(&mut self, which: &str) -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let marker = format!("interop-{}-{which}-marker", process::id());
        wait::until("tshark to record a marker", LIMIT, || {
            self.recorder.still_running()?;
            // Nobody listens on the discard port; the refusal comes back as an error later.
            drop(socket.send_to(marker.as_bytes(), DISCARD_PORT));
            let recorded = fs::read(&self.file).unwrap_or_default();
            let found = recorded
                .windows(marker.len())
                .any(|bytes| bytes == marker.as_bytes());
            Ok(found.then_some(()))
        })
    }
}

/// A finished recording.
#[derive(Debug)]
pub struct Recording {
    file: PathBuf,
}

/// What tshark thinks of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// iSCSI PDUs seen.
    pub pdus: usize,
    /// Digests that were right.
    pub good_digests: usize,
    /// Digests that were wrong.
    pub bad_digests: usize,
    /// PDUs that could not be taken apart.
    pub malformed: usize,
    /// Packets on the iSCSI port that do not look like iSCSI, and are no part of a PDU that does.
    pub foreign: usize,
}

impl Recording {
    /// Lets tshark take every PDU apart.
    ///
    /// # Errors
    /// When tshark fails.
    pub fn verdict(&self, sandbox: &Sandbox) -> Result<Verdict> {
        let text = self
            .tshark(sandbox)
            .words("-Y iscsi -O iscsi")
            .run()?
            .success()?
            .text();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        let malformed = self
            .tshark(sandbox)
            .arg("-Y")
            .arg("_ws.malformed || _ws.expert.group == \"Malformed\"")
            .run()?
            .success()?;
        let foreign = self
            .tshark(sandbox)
            // Two passes, or the first pieces of a PDU do not know yet that they are.
            .arg("-2")
            .arg("-Y")
            .arg("tcp.port == 3260 && tcp.len > 0 && !iscsi && !tcp.reassembled_in")
            .run()?
            .success()?;
        Ok(Verdict {
            pdus: text
                .lines()
                .filter(|line| line.starts_with("iSCSI ("))
                .count(),
            good_digests: count("(Good CRC32)"),
            bad_digests: count("(Bad CRC32"),
            malformed: malformed.text().lines().count(),
            foreign: foreign.text().lines().count(),
        })
    }

    /// Values of the fields of all packets that match `filter`: a line per packet, tabs between.
    ///
    /// # Errors
    /// When tshark fails.
    pub fn fields(&self, sandbox: &Sandbox, filter: &str, fields: &[&str]) -> Result<Vec<String>> {
        let mut tool = self
            .tshark(sandbox)
            .arg("-Y")
            .arg(filter)
            .words("-T fields");
        for field in fields {
            tool = tool.arg("-e").arg(field);
        }
        Ok(tool
            .run()?
            .success()?
            .text()
            .lines()
            .map(str::to_owned)
            .collect())
    }

    fn tshark(&self, sandbox: &Sandbox) -> Tool {
        tshark(sandbox, &self.file)
    }
}

fn tshark(sandbox: &Sandbox, file: &Path) -> Tool {
    Tool::new(sandbox, "tshark")
        .arg("-r")
        .arg(file)
        // Packets on a loopback device may be recorded out of order.
        .words("-o iscsi.bogus_pdu_max_data_len:16777215 -o tcp.reassemble_out_of_order:TRUE")
        .limit(DECODE_LIMIT)
}

impl Verdict {
    /// Demands PDUs, none of them malformed, no bad digest, and good ones exactly if `digests`.
    ///
    /// # Errors
    /// When it is not so.
    pub fn clean(&self, digests: bool) -> Result<()> {
        ensure!(self.pdus > 0, "tshark saw no iSCSI PDU at all");
        ensure!(self.malformed == 0, "malformed PDUs: {self:?}");
        ensure!(self.foreign == 0, "packets that are no iSCSI: {self:?}");
        ensure!(self.bad_digests == 0, "bad digests: {self:?}");
        ensure!(
            (self.good_digests > 0) == digests,
            "digests on: {digests}, but {self:?}"
        );
        Ok(())
    }
}
