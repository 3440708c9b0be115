//! A target that answers a login with anything: status, flags, keys. Nothing panics, the login
//! ends, what it settles is within the RFC's ranges, and nobody passes mutual CHAP by luck.
//!
//! Input: one byte for the authentication wanted, then responses of five bytes (flags, status
//! class, status detail, length of the text) and their text. The rest of the header is as a target
//! would send it, or the login would end at once.
#![no_main]

use auth::{Chap, ChapCredentials, MutualCredentials, Secret};
use iscsi::login::{AuthPolicy, Login, LoginConfig, Progress, SessionKind};
use iscsi::name::{Cid, Isid, Tsih};
use iscsi::serial::{CmdSn, StatSn};
use iscsi::text::Offer;
use iscsi::wire::{Itt, LoginRequest, LoginResponse, Stage, Window};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&wanted, mut rest)) = input.split_first() else {
        return;
    };
    let mutual = wanted % 3 == 2;
    let mut login = Login::start(config(wanted), &mut |bytes| bytes.fill(0x5a)).unwrap();
    let mut stat_sn = StatSn(u32::from(wanted));
    let mut rounds = 0;
    while let Some((request, _)) = login.poll_transmit() {
        let Some((head, tail)) = rest.split_first_chunk() else {
            return;
        };
        let (text, tail) = tail.split_at(text_bytes(*head).min(tail.len()));
        rest = tail;
        rounds += 1;
        assert!(rounds < 10_000, "the login does not end");
        match login.handle(&response(*head, &request, stat_sn), text) {
            Ok(Progress::Continue) => stat_sn = stat_sn.next(),
            Ok(Progress::Done(done)) => {
                assert!(!mutual, "logged in without the target's secret");
                let (session, connection) = (done.session, done.connection);
                assert!((512..1 << 24).contains(&connection.max_send_bytes));
                assert!((512..1 << 24).contains(&session.max_burst_bytes));
                assert!((512..=session.max_burst_bytes).contains(&session.first_burst_bytes));
                assert!(session.max_outstanding_r2t >= 1 && session.max_connections == 1);
                assert_eq!(session.error_recovery_level, 0);
                return;
            }
            Err(error) => {
                let _ = (error.to_string(), login.fallback());
                assert!(login.poll_transmit().is_none());
                return;
            }
        }
    }
});

fn config(wanted: u8) -> LoginConfig {
    let secret = |text| Secret::from_text(text).unwrap();
    let ours = ChapCredentials::new("iuser", secret("isecret123456"));
    let theirs = MutualCredentials {
        name: None,
        secret: secret("tsecret123456"),
    };
    let mut offer = Offer::default();
    for digest in ["HeaderDigest", "DataDigest"] {
        offer.set(digest, "CRC32C,None").unwrap();
    }
    let chap = |target| AuthPolicy::Chap(Chap::new(ours, target).unwrap());
    LoginConfig {
        exp_stat_sn: None,
        initiator_name: "iqn.2024-01.test:fuzz".parse().unwrap(),
        initiator_alias: None,
        session: SessionKind::Normal {
            target_name: "iqn.2024-01.test:disk".parse().unwrap(),
        },
        isid: Isid([0x80, 0, 0, 1, 0, 0]),
        tsih: Tsih(0),
        cid: Cid(0),
        cmd_sn: CmdSn(1),
        itt: Itt(7),
        auth: match wanted % 3 {
            0 => AuthPolicy::None,
            1 => chap(None),
            _ => chap(Some(theirs)),
        },
        offer,
    }
}

fn text_bytes([.., high, low]: [u8; 5]) -> usize {
    usize::from(u16::from_be_bytes([high, low]))
}

fn response(head: [u8; 5], request: &LoginRequest, stat_sn: StatSn) -> LoginResponse {
    let [flags, status_class, status_detail, ..] = head;
    let transit = flags & 1 != 0;
    LoginResponse {
        transit,
        continue_: flags & 2 != 0,
        current: if flags & 4 != 0 {
            Stage::FullFeaturePhase
        } else {
            request.current
        },
        next: if transit {
            request.next
        } else {
            request.current
        },
        version_max: 0,
        version_active: 0,
        isid: request.isid,
        tsih: Tsih(u16::from(flags & 8 == 0)),
        itt: request.itt,
        stat_sn,
        window: Window {
            exp_cmd_sn: request.cmd_sn,
            max_cmd_sn: CmdSn(u32::from(flags)),
        },
        status_class,
        status_detail,
    }
}
