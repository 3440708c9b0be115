//! Wireshark's dissector as a second reader of our headers.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use scsi::Cdb;

use super::*;

/// Bytes of one direction become one packet of a pcap file that tshark reads. Removed at the end.
struct Capture {
    directory: PathBuf,
}

impl Capture {
    /// `ports` are source and destination.
    fn new(name: &str, ports: &str, pdus: &[Vec<u8>]) -> Self {
        let directory = std::env::temp_dir().join(format!("iscsi-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut dump = String::new();
        for pdu in pdus {
            for (index, byte) in pdu.iter().enumerate() {
                if index % 16 == 0 {
                    write!(dump, "\n{index:06x}").unwrap();
                }
                write!(dump, " {byte:02x}").unwrap();
            }
            dump.push('\n');
        }
        let capture = Self { directory };
        std::fs::write(capture.directory.join("dump"), dump).unwrap();
        capture.run("text2pcap", &["-q", "-T", ports, "dump", "pcap"]);
        capture
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> String {
        let output = Command::new(tool)
            .args(arguments)
            .current_dir(&self.directory)
            .output()
            .unwrap_or_else(|error| panic!("{tool}: {error}"));
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{tool}: {err}");
        String::from_utf8_lossy(out).into_owned()
    }

    /// The fields of every packet, empty where it has none.
    fn fields(&self, names: &[&str]) -> Vec<Vec<String>> {
        let mut arguments = vec!["-r", "pcap", "-T", "fields", "-E", "occurrence=f"];
        for name in names {
            arguments.extend(["-e", name]);
        }
        let lines = self.run("tshark", &arguments);
        let row = |line: &str| line.split('\t').map(str::to_owned).collect();
        lines.lines().map(row).collect()
    }

    fn assert_clean(&self, packets: usize) {
        let problems = self.run("tshark", &["-r", "pcap", "-Y", "_ws.malformed or !iscsi"]);
        assert_eq!(problems, "", "tshark cannot read every PDU");
        assert_eq!(self.fields(&["iscsi.opcode"]).len(), packets);
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Field names and the values that one packet must show, numbers in any notation.
type Expected = &'static [(&'static str, &'static str)];

/// tshark shows some numbers in hexadecimal and some in decimal digits.
fn value(text: &str) -> Result<u64, &str> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).map_err(|_| text),
        None => text.parse().map_err(|_| text),
    }
}

fn check(name: &str, ports: &str, pdus: &[(Vec<u8>, Expected)]) {
    let bytes: Vec<_> = pdus.iter().map(|(bytes, _)| bytes.clone()).collect();
    let capture = Capture::new(name, ports, &bytes);
    capture.assert_clean(pdus.len());
    for (packet, (_, expected)) in pdus.iter().enumerate() {
        let names: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
        let found = &capture.fields(&names)[packet];
        for ((name, expected), found) in expected.iter().zip(found) {
            assert_eq!(value(found), value(expected), "packet {packet}: {name}");
        }
    }
}

fn with_data(bhs: Bhs, text: &[u8]) -> Vec<u8> {
    let mut bytes = bhs.to_vec();
    bytes.extend_from_slice(text);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Priority and qualifier of RFC 7144 are unknown to tshark, which takes a PDU that has them for
/// something else.
fn plain_command() -> ScsiCommand {
    ScsiCommand {
        priority: 0,
        ..command()
    }
}

fn extended_command() -> Vec<u8> {
    let cdb = Cdb::from_slice(&[0x7f; 22]).unwrap();
    let mut additional = Vec::new();
    let ahs_bytes = ahs::put_extended_cdb(&cdb, &mut additional);
    let bhs = ScsiCommand {
        final_: false,
        read: false,
        write: true,
        attribute: TaskAttribute::HeadOfQueue,
        cdb: ahs::cdb_head(&cdb),
        ..plain_command()
    }
    .encode(Lengths {
        ahs_bytes,
        data_bytes: 0,
    });
    [bhs.to_vec(), additional].concat()
}

#[test]
#[rustfmt::skip]
#[ignore = "needs tshark; cargo xtask test runs it"]
fn tshark_reads_our_requests() {
    check("requests", "40000,3260", &[
        (with_data(nop_out().encode(data(4)), b"ping"), &[
            ("iscsi.opcode", "0x00"), ("iscsi.I", "1"), ("iscsi.initiatortasktag", "0x11121314"),
            ("iscsi.targettransfertag", "0xffffffff"), ("iscsi.cmdsn", "0x31323334"),
            ("iscsi.expstatsn", "0x41424344"), ("iscsi.pingdata", "70696e67"),
            ("iscsi.datasegmentlength", "4"),
        ]),
        (plain_command().encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x01"), ("iscsi.I", "0"), ("iscsi.scsicommand.F", "1"),
            ("iscsi.scsicommand.R", "1"), ("iscsi.scsicommand.W", "0"),
            ("iscsi.scsicommand.attr", "0x01"),
            ("iscsi.scsicommand.expecteddatatransferlength", "0x00001000"),
            ("scsi_sbc.opcode", "0x28"), ("scsi_sbc.rdwr10.lba", "4660"),
            ("scsi_sbc.rdwr10.xferlen", "8"), ("scsi.lun", "7"),
        ]),
        (extended_command(), &[
            ("iscsi.opcode", "0x01"), ("iscsi.scsicommand.F", "0"), ("iscsi.scsicommand.W", "1"),
            ("iscsi.scsicommand.attr", "0x03"), ("iscsi.totalahslength", "0x03"),
            ("iscsi.ahs.length", "7"), ("iscsi.ahs.type", "0x01"),
        ]),
        (task_request().encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x02"), ("iscsi.I", "1"), ("iscsi.taskmanfun.function", "0x08"),
            ("iscsi.taskmanfun.referencedtasktag", "0x81828384"),
            ("iscsi.refcmdsn", "0x91929394"),
        ]),
        (with_data(login_request().encode(data(38)), b"InitiatorName=iqn.2001-04.com.example\0"), &[
            ("iscsi.opcode", "0x03"), ("iscsi.login.T", "1"), ("iscsi.login.C", "0"),
            ("iscsi.login.csg", "0x01"), ("iscsi.login.nsg", "0x03"),
            ("iscsi.isid.t", "0x02"), ("iscsi.isid.b", "0x7172"), ("iscsi.isid.c", "0x73"),
            ("iscsi.isid.d", "0x7475"), ("iscsi.tsih", "0x7677"), ("iscsi.cid", "0x7879"),
            ("iscsi.cmdsn", "0x31323334"), ("iscsi.expstatsn", "0x41424344"),
            ("iscsi.keyvalue", "InitiatorName=iqn.2001-04.com.example"),
        ]),
        (with_data(text_request().encode(data(16)), b"SendTargets=All\0"), &[
            ("iscsi.opcode", "0x04"), ("iscsi.text.F", "1"), ("iscsi.text.C", "0"),
            ("iscsi.targettransfertag", "0x21222324"), ("iscsi.keyvalue", "SendTargets=All"),
        ]),
        (with_data(data_out().encode(data(4)), b"data"), &[
            ("iscsi.opcode", "0x05"), ("iscsi.scsidata.F", "1"),
            ("iscsi.targettransfertag", "0x21222324"), ("iscsi.expstatsn", "0x41424344"),
            ("iscsi.datasn", "0x81828384"), ("iscsi.bufferOffset", "0x91929394"),
        ]),
        (logout_request().encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x06"), ("iscsi.logout.reason", "0x01"), ("iscsi.cid", "0x7879"),
            ("iscsi.cmdsn", "0x31323334"), ("iscsi.expstatsn", "0x41424344"),
        ]),
        (snack_request().encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x10"), ("iscsi.snack.type", "0x02"),
            ("iscsi.targettransfertag", "0x21222324"), ("iscsi.snack.begrun", "0x81828384"),
            ("iscsi.snack.runlength", "0x00000000"), ("iscsi.expstatsn", "0x41424344"),
        ]),
    ]);
}

