//! How a login fails, by whose fault.

use thiserror::Error;

use super::status::LoginStatus;
use crate::name::{Isid, Portal, PortalError};
use crate::serial::{CmdSn, StatSn};
use crate::text::{NegotiationError, OfferError, TextError};
use crate::wire::{Itt, Stage};

/// What a target did that the login phase does not allow. The connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A response although no request was outstanding.
    #[error("a Login Response without a request (RFC 7143 §6.3)")]
    Unsolicited,
    /// Another task's tag.
    #[error("Initiator Task Tag {found:#x} instead of {expected:#x} (RFC 7143 §11.12)", found = found.0, expected = expected.0)]
    WrongTag {
        /// The tag of this login.
        expected: Itt,
        /// The tag of the response.
        found: Itt,
    },
    /// A version that was not offered, or another one than before.
    #[error("version {active:#x} (highest {max:#x}), which was not offered (RFC 7143 §11.13.2)")]
    Version {
        /// Version-active.
        active: u8,
        /// Version-max.
        max: u8,
    },
    /// The ISID is not ours.
    #[error("ISID {found} instead of ours (RFC 7143 §11.13)")]
    WrongIsid {
        /// What came.
        found: Isid,
    },
    /// The response belongs to another stage.
    #[error("a response of stage {found} in stage {expected} (RFC 7143 §6.3)")]
    WrongStage {
        /// The stage of the login.
        expected: Stage,
        /// The stage of the response.
        found: Stage,
    },
    /// T without our T.
    #[error("the stage was ended although the request did not ask for it (RFC 7143 §11.13.6)")]
    TransitNotAsked,
    /// T together with C.
    #[error("T and C bit together (RFC 7143 §11.13.7)")]
    TransitWithContinue,
    /// A transition that does not exist, or beyond what was asked.
    #[error("stage {from} cannot be followed by {found} here (RFC 7143 §6.3)")]
    WrongNextStage {
        /// The stage of the login.
        from: Stage,
        /// The stage the target chose.
        found: Stage,
    },
    /// StatSN is not the next one.
    #[error("StatSN {found} instead of {expected} (RFC 7143 §11.13.4)")]
    WrongStatSn {
        /// The next one.
        expected: StatSn,
        /// What came.
        found: StatSn,
    },
    /// Text in answer to a request whose own text was not complete.
    #[error("text before ours was complete (RFC 7143 §6.2)")]
    TextWhileContinuing,
    /// A key that needs an answer came with the T bit.
    #[error("{key} needs an answer, but the stage was ended with it (RFC 7143 §11.13.6)")]
    AnswerAfterTransit {
        /// The key's name.
        key: String,
    },
    /// A new session without a handle, or another handle than the session's.
    #[error("TSIH {found:#06x} in the final response (RFC 7143 §11.13.3)")]
    WrongTsih {
        /// What came.
        found: u16,
    },
    /// ExpCmdSN of the final response does not fit the CmdSN of the login.
    #[error("ExpCmdSN {found} after a login with CmdSN {ours} (RFC 7143 §11.12.8)")]
    WrongExpCmdSn {
        /// CmdSN of the login.
        ours: CmdSn,
        /// What came.
        found: CmdSn,
    },
    /// A redirection that names no address.
    #[error("a redirection without TargetAddress (RFC 7143 §11.13.5)")]
    RedirectWithoutAddress,
    /// A redirection to something that is no address.
    #[error("a redirection to {address:?}, which is no address: {source} (RFC 7143 §13.8)")]
    RedirectAddress {
        /// What came.
        address: String,
        /// What is wrong with it.
        source: PortalError,
    },
}

/// Why a login ended. `stage` is the login stage in the RFC's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The target refused.
    #[error("the target refused the login in stage {stage}: {status}; {}", status.advice())]
    Rejected {
        /// Stage of the login.
        stage: &'static str,
        /// Why.
        status: LoginStatus,
    },
    /// The target is elsewhere. Not a failure: log in there (see
    /// [`RedirectTrail`](super::RedirectTrail)).
    #[error("the target moved {} to {portal}", if *permanent { "permanently" } else { "temporarily" })]
    Redirected {
        /// Status 0x0102 rather than 0x0101.
        permanent: bool,
        /// Where to log in.
        portal: Portal,
    },
    /// Authentication failed on our side of it.
    #[error("authentication failed: {source}{}", auth_advice(source))]
    Auth {
        /// What was wrong.
        #[from]
        source: auth::AuthError,
    },
    /// A key could not be settled.
    #[error("negotiation failed: {source}")]
    Negotiation {
        /// Which, and how.
        #[from]
        source: NegotiationError,
    },
    /// The target's text is malformed.
    #[error("malformed login text in stage {stage}: {source}")]
    Text {
        /// Stage of the login.
        stage: &'static str,
        /// What is wrong with it.
        source: TextError,
    },
    /// The target broke the protocol.
    #[error("the target broke the protocol in stage {stage}: {source}")]
    Protocol {
        /// Stage of the login.
        stage: &'static str,
        /// What it did.
        source: ProtocolError,
    },
    /// CHAP needs a challenge that nobody can foresee, and there is no randomness for one.
    #[error("no randomness for a CHAP challenge: the system's generator failed")]
    NoRandomness,
    /// The login goes on and on.
    #[error("no end after {limit} login responses, in stage {stage}")]
    TooManyRounds {
        /// Stage of the login.
        stage: &'static str,
        /// Responses taken.
        limit: u16,
    },
    /// What was to be offered contradicts itself.
    #[error("the offer cannot be made: {source}")]
    Offer {
        /// How.
        #[from]
        source: OfferError,
    },
    /// The alias is too long or contains a NUL.
    #[error("the initiator alias must have 1 to 255 bytes and no NUL")]
    BadAlias,
    /// The login was used after its end.
    #[error("the login is over")]
    Over,
}

const fn auth_advice(error: &auth::AuthError) -> &'static str {
    let auth::AuthError::MethodRefused { required, .. } = error else {
        return "";
    };
    match required {
        auth::Method::None => {
            "; the target demands authentication, so give it a CHAP name and secret"
        }
        auth::Method::Chap => "; the target is not set up for CHAP, or not for this initiator",
    }
}
