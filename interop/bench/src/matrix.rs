//! What can be measured: cells of size, depth, direction, digests, paths and so on.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Server {
    /// The target that does no work.
    Null,
    /// The same, each connection limited to [`SLOW_MBIT`].
    Slow,
    /// tgtd with a file in memory.
    Tgt,
}

/// Limit of a connection of [`Server::Slow`], in Mbit/s.
pub(crate) const SLOW_MBIT: u32 = 100;

/// Which way the data go; always to and from random places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Load {
    #[value(name = "randread")]
    Read,
    #[value(name = "randwrite")]
    Write,
    /// Seven reads to three writes.
    #[value(name = "randrw")]
    Mixed,
}

/// Reads of 100 I/Os in [`Load::Mixed`].
pub(crate) const READS_OF_100: u8 = 70;

impl Load {
    /// As the contenders' command lines call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "randread",
            Self::Write => "randwrite",
            Self::Mixed => "randrw",
        }
    }
}

/// Which digests are negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Digests {
    None,
    Header,
    Both,
}

impl Digests {
    pub(crate) const fn header(self) -> bool {
        !matches!(self, Self::None)
    }

    pub(crate) const fn data(self) -> bool {
        matches!(self, Self::Both)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Header => "header",
            Self::Both => "both",
        }
    }
}

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) server: Server,
    pub(crate) load: Load,
    /// Bytes per I/O.
    pub(crate) bytes: u32,
    pub(crate) depth: u16,
    pub(crate) digests: Digests,
    pub(crate) paths: u8,
    /// Worker threads of our runtime.
    pub(crate) threads: u8,
    /// Its sessions, and the tasks that do I/O, have a thread of their own beside those.
    pub(crate) sharded: bool,
}

/// 4 KiB.
pub(crate) const K4: u32 = 4 << 10;
/// 64 KiB.
pub(crate) const K64: u32 = 64 << 10;
/// 256 KiB.
pub(crate) const K256: u32 = 256 << 10;
/// 1 MiB.
pub(crate) const M1: u32 = 1 << 20;

impl Cell {
    /// One connection to the null target, no digests, one thread.
    pub(crate) const fn plain(load: Load, bytes: u32, depth: u16) -> Self {
        Self {
            server: Server::Null,
            load,
            bytes,
            depth,
            digests: Digests::None,
            paths: 1,
            threads: 1,
            sharded: false,
        }
    }

    pub(crate) const fn digests(self, digests: Digests) -> Self {
        Self { digests, ..self }
    }

    pub(crate) const fn paths(self, paths: u8) -> Self {
        Self { paths, ..self }
    }

    pub(crate) const fn threads(self, threads: u8) -> Self {
        Self { threads, ..self }
    }

    pub(crate) const fn one_thread(self) -> Self {
        Self {
            threads: 1,
            sharded: false,
            ..self
        }
    }

    pub(crate) const fn sharded(self) -> Self {
        Self {
            sharded: true,
            ..self
        }
    }

    pub(crate) const fn server(self, server: Server) -> Self {
        Self { server, ..self }
    }

    /// Bytes in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        u64::from(self.bytes) * u64::from(self.depth)
    }

    /// Bytes per I/O, for people.
    pub(crate) fn size(&self) -> String {
        match self.bytes {
            bytes if bytes >= 1 << 20 => format!("{}m", bytes >> 20),
            bytes => format!("{}k", bytes >> 10),
        }
    }

    /// What `--filter` looks at and people read.
    pub(crate) fn name(&self) -> String {
        let server = match self.server {
            Server::Null => "null",
            Server::Slow => "slow",
            Server::Tgt => "tgt",
        };
        let (load, size, depth) = (self.load.name(), self.size(), self.depth);
        let (digests, paths) = (self.digests.name(), self.paths);
        let mut name = format!("{server}/{load}/{size}/qd{depth}/digests={digests}/paths={paths}");
        if self.threads > 1 {
            name.push_str(&format!("/threads={}", self.threads));
        }
        if self.sharded {
            name.push_str("/sharded");
        }
        name
    }
}

/// The whole matrix.
pub(crate) fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for paths in [1, 2] {
        for digests in [Digests::None, Digests::Header, Digests::Both] {
            for bytes in [K4, K64, K256, M1] {
                for load in [Load::Read, Load::Write, Load::Mixed] {
                    for depth in [1, 8, 32, 128] {
                        let cell = Cell::plain(load, bytes, depth);
                        cells.push(cell.digests(digests).paths(paths));
                    }
                }
            }
        }
    }
    for bytes in [K4, M1] {
        for load in [Load::Read, Load::Write, Load::Mixed] {
            for depth in [1, 32, 128] {
                cells.push(Cell::plain(load, bytes, depth).server(Server::Tgt));
            }
        }
    }
    for depth in [1, 8, 32, 128] {
        let cell = Cell::plain(Load::Read, K4, depth).threads(2);
        cells.extend([cell, cell.sharded()]);
    }
    cells.push(
        Cell::plain(Load::Read, K64, 32)
            .server(Server::Slow)
            .paths(2),
    );
    cells
}

/// One of each kind, to see that everything works.
pub(crate) fn smoke() -> Vec<Cell> {
    vec![
        Cell::plain(Load::Read, K4, 1),
        Cell::plain(Load::Read, K4, 32),
        Cell::plain(Load::Write, K4, 128),
        Cell::plain(Load::Mixed, K64, 8),
        Cell::plain(Load::Write, M1, 8),
        Cell::plain(Load::Read, K4, 32).digests(Digests::Header),
        Cell::plain(Load::Mixed, M1, 8).digests(Digests::Both),
        Cell::plain(Load::Read, K4, 32).paths(2),
        Cell::plain(Load::Read, K4, 8).threads(2),
        Cell::plain(Load::Read, K4, 8).threads(2).sharded(),
        Cell::plain(Load::Read, K64, 8)
            .server(Server::Slow)
            .paths(2),
        Cell::plain(Load::Mixed, K4, 8).server(Server::Tgt),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_names_every_cell_once() {
        let names: Vec<_> = all().iter().map(Cell::name).collect();
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        // Sizes, loads, depths, digests, paths; tgtd; threads; slow paths.
        assert_eq!(names.len(), 4 * 3 * 4 * 3 * 2 + 18 + 2 * 4 + 1);
        assert!(names.contains(&"null/randrw/64k/qd8/digests=header/paths=2".to_owned()));
    }
}
