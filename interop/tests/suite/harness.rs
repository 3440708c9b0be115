//! The harness itself, tried with foreign tools only: a failure elsewhere is then ours.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use interop::capture::Capture;
use interop::cut::{Cut, Meter};
use interop::istgt::{self, Istgt};
use interop::process::Tool;
use interop::sandbox::isolated;
use interop::tgt::{self, Tgt};

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn tgtd_serves_both_address_families_to_libiscsi() {
    isolated(|sandbox| {
        let _tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .portal("127.0.0.2:3260")
            .portal("[::1]:3260")
            .disk(8 << 20)
            .start(sandbox)?;
        for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
            let seen = Tool::new(sandbox, "iscsi-ls")
                .arg(format!("iscsi://{host}"))
                .run()?
                .success()?;
            ensure!(seen.text().contains(tgt::TARGET), "{}", seen.text());
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn istgt_serves_both_address_families_to_libiscsi() {
    isolated(|sandbox| {
        let _istgt = Istgt::builder()
            .portal_group(&["127.0.0.1:3260"])
            .portal_group(&["[::1]:3260"])
            .disk(8 << 20)
            .start(sandbox)?;
        for host in ["127.0.0.1", "[::1]"] {
            let lun = format!("iscsi://{host}/{}/0", istgt::TARGET);
            let seen = Tool::new(sandbox, "iscsi-inq").arg(lun).run()?.success()?;
            ensure!(seen.text().contains("DIRECT_ACCESS"), "{}", seen.text());
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_recording_holds_the_whole_session_and_verifies_digests() {
    isolated(|sandbox| {
        let _tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk(8 << 20)
            .set("HeaderDigest", "CRC32C")
            .start(sandbox)?;
        let capture = Capture::start(sandbox)?;
        let lun = format!("iscsi://127.0.0.1/{}/1?header_digest=crc32c", tgt::TARGET);
        Tool::new(sandbox, "iscsi-inq").arg(lun).run()?.success()?;
        let recording = capture.stop()?;
        recording.verdict(sandbox)?.clean(true)?;
        let login = recording.fields(sandbox, "iscsi.opcode == 0x23", &["iscsi.keyvalue"])?;
        ensure!(
            login
                .iter()
                .any(|line| line.contains("HeaderDigest=CRC32C")),
            "{login:?}"
        );
        let logout = recording.fields(sandbox, "iscsi.opcode == 0x26", &["iscsi.opcode"])?;
        ensure!(
            logout.len() == 1,
            "the end of the session is missing: {logout:?}"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_refusing_portal_resets_connections_and_spares_the_others() {
    isolated(|sandbox| {
        let listener = TcpListener::bind("0.0.0.0:3260")?;
        let meter = Meter::attach(sandbox, "127.0.0.2:3260")?;
        let mut connection = connected(&listener, "127.0.0.2:3260")?;
        ensure!(meter.bytes(sandbox)? > 0, "the meter did not count");
        let cut = Cut::refuse(sandbox, "127.0.0.2:3260")?;
        connection.write_all(b"ping")?;
        let error = connection
            .read(&mut [0; 4])
            .err()
            .context("the connection lived on")?;
        ensure!(
            error.kind() == std::io::ErrorKind::ConnectionReset,
            "{error}"
        );
        let error = TcpStream::connect("127.0.0.2:3260")
            .err()
            .context("a new connection came")?;
        ensure!(
            error.kind() == std::io::ErrorKind::ConnectionRefused,
            "{error}"
        );
        connected(&listener, "127.0.0.1:3260")?;
        cut.restore(sandbox)?;
        connected(&listener, "127.0.0.2:3260")?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_black_hole_is_silent_until_restored() {
    isolated(|sandbox| {
        let listener = TcpListener::bind("[::]:3260")?;
        let mut connection = connected(&listener, "[::1]:3260")?;
        let cut = Cut::black_hole(sandbox, "[::1]:3260")?;
        connection.set_read_timeout(Some(Duration::from_millis(200)))?;
        connection.write_all(b"ping")?;
        let error = connection
            .read(&mut [0; 4])
            .err()
            .context("an answer came")?;
        ensure!(error.kind() == std::io::ErrorKind::WouldBlock, "{error}");
        cut.restore(sandbox)?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        ensure!(
            connection.read(&mut [0; 4])? == 4,
            "the connection did not recover"
        );
        Ok(())
    });
}

/// A connection to `portal` whose other end echoes the first four bytes once they come.
fn connected(listener: &TcpListener, portal: &str) -> Result<TcpStream> {
    let client = TcpStream::connect(portal)?;
    let (mut server, _peer) = listener.accept()?;
    std::thread::spawn(move || {
        let mut bytes = [0; 4];
        if server.read_exact(&mut bytes).is_ok() {
            // The client's end may be gone; then nobody waits for the echo.
            drop(server.write_all(&bytes));
        }
    });
    Ok(client)
}
