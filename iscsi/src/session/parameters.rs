//! Changing parameters of a session that lives (RFC 7143 §6.4, §13).
//!
//! Every change is kept for the next login. Now it counts, too, where it only restricts what this
//! side does on its own, or where the RFC lets a key be declared in full feature phase; everything
//! else was settled by the login of the leading connection.

use std::time::Instant;

use scsi::NexusState;

use super::Session;
use super::text::{TextExchangeError, TextKey};
use crate::text::keys::{Key, SIMPLE_VALUE_BYTES_MAX};
use crate::text::{Offer, OfferError};

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It has: it was in force already, or concerns only what this side does.
    AtOnce,
    /// With the end of this text exchange; see [`Session::poll_text`].
    Renegotiating(TextKey),
    /// With the next login.
    NextLogin,
}

/// Why a parameter cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// The key or its value is not one that can be offered.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// Not an alias: empty, too long, or with control characters.
    #[error("{value:?} is no alias (RFC 7143 §13.7)")]
    BadAlias {
        /// The text given.
        value: String,
    },
    /// The session is closed; it has no next login.
    #[error("the session is closed")]
    Closed,
    /// It cannot be declared now; it will be at the next login.
    #[error("not now: {0}")]
    Text(#[from] TextExchangeError),
}

impl Session {
    /// Changes what is offered or declared for `key`, both spelled as on the wire.
    ///
    /// # Errors
    /// The key is unknown or not the user's to set, the value is not admissible or does not fit
    /// the other keys, or the session is closed.
    pub fn set(&mut self, now: Instant, key: &str, value: &str) -> Result<Applied, SetError> {
        if self.is_closed() {
            return Err(SetError::Closed);
        }
        let up = matches!(self.state(), NexusState::Up(_));
        if key == Key::InitiatorAlias.name() {
            self.config.initiator_alias = Some(check_alias(value)?);
            if !up {
                return Ok(Applied::NextLogin);
            }
            let pairs = vec![(Key::InitiatorAlias, value.to_owned())];
            return Ok(Applied::Renegotiating(self.declare(now, pairs)?));
        }
        let mut offer = self.config.offer.clone();
        offer.set(key, value)?;
        offer.check()?;
        self.config.offer = offer;
        let Some(key) = Key::find(key).filter(|_| up) else {
            return Ok(Applied::NextLogin);
        };
        // As the offer spells it.
        let value = self.config.offer.get(key).unwrap_or_default();
        if key == Key::MaxRecvDataSegmentLength {
            let same = self
                .connections
                .iter()
                .filter(|it| it.is_up())
                .all(|it| it.params.max_recv_bytes.to_string() == value);
            if same {
                return Ok(Applied::AtOnce);
            }
            return Ok(Applied::Renegotiating(
                self.declare(now, vec![(key, value)])?,
            ));
        }
        let now_in_force = self.restrict(now, key, &value);
        Ok(if now_in_force {
            Applied::AtOnce
        } else {
            Applied::NextLogin
        })
    }

    /// Puts a value into force as far as it only restricts this side; whether it is in force then.
    fn restrict(&mut self, now: Instant, key: Key, value: &str) -> bool {
        let row = self.keys.iter().find(|row| row.key == key.name());
        let Some(negotiated) = row.map(|row| row.result.clone()) else {
            return false;
        };
        let number = |text: &str| text.parse::<u16>().ok();
        let yes = value == "Yes";
        if key == Key::InitialR2T && (yes || negotiated == "No") {
            // Unsolicited data may be sent; nobody has to (RFC 7143 §11.3.4).
            self.params.initial_r2t = yes;
        } else if key == Key::ImmediateData && (!yes || negotiated == "Yes") {
            self.params.immediate_data = yes;
        } else if key == Key::DefaultTime2Wait && number(value) >= number(&negotiated) {
            // Waiting longer is allowed (RFC 7143 §7.5).
            self.params.time2wait_s = number(value).unwrap_or(self.params.time2wait_s);
        } else if key == Key::MaxConnections && number(value) <= number(&negotiated) {
            // It is a limit, not a duty.
            self.want_connections(now, number(value).unwrap_or(1));
        } else {
            return negotiated == value;
        }
        true
    }

    /// What the next login offers.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.config.offer
    }
}

fn check_alias(value: &str) -> Result<String, SetError> {
    let fits = !value.is_empty() && value.len() <= SIMPLE_VALUE_BYTES_MAX;
    if fits && !value.chars().any(char::is_control) {
        return Ok(value.to_owned());
    }
    let value = value.chars().take(SIMPLE_VALUE_BYTES_MAX).collect();
    Err(SetError::BadAlias { value })
}
