//! Which authentication method a login offers and accepts (`AuthMethod`, RFC 7143 §12.1).
//!
//! There is no list here on purpose: `CHAP,None` would let a target, or somebody between, choose
//! no authentication where it was asked for.

use std::fmt;

use crate::error::shorten;
use crate::{AuthError, Chap};

/// An authentication method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// No authentication.
    None,
    /// CHAP, RFC 7143 §12.1.3.
    Chap,
}

impl Method {
    /// The one method that a login with this configuration offers and accepts.
    #[must_use]
    pub fn configured(chap: Option<&Chap>) -> Self {
        match chap {
            Some(_) => Self::Chap,
            None => Self::None,
        }
    }

    /// The value of the key `AuthMethod` that offers this method.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Chap => "CHAP",
        }
    }

    /// Judges the target's answer to our `AuthMethod`.
    ///
    /// # Errors
    /// [`AuthError::MethodRefused`] unless it is the method itself; `Reject` with a login status
    /// of success (some targets do that) is a refusal like any other.
    pub fn accept(self, answer: &str) -> Result<(), AuthError> {
        if answer == self.as_str() {
            Ok(())
        } else {
            Err(AuthError::MethodRefused {
                required: self,
                answer: shorten(answer),
            })
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_configured_method_is_accepted() {
        assert!(Method::Chap.accept("CHAP").is_ok());
        assert!(Method::None.accept("None").is_ok());
        for answer in ["None", "Reject", "KRB5", "chap", "CHAP,None", "", "CHAP "] {
            let refused = AuthError::MethodRefused {
                required: Method::Chap,
                answer: answer.into(),
            };
            assert_eq!(Method::Chap.accept(answer), Err(refused), "{answer:?}");
        }
        assert!(Method::None.accept("CHAP").is_err());
    }

    #[test]
    fn a_long_answer_is_shortened_in_the_error() {
        let Err(AuthError::MethodRefused { answer, .. }) = Method::Chap.accept(&"é".repeat(5000))
        else {
            panic!("accepted");
        };
        assert_eq!(answer.chars().count(), 65);
    }
}
