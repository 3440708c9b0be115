//! Faults as data: what goes wrong, to which command or PDU, how often.
//!
//! They are put in at run time through [`crate::Target`]; each is used up after `times` matches. The first fault in
//! the list that matches wins. A fault is the target's misbehaviour; the judge keeps judging the initiator under it.

use std::time::Duration;

use crate::ConnectionId;
use crate::disk::sense::Sense;

/// How many matches to let pass and how many to hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Matches that go unharmed first.
    pub skip: u32,
    /// Matches that are hit after that.
    pub times: u32,
}

impl Count {
    /// The next match only.
    pub const ONCE: Self = Self { skip: 0, times: 1 };
    /// Every match until the fault is removed.
    pub const ALWAYS: Self = Self {
        skip: 0,
        times: u32::MAX,
    };

    fn hit(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times == u32::MAX {
            return true;
        }
        let hit = self.times > 0;
        self.times = self.times.saturating_sub(1);
        hit
    }

    fn spent(self) -> bool {
        self.times == 0
    }
}

/// Which SCSI commands a fault is about; `None` means any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandFilter {
    /// First CDB byte.
    pub opcode: Option<u8>,
    /// LUN as a flat number.
    pub lun: Option<u64>,
    /// Index of the portal.
    pub portal: Option<usize>,
    /// Only commands that change the medium (`true`) or do not (`false`).
    pub writes: Option<bool>,
}

/// What happens to a SCSI command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandEffect {
    /// Executed this much later; its data, if any, are taken at once. Should the connection end before, a write
    /// becomes a late write ([`crate::Config::late_execution`] says when it is executed).
    DelayExecution(Duration),
    /// Executed at once, answered this much later.
    DelayAnswer(Duration),
    /// Executed and its data sent at once, its status this much later in a SCSI Response of its own.
    DelayStatus(Duration),
    /// Never executed, never answered.
    Hang,
    /// Executed, never answered.
    HangAfterExecution,
    /// Not executed; ends with this status, and sense data when given.
    Status(u8, Option<Sense>),
    /// Like `Status`, with this status qualifier (RFC 7144 §5.2.1). Below iSCSIProtocolLevel 2 it is left out.
    Qualified(u8, Option<Sense>, u16),
    /// Not executed; ends with this iSCSI response code (RFC 7143 §11.4.3) without SCSI status.
    Response(u8),
    /// Rejected with this reason (RFC 7143 §11.17.1).
    Reject(u8),
    /// Its R2Ts are never sent.
    WithholdR2t,
    /// Its first R2T asks for this many bytes more than the command has (a lie).
    R2tBeyond(u32),
    /// Its data are followed by this many bytes more than the command asked for (a lie).
    DataBeyond(u32),
    /// Only this many bytes are sent, with status GOOD and without saying so by a residual (a lie).
    DataShort(u32),
}

/// A fault of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFault {
    /// Which commands.
    pub filter: CommandFilter,
    /// How often.
    pub count: Count,
    /// What happens.
    pub effect: CommandEffect,
}

/// Which outgoing PDUs a fault is about; `None` means any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PduFilter {
    /// Opcode of the PDU (see [`crate::opcode`]).
    pub opcode: Option<u8>,
    /// Connection.
    pub connection: Option<ConnectionId>,
    /// Index of the portal.
    pub portal: Option<usize>,
}

impl PduFilter {
    fn matches(self, opcode: u8, connection: ConnectionId, portal: usize) -> bool {
        self.opcode.is_none_or(|wanted| wanted == opcode)
            && self.connection.is_none_or(|wanted| wanted == connection)
            && self.portal.is_none_or(|wanted| wanted == portal)
    }
}

/// What happens to an outgoing PDU after it was numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PduEffect {
    /// Lost; its StatSN, DataSN or R2TSN is used up.
    Drop,
    /// Sent twice.
    Duplicate,
    /// Header digest wrong (no effect where none is sent).
    FlipHeaderDigest,
    /// Data digest wrong (no effect where none is sent).
    FlipDataDigest,
    /// A bit of the data flipped after the data digest was computed.
    FlipData,
    /// Header bytes replaced before digests are computed: offset and value.
    Patch(Vec<(usize, u8)>),
    /// Data segment replaced.
    ReplaceData(Vec<u8>),
    /// DataSegmentLength says this although the segment is what it is.
    ClaimLength(u32),
    /// Held until the connection ends: it and everything after it (the connection goes silent).
    Silence,
    /// The connection is reset in place of this PDU.
    Reset,
    /// Sent behind this many later PDUs of its connection. Legal where the order of two PDUs means nothing (Data-In of
    /// one task and of another); elsewhere it looks like a loss that mends itself.
    Delay(u32),
}

