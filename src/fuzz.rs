//! What the fuzz targets of `fuzz/` call, one function a target, and the ordinary tests with every
//! file of `fuzz/corpus/`. In no shipped program.
//!
//! A target takes bytes as they would come from outside, and panics where vipd would, or where what
//! it took does not survive being told on.

use crate::config::Config;
use crate::health;
use crate::ledger::Ledger;
use crate::net;
use crate::raft;
use crate::rpc;
use crate::tls::Identity;
#[cfg(feature = "aws")]
use crate::vpc;

/// A target's name, as in `fuzz/fuzz_targets/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("peer", peer),
    ("operator", operator),
    ("log", log),
    ("snapshot", snapshot),
    ("stored", stored),
    ("config", config),
    ("haproxy", haproxy),
    ("netlink", netlink),
    ("certificate", certificate),
    #[cfg(feature = "aws")]
    ("ec2", ec2),
];

/// What other members say: the first byte chooses the message, the rest is its protobuf.
pub fn peer(data: &[u8]) {
    match raft::fuzz::peer(data) {
        Some(raft::fuzz::Said::Report(member)) => drop(rpc::picture::read_health(&member)),
        Some(raft::fuzz::Said::Forward(verb)) => rpc::desk::fuzz::verb(&verb),
        None => {}
    }
}

/// What operators say: as [`peer`].
pub fn operator(data: &[u8]) {
    rpc::desk::fuzz::operator(data);
}

/// An append whose entries are applied to a ledger.
pub fn log(data: &[u8]) {
    shown(&raft::fuzz::log(data));
}

/// A snapshot, as a leader sends it and as the store keeps it.
pub fn snapshot(data: &[u8]) {
    shown(&raft::fuzz::snapshot(data));
}

/// What the store reads: records, the head, the mark; with a right checksum and with the given one.
pub fn stored(data: &[u8]) {
    raft::store::fuzz::stored(data);
}

/// `vipd.toml`.
pub fn config(data: &[u8]) {
    match Config::parse(data, "vipd.toml", None) {
        Ok(config) => {
            assert!(!config.timeline().to_string().is_empty());
            drop(config.warnings());
        }
        Err(error) => {
            let line = error.to_string();
            assert!(!line.is_empty());
            drop(format!("{:?}", miette::Report::new(error)));
        }
    }
}

/// What HAProxy's runtime socket answers.
pub fn haproxy(data: &[u8]) {
    health::fuzz::haproxy(data);
}

/// What the kernel answers.
pub fn netlink(data: &[u8]) {
    net::fuzz::netlink(data);
}

/// What a certificate says of its holder, or the URI by itself.
pub fn certificate(data: &[u8]) {
    let text = std::str::from_utf8(data).unwrap_or_default();
    for identity in [Identity::of_certificate(data), text.parse()].into_iter().flatten() {
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }
}

/// What EC2 answers.
#[cfg(feature = "aws")]
pub fn ec2(data: &[u8]) {
    vpc::fuzz::ec2(data);
}

/// Whatever was agreed can be shown.
fn shown(ledger: &Ledger) {
    for each in &ledger.moves {
        drop(rpc::picture::a_move(each));
    }
}

#[cfg(test)]
mod tests;