#[test]
#[rustfmt::skip]
#[ignore = "needs tshark; cargo xtask test runs it"]
fn tshark_reads_our_responses() {
    let unqualified = ScsiResponse { qualifier: 0, ..scsi_response() };
    // Additional response information is of RFC 7144 as well.
    let plain_task_response = TaskResponse { additional: [0; 3], ..task_response() };
    check("responses", "3260,40000", &[
        (with_data(nop_in().encode(data(4)), b"pong"), &[
            ("iscsi.opcode", "0x20"), ("iscsi.initiatortasktag", "0xffffffff"),
            ("iscsi.targettransfertag", "0x21222324"), ("iscsi.statsn", "0x41424344"),
            ("iscsi.expcmdsn", "0x51525354"), ("iscsi.maxcmdsn", "0x61626364"),
            ("iscsi.pingdata", "706f6e67"),
        ]),
        (unqualified.encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x21"), ("iscsi.scsiresponse.o", "1"), ("iscsi.scsiresponse.u", "0"),
            ("iscsi.scsiresponse.O", "0"), ("iscsi.scsiresponse.U", "1"),
            ("iscsi.scsiresponse.response", "0x00"), ("iscsi.scsiresponse.status", "0x02"),
            ("iscsi.scsiresponse.residualcount", "0x81828384"),
            ("iscsi.scsiresponse.bidireadresidualcount", "0x91929394"),
            ("iscsi.statsn", "0x41424344"), ("iscsi.expdatasn", "0xa1a2a3a4"),
        ]),
        (plain_task_response.encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x22"), ("iscsi.taskmanfun.response", "0x05"),
            ("iscsi.statsn", "0x41424344"), ("iscsi.maxcmdsn", "0x61626364"),
        ]),
        (login_response().encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x23"), ("iscsi.login.T", "1"), ("iscsi.login.csg", "0x00"),
            ("iscsi.login.nsg", "0x01"), ("iscsi.login.status", "0x0201"),
            ("iscsi.tsih", "0x7677"), ("iscsi.statsn", "0x41424344"),
        ]),
        (with_data(text_response().encode(data(13)), b"TargetName=x\0"), &[
            ("iscsi.opcode", "0x24"), ("iscsi.text.F", "0"), ("iscsi.text.C", "1"),
            ("iscsi.targettransfertag", "0x21222324"), ("iscsi.statsn", "0x41424344"),
        ]),
        (with_data(data_in().encode(data(4)), b"data"), &[
            ("iscsi.opcode", "0x25"), ("iscsi.scsidata.F", "1"), ("iscsi.scsidata.A", "1"),
            ("iscsi.scsidata.O", "1"), ("iscsi.scsidata.U", "0"), ("iscsi.scsidata.S", "1"),
            ("iscsi.scsiresponse.status", "0x04"), ("iscsi.statsn", "0x41424344"),
            ("iscsi.datasn", "0x81828384"), ("iscsi.bufferOffset", "0x91929394"),
            ("iscsi.scsidata.readresidualcount", "0xa1a2a3a4"),
        ]),
        (logout_response().encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x26"), ("iscsi.logout.response", "0x02"),
            ("iscsi.time2wait", "0x8182"), ("iscsi.time2retain", "0x9192"),
        ]),
        (r2t().encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x31"), ("iscsi.targettransfertag", "0x21222324"),
            ("iscsi.r2tsn", "0x81828384"), ("iscsi.bufferOffset", "0x91929394"),
            ("iscsi.desireddatalength", "0x0001a3a4"), ("iscsi.statsn", "0x41424344"),
        ]),
        (async_message().encode(EMPTY).to_vec(), &[
            ("iscsi.opcode", "0x32"), ("iscsi.asyncevent", "0x01"),
            ("iscsi.eventvendorcode", "0x0f"), ("iscsi.parameter1", "0x8182"),
            ("iscsi.parameter2", "0x9192"), ("iscsi.parameter3", "0xa1a2"),
        ]),
        (with_data(reject().encode(data(48)), &nop_out().encode(EMPTY)), &[
            ("iscsi.opcode", "0x3f"), ("iscsi.reject.reason", "0x04"),
            ("iscsi.datasn", "0x81828384"), ("iscsi.statsn", "0x41424344"),
        ]),
    ]);
}

