//! The connections of a session, found by CID.
//!
//! There is always one: the leading connection, or what is left of the last one. Finding it is a
//! compare; with several connections the others are looked through, of which there are few.

use super::connection::Connection;
use crate::name::Cid;

/// All connections of a session.
#[derive(Debug)]
pub(super) struct Connections {
    first: Connection,
    more: Vec<Connection>,
}

impl Connections {
    pub(super) fn new(first: Connection) -> Self {
        Self {
            first,
            more: Vec::new(),
        }
    }

    /// The leading connection, or the last one.
    pub(super) fn leading(&self) -> &Connection {
        &self.first
    }

    pub(super) fn leading_mut(&mut self) -> &mut Connection {
        &mut self.first
    }

    pub(super) fn get(&self, cid: Cid) -> Option<&Connection> {
        if self.first.cid == cid {
            return Some(&self.first);
        }
        self.more.iter().find(|connection| connection.cid == cid)
    }

    pub(super) fn get_mut(&mut self, cid: Cid) -> Option<&mut Connection> {
        if self.first.cid == cid {
            return Some(&mut self.first);
        }
        self.more
            .iter_mut()
            .find(|connection| connection.cid == cid)
    }

    /// All of them, the leading one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        std::iter::once(&self.first).chain(&self.more)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        std::iter::once(&mut self.first).chain(&mut self.more)
    }
}
