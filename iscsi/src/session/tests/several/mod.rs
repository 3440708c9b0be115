//! Sessions with several connections, against a scripted target.
//!
//! [`Several`] plays target and driver of any number of connections. As in [`super::Peer`], PDUs are
//! made and read byte by byte, without the crate's codec.

mod asking;
mod reassigning;
mod recovering;
mod sharing;

use std::time::{Duration, Instant};

use super::*;

pub(super) const LOGIN: u8 = 0x03;

/// One connection.
struct Line {
    cid: Cid,
    portal: Portal,
    out: Transmit,
    receiver: Receiver,
    placing: Option<(crate::wire::DataIn, Option<Loan>)>,
    /// Sent, and not yet looked at.
    stream: Vec<u8>,
    stat_sn: u32,
    /// Bytes that the network takes.
    takes: usize,
}

pub(super) struct Several {
    session: Session,
    now: Instant,
    keys: Keys,
    group: u16,
    lines: Vec<Line>,
    dialling: Vec<(Cid, Portal)>,
    closed: Vec<(Cid, bool)>,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
}

fn several_config(level: u8, connections: u16) -> SessionConfig {
    let mut config = config();
    config.connections = Some(connections);
    config.honour_time2wait = true;
    config.group_portals = vec!["10.0.0.2:3260".parse().unwrap()];
    config
        .offer
        .set("ErrorRecoveryLevel", &level.to_string())
        .unwrap();
    config.offer.set("MaxConnections", "8").unwrap();
    config
}

impl Several {
    /// A session of `connections` connections at an ErrorRecoveryLevel; all are logged in. The
    /// target waits for nothing (Time2Wait 0) and retains tasks for 20 s.
    fn up(level: u8, connections: u16) -> Self {
        let (levels, counts) = (level.to_string(), connections.max(2).to_string());
        let answers = keys(&[
            ("ErrorRecoveryLevel", &levels),
            ("MaxConnections", &counts),
            ("DefaultTime2Retain", if level == 2 { "20" } else { "0" }),
        ]);
        Self::with(several_config(level, connections), answers)
    }

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn with(config: SessionConfig, keys: Keys) -> Self {
        let now = Instant::now();
        let wanted = usize::from(config.connections.unwrap_or(1));
        let mut this = Self {
            session: Session::new(now, config, Box::new(|bytes| bytes.fill(0x11))),
            now,
            keys,
            group: 1,
            lines: Vec::new(),
            dialling: Vec::new(),
            closed: Vec::new(),
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
        };
        this.wait(Duration::ZERO);
        for _ in 0..wanted {
            this.login();
        }
        assert_eq!(this.up_cids().len(), wanted);
        this
    }

    fn up_cids(&self) -> Vec<u16> {
        let connections = self.session.connections();
        let up = |state| state == ConnectionState::LoggedIn;
        connections
            .iter()
            .filter(|it| up(it.state))
            .map(|it| it.cid.0)
            .collect()
    }

    fn line(&mut self, cid: u16) -> &mut Line {
        let line = self.lines.iter_mut().find(|line| line.cid == Cid(cid));
        line.expect("the connection is open")
    }

