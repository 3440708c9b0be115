//! Error recovery above level 0 (RFC 7143 §7).

mod connection;
mod reassign;

pub(super) use self::reassign::Adrift;
