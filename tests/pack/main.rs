//! What ships beside the programs, and how they get on with systemd.
//!
//! ```text
//!   files     examples, alerts, HAProxy's file, the IAM policy: each by the program that reads it
//!   unit      the systemd unit by systemd-analyze
//!   notify    vipd against a socket that plays systemd
//!   group     the unit's socket and its users, on a booted systemd (booted)
//!   package   the Debian package on a booted systemd (booted), from installation to purge
//!   walk      three such hosts in the lab's VPC, by the steps of docs/OPERATIONS.md alone
//! ```
//!
//! It needs root, and `./cluster/setup.sh haproxy iproute2 util-linux systemd systemd-container python3-venv dpkg-dev
//! promtool cargo-deb`; where one of these is missing, a test fails. Everything that is started lives in network
//! namespaces of its own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod booted;
mod files;
mod group;
mod notify;
mod package;
mod stall;
#[path = "../common/tool.rs"]
mod tool;
mod tools;
mod unit;
mod walk;
