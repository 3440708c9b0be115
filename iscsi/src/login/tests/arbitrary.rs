//! Targets that answer anything, and targets that answer anything legal.

use proptest::prelude::*;

use super::*;

const NAMES: &[&str] = &[
    "AuthMethod",
    "CHAP_A",
    "CHAP_I",
    "CHAP_C",
    "CHAP_N",
    "CHAP_R",
    "HeaderDigest",
    "DataDigest",
    "MaxConnections",
    "SendTargets",
    "TargetName",
    "InitiatorName",
    "TargetAlias",
    "TargetAddress",
    "TargetPortalGroupTag",
    "InitialR2T",
    "ImmediateData",
    "MaxRecvDataSegmentLength",
    "MaxBurstLength",
    "FirstBurstLength",
    "DefaultTime2Wait",
    "MaxOutstandingR2T",
    "IFMarker",
    "TaskReporting",
    "X-com.example",
    "iSCSIProtocolLevel",
    "X#NodeArchitecture",
    "SessionType",
];
const VALUES: &[&str] = &[
    "",
    "Yes",
    "No",
    "None",
    "CRC32C",
    "CHAP",
    "Reject",
    "NotUnderstood",
    "Irrelevant",
    "0",
    "1",
    "5",
    "512",
    "65536",
    "16777216",
    "99999999999999999999",
    "0x",
    "0x00ff",
    "a,b",
    "1~2",
    "Normal",
];

fn pair() -> impl Strategy<Value = (&'static str, &'static str)> {
    (prop::sample::select(NAMES), prop::sample::select(VALUES))
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(pair(), 0..6).prop_map(|pairs| text(&pairs)),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

fn stage() -> impl Strategy<Value = Stage> {
    prop::sample::select(vec![
        Stage::SecurityNegotiation,
        Stage::OperationalNegotiation,
        Stage::FullFeaturePhase,
    ])
}

/// How a response deviates from the agreeable one.
type Spoil = (Option<bool>, Option<bool>, Option<Stage>, u8, u32);

fn spoil() -> impl Strategy<Value = Spoil> {
    let rarely = |n: u8| if n < 12 { 0 } else { n - 11 };
    (
        prop::option::of(any::<bool>()),
        prop::option::weighted(0.2, any::<bool>()),
        prop::option::weighted(0.1, stage()),
        (0u8..16).prop_map(rarely),
        prop_oneof![9 => Just(0u32), 1 => any::<u32>()],
    )
}

proptest! {
    #[test]
    fn no_target_makes_a_login_panic(
        authenticate in any::<bool>(),
        steps in prop::collection::vec((spoil(), data()), 1..12),
    ) {
        let mut config = config();
        if authenticate {
            let secret = auth::Secret::from_text("isecret123456").unwrap();
            let ours = auth::ChapCredentials::new("iuser", secret);
            config.auth = AuthPolicy::Chap(Chap::new(ours, None).unwrap());
        }
        let mut script = Scripted::new(config);
        for ((transit, continue_, stage, class, skew), data) in steps {
            let Some((request, _)) = script.login.poll_transmit() else { break };
            prop_assert!(!(request.transit && request.continue_));
            let mut response = script.response(&request);
            response.transit &= transit.unwrap_or(true);
            response.continue_ = continue_.unwrap_or(false);
            response.current = stage.unwrap_or(response.current);
            response.status_class = class;
            response.stat_sn.0 = response.stat_sn.0.wrapping_add(skew);
            match script.login.handle(&response, &data) {
                Ok(Progress::Continue) => {}
                Ok(Progress::Done(logged_in)) => {
                    let session = &logged_in.session;
                    prop_assert!(session.first_burst_bytes <= session.max_burst_bytes);
                    prop_assert!(logged_in.connection.max_send_bytes >= 512);
                    prop_assert!(!authenticate, "no proof was given");
                    prop_assert!(script.login.poll_transmit().is_none());
                }
                Err(error) => {
                    prop_assert!(!error.to_string().is_empty());
                    prop_assert!(script.login.poll_transmit().is_none());
                }
            }
        }
    }

    #[test]
    fn legal_targets_end_in_what_they_answered(
        initial_r2t in any::<bool>(),
        immediate in any::<bool>(),
        max_burst in 512u32..=1 << 20,
        first_burst in 512u32..=262_144,
        segment in 512u32..1 << 24,
        time2wait in 0u16..=3600,
        r2ts in 1u16..=8,
        silent in any::<bool>(),
    ) {
        let first_burst = first_burst.min(max_burst);
        let yes_no = |value: bool| if value { "Yes" } else { "No" };
        let numbers = [max_burst, first_burst, segment].map(|n| n.to_string());
        let (wait, r2t) = (time2wait.to_string(), r2ts.to_string());
        let mut pairs = vec![
            ("InitialR2T", yes_no(initial_r2t)),
            ("ImmediateData", yes_no(immediate)),
            ("MaxBurstLength", &numbers[0]),
            ("FirstBurstLength", &numbers[1]),
            ("MaxRecvDataSegmentLength", &numbers[2]),
            ("DefaultTime2Wait", &wait),
            ("MaxOutstandingR2T", &r2t),
        ];
        if !silent {
            pairs.extend([("HeaderDigest", "None"), ("ErrorRecoveryLevel", "0")]);
        }
        let logged_in = settle(config(), &pairs).unwrap();
        let session = logged_in.session;
        prop_assert_eq!(session.initial_r2t, initial_r2t);
        prop_assert_eq!(session.immediate_data, immediate);
        prop_assert_eq!(session.max_burst_bytes, max_burst);
        prop_assert_eq!(session.first_burst_bytes, first_burst);
        prop_assert_eq!(session.time2wait_s, time2wait);
        prop_assert_eq!(session.max_outstanding_r2t, r2ts);
        prop_assert_eq!(logged_in.connection.max_send_bytes, segment);
        prop_assert_eq!(session.error_recovery_level, 0);
    }
}
