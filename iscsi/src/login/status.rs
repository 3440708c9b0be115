//! Status of a Login Response (RFC 7143 §11.13.5).

use std::fmt;

/// Class and detail of a Login Response's status.
///
/// Every allocated code has a constant; a code from a later registry, or from nowhere, is kept as
/// it came and judged by its class alone, as the RFC intends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginStatus {
    /// 0 success, 1 redirection, 2 initiator error, 3 target error.
    pub class: u8,
    /// Meaning within the class.
    pub detail: u8,
}

macro_rules! statuses {
    ($($name:ident = $class:literal, $detail:literal, $words:literal, $advice:literal;)*) => {
        impl LoginStatus {
            $(#[doc = concat!("`", stringify!($class), "/", stringify!($detail), "`: ", $words, ".")]
            pub const $name: Self = Self { class: $class, detail: $detail };)*

            /// Every allocated code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What the code says, in words.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match (self.class, self.detail) {
                    $(($class, $detail) => $words,)*
                    (0, _) => "success",
                    (1, _) => "unknown redirection",
                    (2, _) => "unknown initiator error",
                    (3, _) => "unknown target error",
                    _ => "status of an unknown class",
                }
            }

            /// What a person can try.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match (self.class, self.detail) {
                    $(($class, $detail) => $advice,)*
                    (3, _) => "try again later",
                    _ => "look into the target's log",
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0, 0, "success", "nothing";
    MOVED_TEMPORARILY = 1, 1, "target moved temporarily", "log in at the address given";
    MOVED_PERMANENTLY = 1, 2, "target moved permanently", "use the address given from now on";
    INITIATOR_ERROR = 2, 0, "initiator error", "look into the target's log";
    AUTHENTICATION_FAILURE = 2, 1, "authentication failure",
        "check CHAP name and secret, and whether the target asks for CHAP at all";
    AUTHORIZATION_FAILURE = 2, 2, "authorization failure",
        "allow this initiator name in the target's access list";
    NOT_FOUND = 2, 3, "target not found", "check the target name; discovery lists those that exist";
    TARGET_REMOVED = 2, 4, "target removed", "discover the target again";
    UNSUPPORTED_VERSION = 2, 5, "unsupported version", "the target speaks no version of RFC 7143";
    TOO_MANY_CONNECTIONS = 2, 6, "too many connections",
        "log out stale sessions or raise the target's limit";
    MISSING_PARAMETER = 2, 7, "missing parameter", "check initiator and target name";
    CANNOT_INCLUDE_IN_SESSION = 2, 8, "connection cannot be part of the session",
        "use a portal of the same portal group";
    SESSION_TYPE_NOT_SUPPORTED = 2, 9, "session type not supported",
        "discover through another portal, or name the target";
    SESSION_DOES_NOT_EXIST = 2, 10, "session does not exist", "log in anew with TSIH 0";
    INVALID_DURING_LOGIN = 2, 11, "invalid request during login", "look into the target's log";
    TARGET_ERROR = 3, 0, "target error", "look into the target's log, then try again";
    SERVICE_UNAVAILABLE = 3, 1, "service unavailable", "the target is not operational; try again later";
    OUT_OF_RESOURCES = 3, 2, "out of resources",
        "the target is full; log out stale sessions or try again later";
}

impl LoginStatus {
    /// The four digits of the RFC's table, such as 0x0201.
    #[must_use]
    pub const fn code(self) -> u16 {
        u16::from_be_bytes([self.class, self.detail])
    }

    /// Whether the login goes on.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.class == 0
    }

    /// Whether the same request may succeed later: the fault lies with the target (class 3).
    #[must_use]
    pub const fn is_transient(self) -> bool {
        self.class == 3
    }
}

impl fmt::Display for LoginStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {:#06x})", self.words(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_table() {
        let codes: Vec<u16> = LoginStatus::ALL
            .iter()
            .map(|status| status.code())
            .collect();
        let table = [
            0x0000, 0x0101, 0x0102, 0x0200, 0x0201, 0x0202, 0x0203, 0x0204, 0x0205, 0x0206, 0x0207,
            0x0208, 0x0209, 0x020a, 0x020b, 0x0300, 0x0301, 0x0302,
        ];
        assert_eq!(codes, table);
    }

    #[test]
    fn a_status_prints_words_and_number() {
        let text = LoginStatus::NOT_FOUND.to_string();
        assert_eq!(text, "target not found (status 0x0203)");
        let unknown = LoginStatus {
            class: 3,
            detail: 0x7f,
        };
        assert_eq!(unknown.to_string(), "unknown target error (status 0x037f)");
        assert!(unknown.is_transient());
    }
}
