//! The tables against those that RFC 7143 §8 prints, typed in from there and not from the code.

use super::*;

/// RFC 7143 §8.1.3, the table behind the diagram.
const CONNECTION: &str = "\
S1 S1:- S2:T1 S4:- S5:- S6:- S7:- S8:-
S2 S1:T2 S2:- S4:T4 S5:- S6:- S7:- S8:-
S4 S1:T7 S2:- S4:- S5:T5 S6:- S7:- S8:-
S5 S1:T8 S2:- S4:- S5:- S6:T9 S7:T11 S8:T15
S6 S1:T13 S2:- S4:- S5:- S6:T14 S7:- S8:T17
S7 S1:T18 S2:- S4:- S5:- S6:T10 S7:T12 S8:T16
S8 S1:- S2:- S4:- S5:- S6:- S7:- S8:-
";

/// RFC 7143 §8.2.
const CLEANUP: &str = "\
R1 R1:- R2:M2 R3:M1
R2 R1:M3 R2:- R3:M4
R3 R1:- R2:- R3:-
";

/// RFC 7143 §8.3.1.
const SESSION: &str = "\
Q1 Q1:- Q3:N1 Q4:-
Q3 Q1:N3 Q3:- Q4:N5
Q4 Q1:N6 Q3:N4 Q4:-
";

#[test]
fn the_tables_are_those_of_the_rfc() {
    assert_eq!(ConnectionState::print(), CONNECTION);
    assert_eq!(CleanupState::print(), CLEANUP);
    assert_eq!(SessionState::print(), SESSION);
}

fn one_answer_per_event<M: Machine>() {
    for (at, row) in M::TABLE.iter().enumerate() {
        let twin = M::TABLE
            .iter()
            .skip(at + 1)
            .find(|other| other.from == row.from && other.event == row.event);
        assert!(twin.is_none(), "{} {:?} twice", row.from, row.event);
    }
}

#[test]
fn no_event_leads_to_two_states() {
    one_answer_per_event::<ConnectionState>();
    one_answer_per_event::<CleanupState>();
    one_answer_per_event::<SessionState>();
}

#[test]
fn what_is_not_listed_is_refused() {
    let error = ConnectionState::Free
        .after(ConnectionEvent::LoginDone)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the end of the login is not possible in state S1 FREE (RFC 7143 §8)"
    );
    assert!(CleanupState::Free.after(CleanupEvent::Started).is_err());
    assert!(
        SessionState::LoggedIn
            .after(SessionEvent::FirstLogin)
            .is_err()
    );
}

#[test]
fn a_life_of_a_connection() {
    use ConnectionEvent as E;
    let walk = |events: &[E]| {
        events
            .iter()
            .try_fold(ConnectionState::Free, |state, event| state.after(*event))
    };
    let login = [E::ConnectStarted, E::Connected, E::LoginDone];
    assert_eq!(walk(&login), Ok(ConnectionState::LoggedIn));
    let clean = [&login[..], &[E::LogoutAsked, E::LogoutSent, E::LogoutDone]].concat();
    assert_eq!(walk(&clean), Ok(ConnectionState::Free));
    let lost = [&login[..], &[E::LogoutSent, E::TransportLost]].concat();
    assert_eq!(walk(&lost), Ok(ConnectionState::CleanupWait));
    assert!(walk(&[&lost[..], &[E::ConnectStarted]].concat()).is_err());
}
