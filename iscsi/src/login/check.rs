//! What is checked of a Login Response beside its text (RFC 7143 §6.3, §11.13).

use super::{Login, LoginError, LoginStatus, ProtocolError, Sent, VERSION};
use crate::name::{Portal, Tsih};
use crate::serial::CmdSn;
use crate::text::codec::{Assembler, NEGOTIATION_BYTES_MAX};
use crate::text::{Key, Pair, TextError};
use crate::wire::{LoginResponse, Stage};

impl Login {
    pub(super) fn check_header(
        &self,
        response: &LoginResponse,
        sent: Sent,
    ) -> Result<(), ProtocolError> {
        let same_version = self
            .version_max
            .is_none_or(|max| max == response.version_max);
        if response.version_active != VERSION || !same_version {
            return Err(ProtocolError::Version {
                active: response.version_active,
                max: response.version_max,
            });
        }
        if response.isid != self.isid {
            let found = response.isid;
            return Err(ProtocolError::WrongIsid { found });
        }
        if response.current != self.stage {
            return Err(ProtocolError::WrongStage {
                expected: self.stage,
                found: response.current,
            });
        }
        if let Some(expected) = self.exp_stat_sn
            && response.stat_sn != expected
        {
            let found = response.stat_sn;
            return Err(ProtocolError::WrongStatSn { expected, found });
        }
        if response.transit {
            self.check_transit(response, sent)?;
        }
        Ok(())
    }

    fn check_transit(&self, response: &LoginResponse, sent: Sent) -> Result<(), ProtocolError> {
        if response.continue_ {
            return Err(ProtocolError::TransitWithContinue);
        }
        if !sent.transit {
            return Err(ProtocolError::TransitNotAsked);
        }
        // The target may choose less than was asked, but from both stages there is only one.
        let next = match self.stage {
            Stage::SecurityNegotiation => Stage::OperationalNegotiation,
            Stage::OperationalNegotiation | Stage::FullFeaturePhase => Stage::FullFeaturePhase,
        };
        if response.next != next {
            return Err(ProtocolError::WrongNextStage {
                from: self.stage,
                found: response.next,
            });
        }
        Ok(())
    }

    /// TSIH and CmdSN of the session after its final response.
    pub(super) fn final_numbers(
        &self,
        response: &LoginResponse,
    ) -> Result<(Tsih, CmdSn), LoginError> {
        let leading = self.tsih == Tsih(0);
        let right = if leading {
            response.tsih != Tsih(0)
        } else {
            response.tsih == self.tsih
        };
        if !right {
            let found = response.tsih.0;
            return Err(self.protocol(ProtocolError::WrongTsih { found }));
        }
        if !leading {
            return Ok((response.tsih, self.cmd_sn));
        }
        let found = response.window.exp_cmd_sn;
        if found != self.cmd_sn && found != self.cmd_sn.next() {
            return Err(self.protocol(ProtocolError::WrongExpCmdSn {
                ours: self.cmd_sn,
                found,
            }));
        }
        Ok((response.tsih, found))
    }

    /// A key that needs an answer must not come with the T bit. A key outside the table is let
    /// pass: whether it needs one is not ours to know.
    pub(super) fn no_answer_due(&self, answers: &[Pair]) -> Result<(), LoginError> {
        match answers.iter().find(|pair| Key::find(&pair.key).is_some()) {
            None => Ok(()),
            Some(pair) => Err(self.protocol(ProtocolError::AnswerAfterTransit {
                key: pair.key.clone(),
            })),
        }
    }

    /// The error for a response whose status is not success.
    pub(super) fn refused(&self, response: &LoginResponse, data: &[u8]) -> LoginError {
        let stage = self.stage();
        let status = LoginStatus {
            class: response.status_class,
            detail: response.status_detail,
        };
        if status.class != LoginStatus::MOVED_TEMPORARILY.class {
            return LoginError::Rejected { stage, status };
        }
        match self.redirection(data) {
            Ok(portal) => LoginError::Redirected {
                permanent: status == LoginStatus::MOVED_PERMANENTLY,
                portal,
            },
            Err(error) => error,
        }
    }

    /// The first address of a redirection.
    fn redirection(&self, data: &[u8]) -> Result<Portal, LoginError> {
        let pairs = Assembler::new(NEGOTIATION_BYTES_MAX)
            .push(data, false)
            .map_err(|source| self.text(source))?
            .unwrap_or_default();
        let address = pairs
            .iter()
            .find(|pair| pair.key == Key::TargetAddress.name())
            .ok_or_else(|| self.protocol(ProtocolError::RedirectWithoutAddress))?;
        // The tag must be left out here; one that is there all the same does no harm.
        match Portal::parse_target_address(&address.value) {
            Ok((portal, _)) => Ok(portal),
            Err(source) => Err(self.protocol(ProtocolError::RedirectAddress {
                address: address.value.clone(),
                source,
            })),
        }
    }

    pub(super) const fn protocol(&self, source: ProtocolError) -> LoginError {
        let stage = self.stage();
        LoginError::Protocol { stage, source }
    }

    pub(super) const fn text(&self, source: TextError) -> LoginError {
        let stage = self.stage();
        LoginError::Text { stage, source }
    }
}