/// What happens to an incoming PDU of the full feature phase. The judge sees it all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IncomingEffect {
    /// Discarded as after a header digest error (RFC 7143 §7.8): the target knows nothing of it.
    Drop,
    /// Taken as one with a wrong data digest: rejected with reason 0x02. No effect without data or data digest.
    DataDigest,
    /// The connection is reset instead, the other legal answer to a header digest error.
    Reset,
}

/// A fault of incoming PDUs; the filter's opcode is the initiator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingFault {
    /// Which PDUs.
    pub filter: PduFilter,
    /// How often.
    pub count: Count,
    /// What happens.
    pub effect: IncomingEffect,
}

/// What happens to a SNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnackEffect {
    /// Not answered.
    Ignore,
    /// Rejected with this reason (RFC 7143 §11.17.1), honestly 0x03. A task whose status was not sent yet ends with
    /// the condition "SNACK rejected".
    Reject(u8),
}

/// A fault of outgoing PDUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PduFault {
    /// Which PDUs.
    pub filter: PduFilter,
    /// How often.
    pub count: Count,
    /// What happens.
    pub effect: PduEffect,
}

/// What happens to a task management request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManagementEffect {
    /// Nothing is done, this response is sent (RFC 7143 §11.6.1).
    Respond(u8),
    /// Done, never answered.
    Ignore,
    /// Neither done nor answered.
    Lose,
}

/// All faults in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) commands: Vec<CommandFault>,
    pub(crate) pdus: Vec<PduFault>,
    pub(crate) incoming: Vec<IncomingFault>,
    pub(crate) snacks: Vec<(Count, SnackEffect)>,
    /// Function (`None`: any), count, effect.
    pub(crate) management: Vec<(Option<u8>, Count, ManagementEffect)>,
}

impl Faults {
    pub(crate) fn command(
        &mut self,
        opcode: u8,
        lun: u64,
        portal: usize,
        write: bool,
    ) -> Option<CommandEffect> {
        let found = self.commands.iter_mut().find_map(|fault| {
            let filter = fault.filter;
            let matches = filter.opcode.is_none_or(|wanted| wanted == opcode)
                && filter.lun.is_none_or(|wanted| wanted == lun)
                && filter.portal.is_none_or(|wanted| wanted == portal)
                && filter.writes.is_none_or(|wanted| wanted == write);
            (matches && fault.count.hit()).then(|| fault.effect.clone())
        });
        self.commands.retain(|fault| !fault.count.spent());
        found
    }

    pub(crate) fn pdu(
        &mut self,
        opcode: u8,
        connection: ConnectionId,
        portal: usize,
    ) -> Option<PduEffect> {
        if self.pdus.is_empty() {
            return None;
        }
        let found = self.pdus.iter_mut().find_map(|fault| {
            let matches = fault.filter.matches(opcode, connection, portal);
            (matches && fault.count.hit()).then(|| fault.effect.clone())
        });
        self.pdus.retain(|fault| !fault.count.spent());
        found
    }

    pub(crate) fn incoming(
        &mut self,
        opcode: u8,
        connection: ConnectionId,
        portal: usize,
    ) -> Option<IncomingEffect> {
        if self.incoming.is_empty() {
            return None;
        }
        let found = self.incoming.iter_mut().find_map(|fault| {
            let matches = fault.filter.matches(opcode, connection, portal);
            (matches && fault.count.hit()).then_some(fault.effect)
        });
        self.incoming.retain(|fault| !fault.count.spent());
        found
    }

    pub(crate) fn snack(&mut self) -> Option<SnackEffect> {
        let found = self
            .snacks
            .iter_mut()
            .find_map(|(count, effect)| count.hit().then_some(*effect));
        self.snacks.retain(|(count, _)| !count.spent());
        found
    }

    pub(crate) fn management(&mut self, function: u8) -> Option<ManagementEffect> {
        let found = self
            .management
            .iter_mut()
            .find_map(|(only, count, effect)| {
                let matches = only.is_none_or(|only| only == function);
                (matches && count.hit()).then_some(*effect)
            });
        self.management.retain(|(_, count, _)| !count.spent());
        found
    }
}
