//! A sequence of Text Requests and Responses under one task tag (RFC 7143 §6.2, §6.4, §11.10,
//! §11.11), without the numbers that a connection gives them.
//!
//! Keeps the rules of the sequence: one request at a time, F and C bits, the Target Transfer Tag
//! and LUN that go back with the next request, empty PDUs while the other side's text continues.
//! What the pairs mean is not known here. Bounded in text and in rounds.

use std::collections::VecDeque;

use scsi::Lun;
use thiserror::Error;

use super::codec::{self, Assembler, Pair, TextError};
use crate::wire::{TextResponse, Ttt};

/// How a target broke the rules of a text exchange.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextFault {
    /// Malformed text, or too much of it.
    #[error("malformed text: {0}")]
    Text(#[from] TextError),
    /// A response while no request was outstanding.
    #[error("a Text Response that nobody asked for (RFC 7143 §11.11)")]
    Unasked,
    /// F = 1 although the request had F = 0.
    #[error("a final Text Response to a request that was not (RFC 7143 §11.11.1)")]
    FinalTooEarly,
    /// Text although ours was still to be continued.
    #[error("text in answer to a request with the C bit (RFC 7143 §6.2)")]
    Interrupted,
    /// A proposal in the last response, where no answer is possible.
    #[error("the final Text Response proposes {key}, which wants an answer (RFC 7143 §11.11.1)")]
    ProposalInFinal {
        /// The key's name.
        key: String,
    },
    /// No end in sight.
    #[error("no end after {limit} Text Responses (RFC 7143 §6.2)")]
    TooManyRounds {
        /// How many are taken.
        limit: u32,
    },
}

/// What goes into the next Text Request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPart {
    /// F bit.
    pub final_: bool,
    /// C bit.
    pub continue_: bool,
    /// Copied from the response before; 0 in the first request.
    pub lun: Lun,
    /// Copied from the response before; reserved in the first request.
    pub ttt: Ttt,
    /// The text.
    pub data: Vec<u8>,
}

/// What a response brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing to deal with yet; the next request is ready.
    More,
    /// A whole list. Unless it is the last one, [`TextExchange::say`] has to follow.
    Pairs {
        /// The list.
        pairs: Vec<Pair>,
        /// The exchange is over.
        final_: bool,
    },
}

/// One exchange. See the [module](self).
#[derive(Debug)]
pub struct TextExchange {
    /// Segments still to be sent.
    outgoing: VecDeque<Vec<u8>>,
    /// A request is to be sent.
    ready: bool,
    lun: Lun,
    ttt: Ttt,
    /// F and C of the request that is outstanding.
    sent: (bool, bool),
    segment_bytes: usize,
    assembler: Assembler,
    text_bytes: usize,
    rounds: u32,
    rounds_max: u32,
}

impl TextExchange {
    /// Begins with `pairs`. `segment_bytes` is the target's MaxRecvDataSegmentLength,
    /// `text_bytes` the most taken in one list, `rounds_max` the most responses.
    #[must_use]
    pub fn new(pairs: &[Pair], segment_bytes: u32, text_bytes: usize, rounds_max: u32) -> Self {
        let mut this = Self {
            outgoing: VecDeque::new(),
            ready: false,
            lun: Lun::ZERO,
            ttt: Ttt::RESERVED,
            sent: (false, false),
            segment_bytes: usize::try_from(segment_bytes).unwrap_or(usize::MAX),
            assembler: Assembler::new(text_bytes),
            text_bytes,
            rounds: 0,
            rounds_max,
        };
        this.say(pairs);
        this
    }

    /// What to say next; nothing is an empty request that asks the target to go on.
    pub fn say(&mut self, pairs: &[Pair]) {
        self.outgoing = codec::split(&codec::encode(pairs), self.segment_bytes);
        self.ready = true;
    }

    /// Starts over: the target forgets what was said under this task tag (RFC 7143 §6.4).
    pub fn reset(&mut self) {
        self.lun = Lun::ZERO;
        self.ttt = Ttt::RESERVED;
        self.assembler = Assembler::new(self.text_bytes);
        self.say(&[]);
    }

    /// Whether a request is to be sent.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// The next request; none while one is outstanding (RFC 7143 §11.10).
    pub fn poll_request(&mut self) -> Option<TextPart> {
        if !std::mem::take(&mut self.ready) {
            return None;
        }
        let data = self.outgoing.pop_front().unwrap_or_default();
        let continue_ = !self.outgoing.is_empty();
        // All that is to be said is said: the target may finish, and goes on if it has more.
        self.sent = (!continue_, continue_);
        Some(TextPart {
            final_: !continue_,
            continue_,
            lun: self.lun,
            ttt: self.ttt,
            data,
        })
    }

    /// Takes a response.
    ///
    /// # Errors
    /// [`TextFault`]: the target broke a rule; the exchange is of no use any more.
    pub fn handle(&mut self, response: &TextResponse, data: &[u8]) -> Result<Heard, TextFault> {
        let (sent_final, sent_continue) = self.sent;
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds > self.rounds_max {
            let limit = self.rounds_max;
            return Err(TextFault::TooManyRounds { limit });
        }
        if self.ready {
            return Err(TextFault::Unasked);
        }
        if response.final_ && !sent_final {
            return Err(TextFault::FinalTooEarly);
        }
        if sent_continue && !data.is_empty() {
            return Err(TextFault::Interrupted);
        }
        self.lun = response.lun;
        self.ttt = response.ttt;
        if sent_continue {
            self.ready = true;
            return Ok(Heard::More);
        }
        let Some(pairs) = self.assembler.push(data, response.continue_)? else {
            self.say(&[]);
            return Ok(Heard::More);
        };
        let final_ = response.final_;
        Ok(Heard::Pairs { pairs, final_ })
    }
}

#[cfg(test)]
mod tests;
