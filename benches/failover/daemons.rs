//! What is asked of vipd and of keepalived alike.

use std::collections::BTreeMap;

use crate::bed::Bed;
use crate::plan::Fault;

/// The daemons that keep the VIP, one a member.
pub trait Daemons {
    /// Waits until all is in order; who has the VIP.
    fn ready(&mut self, bed: &Bed) -> anyhow::Result<String>;

    /// Does it to the owner. Returns at once, or when a planned move is over.
    fn inflict(&mut self, bed: &Bed, fault: Fault, owner: &str) -> anyhow::Result<()>;

    /// Brings the old owner's daemon back; HAProxy and network are mended already.
    fn bring_back(&mut self, bed: &Bed, fault: Fault, owner: &str) -> anyhow::Result<()>;

    /// The processes of one member.
    fn pids(&self, bed: &Bed, member: &str) -> anyhow::Result<Vec<i32>>;

    /// Where the time of this move went, by the daemons' own account; empty if that was not the last one.
    fn phases_ms(&self, bed: &Bed, from: &str, to: &str) -> anyhow::Result<BTreeMap<String, f64>>;

    /// How often something had to be put right by hand before the next run.
    fn mended(&self) -> usize;
}
