//! The interop suite, in one binary: it links once, and its tests share all the processors.
//!
//! Every test needs root and the packages that `cargo xtask test` installs, so all are ignored
//! unless asked for: `cargo test -p iscsi-interop -- --ignored`. The module documentation of
//! `interop::sandbox` says where a failed test leaves its logs.

mod chap;
mod copy;
mod devices;
mod discovery;
mod harness;
mod interrupted;
mod negotiation;
mod own_target;
mod redirect;
mod session;
mod traps;
mod wire;
