//! The embedded target on loopback, for tests that are no async code themselves.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;

use test_target::{Config, Portal, Server, Target};

pub const NAME: &str = "iqn.2026-01.org.example:test-target";

/// A running target; ends when dropped. Fails the test if it saw a rule of the RFC broken.
pub struct Embedded {
    runtime: tokio::runtime::Runtime,
    server: Option<Server>,
    pub addrs: Vec<SocketAddr>,
}

impl Embedded {
    /// One group of `portals` portals on 127.0.0.1.
    pub fn start(config: Config, portals: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let wanted = vec![SocketAddr::from(([127, 0, 0, 1], 0)); portals];
        let apart = !config.portal_names.is_empty();
        let portal = |number: usize| Portal {
            address: String::new(),
            // Targets that share a device share its numbers of portal groups.
            group: 1 + if apart {
                u16::try_from(number).expect("few")
            } else {
                0
            },
        };
        let config = Config {
            portals: (0..portals).map(portal).collect(),
            ..config
        };
        let server = runtime
            .block_on(Server::start(config, &wanted))
            .expect("a target");
        let addrs = server.local_addrs();
        Self {
            runtime,
            server: Some(server),
            addrs,
        }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("running")
    }

    /// Looks into the target, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut Target) -> T) -> T {
        self.server().with_target(|target, _| look(target))
    }

    /// Resets the connections of a portal and refuses new ones.
    pub fn cut(&self, portal: usize) {
        self.runtime
            .block_on(self.server().cut(portal))
            .expect("cut");
    }

    /// Ends a cut.
    pub fn restore(&self, portal: usize) {
        self.runtime
            .block_on(self.server().restore(portal))
            .expect("restored");
    }

    /// URL of LUN 0 over one portal.
    pub fn url(&self, portal: usize) -> String {
        self.url_of(portal, "0")
    }

    pub fn url_of(&self, portal: usize, lun: &str) -> String {
        format!("iscsi://{}/{NAME}/{lun}", self.addrs[portal])
    }

    /// URLs of LUN 0 over all portals, joined by commas.
    pub fn all(&self) -> String {
        let urls: Vec<_> = (0..self.addrs.len())
            .map(|portal| self.url(portal))
            .collect();
        urls.join(",")
    }

    pub fn fill(&self, data: &[u8]) {
        self.with(|target| target.disk_mut(0).expect("a disk").write(0, data));
    }

    pub fn content(&self, offset: usize, len: usize) -> Vec<u8> {
        self.with(|target| {
            let disk = target.disk(0).expect("a disk");
            let block = disk.block_bytes() as usize;
            let (first, last) = (offset / block, (offset + len).div_ceil(block));
            let blocks = u32::try_from(last - first).expect("small");
            let data = disk.read(first as u64, blocks);
            data[offset - first * block..][..len].to_vec()
        })
    }

    /// Nobody is logged in any more.
    #[track_caller]
    pub fn assert_logged_out(&self) {
        let sessions = self.with(|target| target.sessions());
        assert!(sessions.is_empty(), "{sessions:#?}");
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let Some(server) = self.server.take() else {
            return;
        };
        let violations = server.violations();
        self.runtime.block_on(server.shutdown());
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "{violations:#?}");
        }
    }
}

/// Bytes that are different everywhere.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut data = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    data
}
