//! What is measured.

use serde::{Deserialize, Serialize};

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Server {
    /// The target that does no work.
    Null,
    /// tgtd with a file in memory.
    Tgt,
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
}

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) server: Server,
    pub(crate) write: bool,
    /// Bytes per I/O.
    pub(crate) bytes: u32,
    pub(crate) depth: u16,
    pub(crate) digests: Digests,
    pub(crate) paths: u8,
}

impl Cell {
    /// `randread` or `randwrite`.
    pub(crate) const fn rw(&self) -> &'static str {
        if self.write { "randwrite" } else { "randread" }
    }

    /// What `--filter` looks at and people read.
    pub(crate) fn name(&self) -> String {
        let size = match self.bytes {
            bytes if bytes >= 1 << 20 => format!("{}m", bytes >> 20),
            bytes => format!("{}k", bytes >> 10),
        };
        let server = match self.server {
            Server::Null => "null",
            Server::Tgt => "tgt",
        };
        let digests = match self.digests {
            Digests::None => "none",
            Digests::Header => "header",
            Digests::Both => "both",
        };
        let (rw, depth, paths) = (self.rw(), self.depth, self.paths);
        format!("{server}/{rw}/{size}/qd{depth}/digests={digests}/paths={paths}")
    }
}

const fn cell(write: bool, bytes: u32, depth: u16, digests: Digests, paths: u8) -> Cell {
    Cell {
        server: Server::Null,
        write,
        bytes,
        depth,
        digests,
        paths,
    }
}

/// The whole matrix.
pub(crate) fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for paths in [1, 2] {
        for digests in [Digests::None, Digests::Header, Digests::Both] {
            for bytes in [4 << 10, 64 << 10, 256 << 10, 1 << 20] {
                for write in [false, true] {
                    for depth in [1, 8, 32, 128] {
                        cells.push(cell(write, bytes, depth, digests, paths));
                    }
                }
            }
        }
    }
    for bytes in [4 << 10, 1 << 20] {
        for write in [false, true] {
            for depth in [1, 32, 128] {
                let server = Server::Tgt;
                let cell = cell(write, bytes, depth, Digests::None, 1);
                cells.push(Cell { server, ..cell });
            }
        }
    }
    cells
}

/// A minute's worth.
pub(crate) fn quick() -> Vec<Cell> {
    vec![
        cell(false, 4 << 10, 1, Digests::None, 1),
        cell(false, 4 << 10, 32, Digests::None, 1),
        cell(true, 4 << 10, 32, Digests::None, 1),
        cell(false, 4 << 10, 128, Digests::None, 1),
        cell(true, 4 << 10, 128, Digests::None, 1),
        cell(false, 1 << 20, 8, Digests::None, 1),
        cell(true, 1 << 20, 8, Digests::None, 1),
        cell(false, 4 << 10, 32, Digests::Both, 1),
        cell(false, 4 << 10, 32, Digests::None, 2),
    ]
}
