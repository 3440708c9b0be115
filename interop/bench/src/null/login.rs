//! Login and text negotiation of the null target (RFC 7143 §6, §13): agree to what is offered.

use std::cell::RefCell;

use crate::pdu::{pairs, text};

/// MaxRecvDataSegmentLength the target declares.
const MAX_RECV_BYTES: usize = 256 * 1024;

/// What a login settles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    /// The most the initiator takes in one PDU.
    pub(crate) max_send_bytes: usize,
    pub(crate) max_burst_bytes: usize,
    pub(crate) first_burst_bytes: usize,
    pub(crate) discovery: bool,
    declared: bool,
    grouped: bool,
}

impl Default for Settled {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_send_bytes: 8192,
            max_burst_bytes: 262_144,
            first_burst_bytes: 65_536,
            discovery: false,
            declared: false,
            grouped: false,
        }
    }
}

impl Settled {
    /// Answers the keys of one request.
    pub(crate) fn answer(&mut self, request: &[u8], operational: bool) -> Vec<u8> {
        let answers = RefCell::new(Vec::<(String, String)>::new());
        let say = |key: &str, value: &str| {
            answers
                .borrow_mut()
                .push((key.to_owned(), value.to_owned()));
        };
        for (key, value) in pairs(request) {
            let number = value.parse::<usize>().unwrap_or_default();
            let least = |ours: usize| number.min(ours).to_string();
            match key.as_str() {
                "SessionType" => self.discovery = value == "Discovery",
                "MaxRecvDataSegmentLength" => self.max_send_bytes = number.max(512),
                "InitiatorName" | "InitiatorAlias" | "TargetName" => {}
                "AuthMethod" => say(&key, "None"),
                "HeaderDigest" => {
                    self.header_digest = prefers_crc(&value);
                    say(&key, digest(self.header_digest));
                }
                "DataDigest" => {
                    self.data_digest = prefers_crc(&value);
                    say(&key, digest(self.data_digest));
                }
                "MaxBurstLength" => {
                    self.max_burst_bytes = number.clamp(512, 16 << 20);
                    say(&key, &self.max_burst_bytes.to_string());
                }
                "FirstBurstLength" => {
                    self.first_burst_bytes = number.clamp(512, 16 << 20);
                    say(&key, &self.first_burst_bytes.to_string());
                }
                "InitialR2T" | "ImmediateData" | "DataPDUInOrder" | "DataSequenceInOrder" => {
                    say(&key, &value);
                }
                "MaxConnections" | "MaxOutstandingR2T" => say(&key, &least(1)),
                "ErrorRecoveryLevel" | "DefaultTime2Retain" => say(&key, &least(0)),
                "DefaultTime2Wait" => say(&key, &value),
                "OFMarker" | "IFMarker" => say(&key, "No"),
                _ => say(&key, "NotUnderstood"),
            }
        }
        if !self.grouped && !self.discovery {
            self.grouped = true;
            say("TargetPortalGroupTag", "1");
        }
        if operational && !self.declared {
            self.declared = true;
            say("MaxRecvDataSegmentLength", &MAX_RECV_BYTES.to_string());
        }
        let answers = answers.into_inner();
        text(answers.iter().map(|(key, value)| (&**key, &**value)))
    }
}

/// The first value of the offer that we know.
fn prefers_crc(offer: &str) -> bool {
    offer.split(',').find(|v| ["None", "CRC32C"].contains(v)) == Some("CRC32C")
}

const fn digest(on: bool) -> &'static str {
    if on { "CRC32C" } else { "None" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_decides() {
        let mut settled = Settled::default();
        let offer = text([
            ("HeaderDigest", "CRC32C,None"),
            ("DataDigest", "None,CRC32C"),
            ("MaxBurstLength", "1048576"),
            ("MaxOutstandingR2T", "8"),
            ("MaxRecvDataSegmentLength", "131072"),
            ("X-com.example", "1"),
        ]);
        let answer = pairs(&settled.answer(&offer, true));
        let said = |key: &str| {
            let mut found = answer.iter().filter(|(k, _)| k == key);
            let value = found.next().map(|(_, value)| value.as_str());
            assert!(found.next().is_none(), "{key} twice");
            value
        };
        assert_eq!(said("HeaderDigest"), Some("CRC32C"));
        assert_eq!(said("DataDigest"), Some("None"));
        assert_eq!(said("MaxBurstLength"), Some("1048576"));
        assert_eq!(said("MaxOutstandingR2T"), Some("1"));
        assert_eq!(said("MaxRecvDataSegmentLength"), Some("262144"));
        assert_eq!(said("TargetPortalGroupTag"), Some("1"));
        assert_eq!(said("X-com.example"), Some("NotUnderstood"));
        assert!(settled.header_digest && !settled.data_digest);
        assert_eq!(settled.max_send_bytes, 131_072);
    }
}
