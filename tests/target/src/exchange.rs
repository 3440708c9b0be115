//! Text exchanges with SendTargets, NOP in both directions (RFC 7143 §11.10, §11.18, appendix C).

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use crate::ConnectionId;
use crate::connection::{Numbering, Ping, TextExchange};
use crate::full_feature::reason;
use crate::judge::Rule;
use crate::login::operational::{Operational, Place};
use crate::login::read_pairs;
use crate::target::Target;
use crate::text;
use crate::wire::framer::RawPdu;
use crate::wire::request::{NopOut, TextRequest};
use crate::wire::{RESERVED_TAG, response};

const TEXT_LIMIT: usize = 64 << 10;

impl Target {
    pub(crate) fn on_text(&mut self, now: Instant, id: ConnectionId, tsih: u16, pdu: &RawPdu) {
        let request = TextRequest::parse(&pdu.header);
        if self.config.quirks.text_rejects > 0 {
            self.config.quirks.text_rejects -= 1;
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.text = None;
            }
            self.reject(now, id, reason::PROTOCOL_ERROR, &pdu.header);
            return;
        }
        self.judge
            .expect(!(request.is_final && request.more), Rule::TextFlags, || {
                "C and F".to_owned()
            });
        let Some(mut exchange) = self.open_exchange(now, id, tsih, pdu, &request) else {
            return;
        };
        if exchange.outgoing.is_empty() {
            exchange.gathered.extend_from_slice(&pdu.data);
            if exchange.gathered.len() > TEXT_LIMIT {
                self.reject(now, id, reason::PROTOCOL_ERROR, &pdu.header);
                return;
            }
            if !request.more {
                let keys = std::mem::take(&mut exchange.gathered);
                let Some(outgoing) = self.text_answer(id, tsih, &mut exchange, &keys) else {
                    // RFC 7143 §6.4: nothing is negotiated twice; the negotiation is reset.
                    self.reject(now, id, reason::PROTOCOL_ERROR, &pdu.header);
                    return;
                };
                exchange.outgoing = outgoing;
            }
        } else {
            self.judge
                .expect(pdu.data.is_empty(), Rule::LoginContinueEmpty, || {
                    format!("{} bytes while the answer continues", pdu.data.len())
                });
        }
        self.send_text(now, id, tsih, &request, exchange);
    }

    /// The exchange that a request begins or goes on with; `None` when it was refused.
    fn open_exchange(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        pdu: &RawPdu,
        request: &TextRequest,
    ) -> Option<TextExchange> {
        let connection = self.connections.get_mut(&id)?;
        match connection.text.take() {
            Some(open) if request.ttt == RESERVED_TAG => {
                // A reserved tag starts anew (RFC 7143 §11.10.4: a reset of the negotiation).
                self.judge
                    .expect(request.itt == open.itt, Rule::TextTaskTag, || {
                        format!("ITT {:#x} while {:#x} is open", request.itt, open.itt)
                    });
                Some(fresh(request.itt))
            }
            Some(open) => {
                let tags = open.ttt == request.ttt;
                self.judge
                    .expect(open.itt == request.itt, Rule::TextTaskTag, || {
                        format!("ITT {:#x}", request.itt)
                    });
                if !self.judge.expect(tags, Rule::TextTransferTag, || {
                    format!("TTT {:#x}", request.ttt)
                }) {
                    self.reject(now, id, reason::INVALID_FIELD, &pdu.header);
                    return None;
                }
                Some(open)
            }
            None => {
                let good = request.ttt == RESERVED_TAG;
                if !self.judge.expect(good, Rule::TextTransferTag, || {
                    format!("TTT {:#x}", request.ttt)
                }) {
                    self.reject(now, id, reason::INVALID_FIELD, &pdu.header);
                    return None;
                }
                if !self.tag_free(tsih, request.itt) {
                    self.reject(now, id, reason::TASK_IN_PROGRESS, &pdu.header);
                    return None;
                }
                Some(fresh(request.itt))
            }
        }
    }

    fn send_text(
        &mut self,
        now: Instant,
        id: ConnectionId,
        tsih: u16,
        request: &TextRequest,
        mut exchange: TextExchange,
    ) {
        let part = exchange.outgoing.pop().unwrap_or_default();
        let more = !exchange.outgoing.is_empty();
        let mut over = !more && request.is_final && !request.more;
        if over && self.config.quirks.delay_text_final > 0 {
            self.config.quirks.delay_text_final -= 1;
            over = false;
        }
        let ttt = if over {
            RESERVED_TAG
        } else {
            self.sessions
                .get_mut(&tsih)
                .map_or(0, |session| session.transfer_tag())
        };
        exchange.ttt = ttt;
        let settled = over.then(|| exchange.negotiation.clone());
        if !over && let Some(connection) = self.connections.get_mut(&id) {
            connection.text = Some(exchange);
        }
        let stat_sn = self.connections.get(&id).map_or(0, |c| c.stat_sn);
        let header = response::text(request.itt, ttt, over, more);
        self.send(now, id, header, &part, Numbering::Status);
        if let Some(negotiation) = settled {
            self.settle_text(id, stat_sn, &negotiation);
        }
    }

    /// What was negotiated takes effect when the negotiation is over (RFC 7143 §6.4); a new limit of the target's own
    /// once the initiator is known to know.
    fn settle_text(&mut self, id: ConnectionId, stat_sn: u32, negotiation: &Operational) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if negotiation.has_seen("MaxRecvDataSegmentLength") {
            connection.initiator_segment = negotiation.parameters.initiator_segment_bytes as usize;
        }
        if let Some(bytes) = negotiation.declared() {
            connection.next_own_segment = Some((stat_sn, bytes as usize));
        }
    }

    /// The answer to a set of keys, cut into segments, last first; `None` when a key came a second time.
    fn text_answer(
        &mut self,
        id: ConnectionId,
        tsih: u16,
        exchange: &mut TextExchange,
        keys: &[u8],
    ) -> Option<Vec<Vec<u8>>> {
        let pairs = read_pairs(keys, &mut self.judge);
        let discovery = self
            .sessions
            .get(&tsih)
            .is_some_and(|session| session.discovery);
        let mut answer = Vec::new();
        let negotiation = &mut exchange.negotiation;
        let mut searched = None;
        for pair in &pairs {
            if pair.key == "SendTargets" {
                if !negotiation.first_time(&pair.key, &mut self.judge) {
                    return None;
                }
                searched = Some(pair.value.clone());
                continue;
            }
            if negotiation.has_seen(&pair.key) {
                negotiation.first_time(&pair.key, &mut self.judge);
                return None;
            }
            let place = Place {
                discovery,
                leading: true,
                full_feature: true,
            };
            if let Some(value) = negotiation.answer(pair, &self.config, place, &mut self.judge) {
                text::push(&mut answer, &pair.key, &value);
            }
        }
        if searched.is_none() && !discovery {
            for (key, value) in &self.config.quirks.text_keys {
                if negotiation.declare(key, value) {
                    text::push(&mut answer, key, value);
                }
            }
        }
        if let Some(value) = searched {
            self.send_targets(&value, discovery, &mut answer);
        }
        let split = self.config.quirks.split_answers_bytes.unwrap_or(usize::MAX);
        let limit = self.segment_limit(id).min(split).max(1);
        Some(answer.chunks(limit).rev().map(<[u8]>::to_vec).collect())
    }

    /// RFC 7143 appendix C.
    fn send_targets(&mut self, value: &str, discovery: bool, answer: &mut Vec<u8>) {
        let own = self.config.target_name.clone();
        match value {
            "All" if !discovery => {
                self.judge
                    .note(Rule::KeyPlace, "SendTargets=All in a normal session");
                text::push(answer, "SendTargets", "Reject");
            }
            "" if discovery => {
                self.judge
                    .note(Rule::KeyValue, "empty SendTargets in a discovery session");
                text::push(answer, "SendTargets", "Reject");
            }
            "All" => {
                self.list_own(&own, answer);
                for name in self.other_names() {
                    self.list_own(&name, answer);
                }
                for (name, addresses) in &self.config.listed_targets {
                    text::push(answer, "TargetName", name);
                    for address in addresses {
                        text::push(answer, "TargetAddress", address);
                    }
                }
            }
            name if name.is_empty() || name == own => self.list_own(&own, answer),
            name if self.other_names().contains(name) => self.list_own(name, answer),
            _ => {}
        }
    }

    /// Targets besides the one that gave the device its name.
    fn other_names(&self) -> BTreeSet<String> {
        let names = self.config.portal_names.iter();
        let others = names.filter(|name| **name != self.config.target_name);
        others.cloned().collect()
    }

    fn list_own(&self, own: &str, answer: &mut Vec<u8>) {
        text::push(answer, "TargetName", own);
        if let Some(advertised) = &self.config.quirks.advertised {
            for address in advertised {
                text::push(answer, "TargetAddress", address);
            }
            return;
        }
        for (index, portal) in self.config.portals.iter().enumerate() {
            if self.config.name_of(index) != own {
                continue;
            }
            let bare = portal
                .address
                .rsplit_once(':')
                .map_or(portal.address.as_str(), |(host, _)| host);
            let address = if self.config.quirks.bare_addresses {
                bare.to_owned()
            } else {
                format!("{},{}", portal.address, portal.group)
            };
            text::push(answer, "TargetAddress", &address);
        }
    }

    pub(crate) fn on_nop_out(&mut self, now: Instant, id: ConnectionId, pdu: &RawPdu) {
        let nop = NopOut::parse(&pdu.header);
        if nop.ttt != RESERVED_TAG {
            self.pong(id, &nop, pdu);
            return;
        }
        if nop.itt == RESERVED_TAG {
            self.judge
                .expect(nop.immediate, Rule::NopNoTask, || "I bit clear".to_owned());
            return;
        }
        let limit = self
            .connections
            .get(&id)
            .map_or(0, |connection| connection.initiator_segment);
        let echo = pdu.data.slice(..pdu.data.len().min(limit));
        self.send(
            now,
            id,
            response::nop_in(nop.itt, RESERVED_TAG, 0),
            &echo,
            Numbering::Status,
        );
    }

    /// The initiator's answer to a ping.
    fn pong(&mut self, id: ConnectionId, nop: &NopOut, pdu: &RawPdu) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(ping) = connection.pings.remove(&nop.ttt) else {
            self.judge
                .note(Rule::NopTransferTag, format!("TTT {:#010x}", nop.ttt));
            return;
        };
        // The echo may be cut to what this target takes.
        let limit = connection.own_segment.min(ping.data.len());
        let echoed = pdu
            .data
            .get(..)
            .is_some_and(|data| ping.data.get(..limit) == Some(data));
        let good = nop.itt == RESERVED_TAG && nop.immediate && nop.lun == ping.lun && echoed;
        self.judge.expect(good, Rule::NopReply, || {
            format!(
                "ITT {:#010x}, immediate {}, LUN {:#x} for {:#x}, {} bytes for {}",
                nop.itt,
                nop.immediate,
                nop.lun,
                ping.lun,
                pdu.data.len(),
                ping.data.len()
            )
        });
    }

    /// Sends a NOP-In that wants an answer and returns its transfer tag.
    pub(crate) fn ping(
        &mut self,
        now: Instant,
        id: ConnectionId,
        lun: u64,
        data: &[u8],
    ) -> Option<u32> {
        let connection = self.connections.get_mut(&id)?;
        let session = self.sessions.get_mut(&connection.session?)?;
        let ttt = session.transfer_tag();
        connection.pings.insert(
            ttt,
            Ping {
                lun,
                data: Bytes::copy_from_slice(data),
            },
        );
        self.send(
            now,
            id,
            response::nop_in(RESERVED_TAG, ttt, lun),
            data,
            Numbering::Next,
        );
        Some(ttt)
    }
}

fn fresh(itt: u32) -> TextExchange {
    TextExchange {
        itt,
        ttt: RESERVED_TAG,
        gathered: Vec::new(),
        outgoing: Vec::new(),
        negotiation: Operational::default(),
    }
}
