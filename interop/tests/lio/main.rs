//! Tests against LIO, the Linux kernel's target, in virtual machines of their own.
//!
//! They need root and the packages that `cargo xtask test` installs, so all are ignored unless asked
//! for: `cargo test -p iscsi-interop --test lio -- --ignored`. `docs/interop-lio.md` says what was
//! learnt about LIO.

mod access;
mod connections;
mod faults;
mod fences;
mod groups;
mod load;
mod logins;
mod recovery;
mod storm;
mod units;
