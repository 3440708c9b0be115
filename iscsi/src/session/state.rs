//! The state machines of RFC 7143 §8 as tables: a connection (§8.1.3), its cleanup (§8.2), and the
//! session (§8.3.1), each from the initiator's side.
//!
//! A row says: in this state, this happens, the RFC calls that transition so, and this is the next
//! state. Code names what happened ([`Machine::after`]); only the tables know what follows. What a
//! table does not list cannot happen: whoever asks for it gets an error and keeps its state.
//!
//! The tables decide nothing else. Timers, PDUs and tasks belong to the session.

use std::fmt;

/// What a table has no row for: a broken invariant of ours, or a peer that sends a PDU where it
/// means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible in state {state} (RFC 7143 §8)")]
pub struct IllegalTransition {
    /// The state, by its number and name in the RFC.
    pub state: &'static str,
    /// What happened.
    pub event: &'static str,
}

/// One row: in `from`, `event` takes the transition `name` to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<S, E> {
    /// The state it starts in.
    pub from: S,
    /// What happens.
    pub event: E,
    /// The RFC's number of the transition.
    pub name: &'static str,
    /// The state it ends in.
    pub to: S,
}

/// A state that knows its table.
pub trait Machine: Copy + PartialEq + fmt::Display + 'static {
    /// What can happen to it.
    type Event: Copy + PartialEq + fmt::Debug + 'static;

    /// All its states, in the RFC's order.
    const STATES: &'static [Self];
    /// All its transitions.
    const TABLE: &'static [Row<Self, Self::Event>];

    /// The RFC's number and name of the state.
    fn name(self) -> &'static str;

    /// What happened, in words.
    fn describe(event: Self::Event) -> &'static str;

    /// The state after `event`.
    ///
    /// # Errors
    /// The table has no such row.
    fn after(self, event: Self::Event) -> Result<Self, IllegalTransition> {
        Self::TABLE
            .iter()
            .find(|row| row.from == self && row.event == event)
            .map(|row| row.to)
            .ok_or_else(|| IllegalTransition {
                state: self.name(),
                event: Self::describe(event),
            })
    }

    /// The table as the RFC prints its own: a row per state it starts in, a column per state it
    /// ends in, the transitions in between. Several events may share a transition.
    #[must_use]
    fn print() -> String {
        let mut text = String::new();
        let label = |state: Self| state.name().split(' ').next().unwrap_or_default();
        for from in Self::STATES {
            text.push_str(label(*from));
            for to in Self::STATES {
                let mut names: Vec<&str> = Self::TABLE
                    .iter()
                    .filter(|row| row.from == *from && row.to == *to)
                    .map(|row| row.name)
                    .collect();
                names.dedup();
                let cell = if names.is_empty() {
                    "-".to_owned()
                } else {
                    names.join("+")
                };
                text.push_str(&format!(" {}:{cell}", label(*to)));
            }
            text.push('\n');
        }
        text
    }
}