/// A command with immediate data, told apart from the others by its tag.
fn command_with(itt: u32, cdb: &Cdb, payload: &[u8]) -> Vec<u8> {
    let data_bytes = u32::try_from(payload.len()).unwrap();
    let bhs = ScsiCommand {
        read: payload.is_empty(),
        write: !payload.is_empty(),
        itt: Itt(itt),
        expected_data_bytes: data_bytes.max(1024),
        cdb: ahs::cdb_head(cdb),
        ..plain_command()
    };
    with_data(bhs.encode(data(data_bytes)), payload)
}

fn reserve(itt: u32, out: &scsi::PersistentReserveOut) -> Vec<u8> {
    let (cdb, parameters) = out.to_command();
    command_with(itt, &cdb, &parameters)
}

/// Our PERSISTENT RESERVE commands; tshark has no dissector for target port groups.
#[test]
#[rustfmt::skip]
#[ignore = "needs tshark; cargo xtask test runs it"]
fn tshark_reads_our_reservations() {
    use scsi::reservation::{PersistentReserveOut as Out, Registration};
    use scsi::{PersistentReserveIn, ReservationKey, ReservationType, TransportId};

    let (key, new) = (ReservationKey(0x0102_0304_0506_0708), ReservationKey(0x1112_1314_1516_1718));
    let to = TransportId::iscsi("iqn.1993-08.org.x:a", Some([0, 2, 0x3d, 0, 0, 2])).unwrap();
    let with = Registration { persist: true, all_target_ports: true };
    let kind = ReservationType::ExclusiveAccessRegistrantsOnly;
    let full_status = Cdb::persistent_reserve_in(PersistentReserveIn::ReadFullStatus, 1024);
    check("reservations", "40000,3260", &[
        (reserve(1, &Out::Register { key, new, with, also: vec![to.clone()] }), &[
            ("scsi_sbc.opcode", "0x5f"), ("scsi.persresvout.svcaction", "0"),
            ("scsi.cdb.paramlen16", "72"),
            ("scsi.persresv.reskey", "0102030405060708"),
            ("scsi.persresv.sareskey", "1112131415161718"),
            ("scsi.persresv.control.spec_i_pt", "1"), ("scsi.persresv.control.all_tg_pt", "1"),
            ("scsi.persresv.control.aptpl", "1"),
        ]),
        (reserve(2, &Out::Reserve { key, kind }), &[
            ("scsi.persresvout.svcaction", "1"), ("scsi.persresv.scope", "0"),
            ("scsi.persresv.type", "6"), ("scsi.cdb.paramlen16", "24"),
            ("scsi.persresv.reskey", "0102030405060708"),
        ]),
        (reserve(3, &Out::PreemptAndAbort { key, victim: new, kind }), &[
            ("scsi.persresvout.svcaction", "5"), ("scsi.persresv.type", "6"),
            ("scsi.persresv.sareskey", "1112131415161718"),
        ]),
        (reserve(4, &Out::RegisterAndMove {
            key, new, unregister: true, persist: false, target_port: 515, to, kind,
        }), &[
            ("scsi.persresvout.svcaction", "7"), ("scsi.persresv.control.unreg", "1"),
            ("scsi.persresv.control.aptpl", "0"), ("scsi.persresv.rel_tpi", "515"),
            ("scsi.persresv.transportid_len", "44"),
        ]),
        (command_with(5, &full_status, b""), &[
            ("scsi_sbc.opcode", "0x5e"), ("scsi.persresvin.svcaction", "3"),
            ("scsi.cdb.alloclen16", "1024"),
        ]),
    ]);
}