    /// Does what the session asks, as a driver does.
    fn act(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Connect { cid, portal, .. } => self.dialling.push((cid, portal)),
                Action::LoggedIn {
                    cid,
                    header_digest,
                    data_digest,
                    max_recv_bytes,
                } => {
                    let receiver = &mut self.line(cid.0).receiver;
                    receiver.set_params(header_digest, data_digest, max_recv_bytes);
                }
                Action::Close { cid, abort } => {
                    self.closed.push((cid, abort));
                    self.dialling.retain(|(it, _)| *it != cid);
                    let mut written = 0;
                    if let Some(at) = self.lines.iter().position(|line| line.cid == cid) {
                        let mut line = self.lines.remove(at);
                        written = line.out.written();
                        if let Some((_, Some(loan))) = line.placing.take() {
                            self.session.take_back(loan);
                        }
                    }
                    self.session.handle_closed(self.now, cid, written);
                }
            }
        }
    }

    /// Time passes; whatever is due in between is done when it is due.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        let mut turns = 0;
        loop {
            self.act();
            self.pump();
            let Some(due) = self.session.poll_timeout().filter(|due| *due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            turns += 1;
            assert!(turns < 10_000, "the timer spins");
        }
        self.now = until;
        self.act();
    }

    /// Moves what is to be sent into the networks, in turn.
    fn pump(&mut self) {
        loop {
            let mut grown = false;
            for line in &mut self.lines {
                if !line.out.is_empty() || !self.session.wants_transmit(line.cid) {
                    continue;
                }
                self.session
                    .poll_transmit(self.now, line.cid, &mut line.out);
                line.out.seal();
                grown |= !line.out.is_empty();
            }
            for line in &mut self.lines {
                let mut slices = smallvec::SmallVec::new();
                line.out.slices(&mut slices);
                let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                drop(slices);
                let taken = bytes.len().min(line.takes);
                line.stream.extend_from_slice(&bytes[..taken]);
                line.out.advance(taken);
                line.takes = line.takes.saturating_sub(taken);
            }
            if !grown {
                return;
            }
        }
    }

    /// What has been sent on a connection since the last look.
    fn sent(&mut self, cid: u16) -> Vec<Pdu> {
        self.act();
        self.pump();
        let stream = &mut self.line(cid).stream;
        let mut pdus = Vec::new();
        while let Some(head) = stream.first_chunk::<48>().copied() {
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            let end = 48 + usize::from(head[4]) * 4 + length.next_multiple_of(4);
            if stream.len() < end {
                break;
            }
            let bytes: Vec<u8> = stream.drain(..end).collect();
            let data_at = end - length.next_multiple_of(4);
            let data = bytes[data_at..][..length].to_vec();
            let ahs = bytes[48..data_at].to_vec();
            pdus.push(Pdu {
                bhs: head,
                ahs,
                data,
            });
        }
        pdus
    }

    /// The only PDU sent on a connection since the last look.
    fn one(&mut self, cid: u16) -> Pdu {
        let mut sent = self.sent(cid);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    fn silent(&mut self, cid: u16) {
        let sent = self.sent(cid);
        assert!(sent.is_empty(), "{sent:?}");
    }

    /// The next TCP connection that is asked for opens.
    fn connected(&mut self) -> u16 {
        self.act();
        let (cid, portal) = self.dialling.remove(0);
        self.lines.push(Line {
            cid,
            portal,
            out: Transmit::new(),
            receiver: Receiver::new(4096, 8192),
            placing: None,
            stream: Vec::new(),
            stat_sn: 0x1000 * u32::from(cid.0),
            takes: usize::MAX,
        });
        self.session.handle_connected(self.now, cid);
        cid.0
    }

    fn refuse(&mut self) {
        self.act();
        let (cid, _) = self.dialling.remove(0);
        let reason = "refused".to_owned();
        self.session.handle_connect_failed(self.now, cid, reason);
        self.act();
    }

    /// Connects and logs in; the CID, and the Login Requests.
    fn login(&mut self) -> (u16, Vec<Pdu>) {
        let cid = self.connected();
        let mut requests = Vec::new();
        for _ in 0..2 {
            let request = self.one(cid);
            assert_eq!(request.opcode(), LOGIN);
            let answer = self.login_answer(cid, &request);
            self.reply(cid, &[answer]);
            requests.push(request);
        }
        self.act();
        (cid, requests)
    }

    /// Agrees to a Login Request.
    fn login_answer(&mut self, cid: u16, request: &Pdu) -> Pdu {
        let operational = request.bhs[1] >> 2 & 3 == 1;
        let leading = request.bhs[14..16] == [0, 0];
        let digests = ["HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength"];
        let text: String = if operational {
            let pairs = self.keys.iter();
            let ours = pairs.filter(|(key, _)| leading || digests.contains(key));
            ours.map(|(key, value)| format!("{key}={value}\0"))
                .collect()
        } else {
            format!("TargetPortalGroupTag={}\0AuthMethod=None\0", self.group)
        };
        if leading {
            self.exp_cmd_sn = request.cmd_sn();
            self.max_cmd_sn = self.exp_cmd_sn.wrapping_add(63);
        }
        let mut answer = Pdu::new(0x23, request.bhs[1]);
        answer.bhs[8..14].copy_from_slice(&request.bhs[8..14]);
        answer.bhs[15] = if operational || !leading { 0x77 } else { 0 };
        let answer = answer.put(16, request.itt()).with(text.as_bytes());
        self.status(cid, answer)
    }

    fn windowed(&self, pdu: Pdu) -> Pdu {
        pdu.put(28, self.exp_cmd_sn).put(32, self.max_cmd_sn)
    }

    /// Gives a PDU the next StatSN of a connection, and the window.
    fn status(&mut self, cid: u16, pdu: Pdu) -> Pdu {
        let pdu = self.windowed(pdu);
        let stat_sn = &mut self.line(cid).stat_sn;
        let pdu = pdu.put(24, *stat_sn);
        *stat_sn = stat_sn.wrapping_add(1);
        pdu
    }

    /// A SCSI Response with GOOD.
    fn answer(&mut self, cid: u16, itt: u32) {
        let answer = self.status(cid, Pdu::new(0x21, 0x80).put(16, itt));
        self.reply(cid, &[answer]);
    }

    fn data_in(&self, itt: u32, sn: u32, offset: u32, data: &[u8]) -> Pdu {
        let pdu = Pdu::new(0x25, 0).put(16, itt).put(20, NONE);
        self.windowed(pdu.put(36, sn).put(40, offset).with(data))
    }

    fn r2t(&mut self, cid: u16, itt: u32, sn: u32, offset: u32, bytes: u32) {
        let pdu = Pdu::new(0x31, 0x80).put(16, itt).put(20, 0x99);
        let pdu = pdu.put(36, sn).put(40, offset).put(44, bytes);
        let pdu = self.windowed(pdu).put(24, self.line(cid).stat_sn);
        self.reply(cid, &[pdu]);
    }

    /// A Logout Response: `wait` and `retain` in seconds.
    fn logged_out(&mut self, cid: u16, itt: u32, response: u8, times: [u8; 2]) {
        let pdu = Pdu::new(0x26, 0x80).byte(2, response).put(16, itt);
        let pdu = pdu.byte(41, times[0]).byte(43, times[1]);
        let pdu = self.status(cid, pdu);
        self.reply(cid, &[pdu]);
    }

    fn task_answer(&mut self, cid: u16, itt: u32, response: u8) {
        let pdu = Pdu::new(0x22, 0x80).byte(2, response).put(16, itt);
        let pdu = self.status(cid, pdu);
        self.reply(cid, &[pdu]);
    }

    /// The target sends `pdus` on a connection.
    fn reply(&mut self, cid: u16, pdus: &[Pdu]) {
        for pdu in pdus {
            let mut bytes = pdu.bhs.to_vec();
            bytes.extend_from_slice(&pdu.data);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            self.receive(cid, &bytes);
        }
        self.act();
    }

    fn receive(&mut self, cid: u16, mut bytes: &[u8]) {
        loop {
            self.act();
            let gone = self.lines.iter().all(|line| line.cid != Cid(cid));
            if gone || !self.session.is_open(Cid(cid)) {
                return;
            }
            if self.take(cid) {
                continue;
            }
            if bytes.is_empty() {
                return;
            }
            let receiver = &mut self.line(cid).receiver;
            let space = receiver.space();
            let taken = bytes.len().min(space.len());
            space[..taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            receiver.filled(taken);
        }
    }

    /// Takes a PDU, or goes on with a payload; `false` when more bytes are needed.
    fn take(&mut self, cid: u16) -> bool {
        let (now, cid) = (self.now, Cid(cid));
        let session = &mut self.session;
        let line = self.lines.iter_mut().find(|line| line.cid == cid).unwrap();
        if let Some((header, mut loan)) = line.placing.take() {
            if let Some(loan) = &mut loan {
                let placed = line.receiver.place(loan.space());
                loan.filled(placed);
            } else {
                line.receiver.skip();
            }
            if line.receiver.finish_payload() == Ok(true) {
                session.handle_placed(now, cid, &header, loan);
                return true;
            }
            line.placing = Some((header, loan));
            return false;
        }
        match line.receiver.take_pdu().unwrap() {
            Received::Incomplete => return false,
            Received::Pdu { header, data } => session.handle_pdu(now, cid, &header, data),
            Received::DataIn { header, bytes } => {
                let loan = match session.handle_data_in(now, cid, &header, bytes) {
                    Placement::Into(loan) => Some(loan),
                    Placement::Nothing | Placement::Discard => None,
                };
                line.placing = Some((header, loan));
            }
            other => panic!("{other:?}"),
        }
        true
    }

    /// The network breaks.
    fn cut(&mut self, cid: u16) {
        let reason = Some("cut".to_owned());
        self.session.handle_lost(self.now, Cid(cid), reason);
        self.act();
    }

    fn submit(&mut self, command: Command) -> TaskKey {
        self.session.submit(self.now, Lun::ZERO, command).unwrap()
    }

    fn ended(&mut self, key: TaskKey) -> Completion {
        match self.session.poll_task(key, Waker::noop()) {
            std::task::Poll::Ready(completion) => completion,
            std::task::Poll::Pending => panic!("the command has not ended"),
        }
    }

    fn is_pending(&mut self, key: TaskKey) -> bool {
        self.session.poll_task(key, Waker::noop()).is_pending()
    }

    fn good(&mut self, key: TaskKey) -> Completion {
        let completion = self.ended(key);
        match &completion.outcome {
            Outcome::Answered(answer) => assert_eq!(answer.status, scsi::Status::GOOD),
            Outcome::Failed(error) => panic!("{error}"),
        }
        completion
    }

    fn failed(&mut self, key: TaskKey) -> (DeliveryErrorKind, Certainty) {
        match self.ended(key).outcome {
            Outcome::Answered(answer) => panic!("{answer:?}"),
            Outcome::Failed(error) => (error.kind, error.certainty),
        }
    }

    fn phase(&self) -> &'static str {
        self.session.snapshot().phase
    }
}
