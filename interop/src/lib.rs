//! Harness for tests against real targets and foreign tools.
//!
//! A test here starts a real target (tgtd, istgt or LIO, from Debian), drives our `iscsi` binary or the
//! `initiator` library against it and asks somebody else what happened: the target's backing
//! file, `sha256sum`, or tshark's dissector. The other way round, libiscsi's tools and its test
//! suite are let loose on our own target.
//!
//! How it is put together:
//!
//! - [`sandbox::isolated`] runs the body of one test in a process of its own inside new network,
//!   mount and pid namespaces. Every test therefore owns 127.0.0.0/8, `::1`, port 3260, `/run`
//!   and its firewall; tests run in parallel without knowing of each other, and the kernel ends
//!   whatever a test has started when the test ends, even if the target ignores SIGTERM.
//! - [`process`] runs programs with a deadline and keeps what they print in files.
//! - [`tgt`], [`istgt`], [`own`] start targets, [`lio`] one in a virtual machine; [`iscsi`] runs our binary; [`capture`] records and
//!   judges the wire; [`cut`] breaks portals; [`data`] makes and compares contents; [`witness`] is a load
//!   that notices every lost or stale block.
//!
//! Invariants: nothing waits for a fixed time, only for an event with a deadline ([`wait`]);
//! expected contents are computed by something that is not under test; traffic stays on the
//! loopback interface of the test's own namespace.
//!
//! What is needed from the system: Linux, root (or user namespaces), and the Debian packages that
//! `cargo xtask test` installs. Every test is `#[ignore]`d, so a plain `cargo test` passes without
//! any of it.

pub mod capture;
pub mod cut;
pub mod data;
pub mod foreign;
pub mod iscsi;
pub mod istgt;
pub mod lio;
pub mod own;
pub mod process;
pub mod roundtrip;
pub mod sandbox;
pub mod tgt;
pub mod wait;
pub mod witness;
