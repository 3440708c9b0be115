//! The connections of a session, found by CID.
//!
//! There is always one: the leading connection, or what is left of the last one. Finding it is a
//! compare; with several connections the others are looked through, of which there are few.

use super::connection::Connection;
use super::schedule;
use crate::name::Cid;

/// All connections of a session.
pub(super) struct Connections {
    first: Connection,
    more: Vec<Connection>,
    last_cid: Cid,
}

impl Connections {
    pub(super) fn new(first: Connection) -> Self {
        Self {
            last_cid: first.cid,
            first,
            more: Vec::new(),
        }
    }

    /// Connections in the table, in whatever state.
    pub(super) fn len(&self) -> usize {
        1 + self.more.len()
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

    /// A CID that no connection has, and that none has had for a long time.
    pub(super) fn next_cid(&mut self) -> Cid {
        loop {
            self.last_cid = Cid(self.last_cid.0.wrapping_add(1));
            if self.get(self.last_cid).is_none() {
                return self.last_cid;
            }
        }
    }

    pub(super) fn push(&mut self, connection: Connection) {
        self.more.push(connection);
    }

    /// Forgets a connection, unless it is the only one.
    pub(super) fn remove(&mut self, cid: Cid) {
        if self.first.cid != cid {
            self.more.retain(|connection| connection.cid != cid);
        } else if !self.more.is_empty() {
            self.first = self.more.remove(0);
        }
    }

    /// Forgets all but the leading one.
    pub(super) fn keep_leading(&mut self) {
        self.more.clear();
    }

    /// The connection that the next command goes to. `None`: none can take any.
    pub(super) fn scheduled(&self) -> Option<Cid> {
        if self.more.is_empty() {
            return self.first.takes_commands().then_some(self.first.cid);
        }
        let takers = self.iter().filter(|connection| connection.takes_commands());
        schedule::least_outstanding(takers.map(Connection::load))
    }

    /// The connection for what cannot wait for room in a socket.
    pub(super) fn least_loaded(&self) -> Option<Cid> {
        let takers = self.iter().filter(|connection| connection.takes_commands());
        let blocked = false;
        schedule::least_outstanding(takers.map(|it| schedule::Load {
            blocked,
            ..it.load()
        }))
    }
}