macro_rules! machine {
    (
        $(#[$state_doc:meta])* $state:ident { $($variant:ident $name:literal $doc:literal;)* }
        $(#[$event_doc:meta])* $event:ident { $($happening:ident $words:literal;)* }
        $($from:ident $via:ident $t:literal $to:ident;)*
    ) => {
        $(#[$state_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $state { $(#[doc = $doc] $variant,)* }

        $(#[$event_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $event { $(#[doc = $words] $happening,)* }

        impl Machine for $state {
            type Event = $event;
            const STATES: &'static [Self] = &[$(Self::$variant,)*];
            const TABLE: &'static [Row<Self, $event>] = &[$(Row {
                from: Self::$from,
                event: $event::$via,
                name: $t,
                to: Self::$to,
            },)*];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn describe(event: $event) -> &'static str {
                match event { $($event::$happening => $words,)* }
            }
        }

        impl fmt::Display for $state {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

machine! {
    /// A connection (RFC 7143 §8.1.3). S3 exists for targets only.
    ConnectionState {
        Free "S1 FREE" "Not yet there, or closed.";
        TransportWait "S2 XPT_WAIT" "TCP is being opened.";
        InLogin "S4 IN_LOGIN" "In the login phase.";
        LoggedIn "S5 LOGGED_IN" "In full feature phase.";
        InLogout "S6 IN_LOGOUT" "A Logout is sent, its answer awaited.";
        LogoutRequested "S7 LOGOUT_REQUESTED" "The target has asked for a Logout, which is not sent yet.";
        CleanupWait "S8 CLEANUP_WAIT" "Lost with tasks on it; what follows is [`CleanupState`].";
    }
    /// What happens to a connection.
    ConnectionEvent {
        ConnectStarted "a connect";
        Connected "an open TCP connection";
        LoginDone "the end of the login";
        LoginFailed "a failed login";
        LogoutSent "a Logout being sent";
        LogoutAsked "a target asking for a logout";
        LogoutDone "a Logout that succeeded";
        LogoutFailed "a Logout that failed or timed out";
        TransportLost "the loss of the TCP connection";
        SessionClosed "the end of the session, logged out on another connection";
    }
    Free ConnectStarted "T1" TransportWait;
    TransportWait TransportLost "T2" Free;
    TransportWait SessionClosed "T2" Free;
    TransportWait Connected "T4" InLogin;
    InLogin LoginDone "T5" LoggedIn;
    InLogin LoginFailed "T7" Free;
    InLogin TransportLost "T7" Free;
    InLogin SessionClosed "T7" Free;
    LoggedIn SessionClosed "T8" Free;
    LoggedIn LogoutSent "T9" InLogout;
    LoggedIn LogoutAsked "T11" LogoutRequested;
    LoggedIn TransportLost "T15" CleanupWait;
    InLogout LogoutDone "T13" Free;
    InLogout SessionClosed "T13" Free;
    InLogout LogoutAsked "T14" InLogout;
    InLogout LogoutFailed "T17" CleanupWait;
    InLogout TransportLost "T17" CleanupWait;
    LogoutRequested SessionClosed "T18" Free;
    LogoutRequested LogoutSent "T10" InLogout;
    LogoutRequested LogoutAsked "T12" LogoutRequested;
    LogoutRequested TransportLost "T16" CleanupWait;
}

machine! {
    /// The cleanup of a lost connection (RFC 7143 §8.2), from S8 to S1.
    CleanupState {
        CleanupWait "R1 CLEANUP_WAIT" "Nobody has begun; the same as [`ConnectionState::CleanupWait`].";
        InCleanup "R2 IN_CLEANUP" "A Logout for it is sent on another connection, or a login reinstates it.";
        Free "R3 FREE" "Over; the same as [`ConnectionState::Free`].";
    }
    /// What happens to a lost connection.
    CleanupEvent {
        Started "a cleanup being started";
        Failed "a cleanup that failed";
        Succeeded "a cleanup that succeeded";
        TimedOut "the end of the time to retain its tasks";
        SessionClosed "the end of the session, logged out on another connection";
    }
    CleanupWait Started "M2" InCleanup;
    CleanupWait TimedOut "M1" Free;
    CleanupWait SessionClosed "M1" Free;
    InCleanup Failed "M3" CleanupWait;
    InCleanup Succeeded "M4" Free;
    InCleanup SessionClosed "M4" Free;
}

machine! {
    /// A session (RFC 7143 §8.3.1). Q2 and Q5 exist for targets only.
    SessionState {
        Free "Q1 FREE" "Not yet there, or closed.";
        LoggedIn "Q3 LOGGED_IN" "At least one connection is in full feature phase.";
        Failed "Q4 FAILED" "All connections are lost; it waits for recovery.";
    }
    /// What happens to a session.
    SessionEvent {
        FirstLogin "the first connection in full feature phase";
        Closed "a clean logout";
        Continued "a connection reinstated within the time to retain the session";
        Lost "the loss of the last connection";
        Ended "a session reinstatement, or the end of the time to retain the session";
    }
    Free FirstLogin "N1" LoggedIn;
    LoggedIn Closed "N3" Free;
    LoggedIn Lost "N5" Failed;
    Failed Continued "N4" LoggedIn;
    Failed Ended "N6" Free;
}

#[cfg(test)]
mod tests;
