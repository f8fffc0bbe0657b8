//! A client that opens a connection every 5 ms, and what it saw.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::lab::{BOUND, Lab, VIP, holds, measured, until};

pub struct Load {
    child: Child,
    out: PathBuf,
    vip: String,
}

/// `vip-lab load --out`, as far as the tests ask.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// What it asked.
    pub vip: SocketAddr,
    pub ok: usize,
    pub failed: usize,
    pub failed_by_kind: BTreeMap<String, usize>,
    pub outage_ms: f64,
    pub longest_gap_ms: f64,
    pub owners: Vec<Owner>,
    pub failures: Vec<Failed>,
}

#[derive(Debug, Deserialize)]
pub struct Owner {
    pub member: String,
}

#[derive(Debug, Deserialize)]
pub struct Failed {
    pub start_boot_ns: u64,
    pub end_boot_ns: u64,
    pub kind: String,
    pub retry_ok: Option<bool>,
}

impl Lab {
    /// Returns once the VIP has answered, by its owner.
    pub fn load(&self, owner: &str) -> Load {
        self.load_at(VIP, owner)
    }

    /// Of a lab whose first VIP is that.
    pub fn load_at(&self, vip: &str, owner: &str) -> Load {
        let out = self.dir.join("load.json");
        let on = self.dir.join("load.json.on");
        let _ = std::fs::remove_file(&on);
        // Three times the longest, a hundred transfers: the test ends it.
        let mut command = self.command(&["load", "--seconds", "300", "--out"]);
        let child = command.arg(&out).stdout(Stdio::null()).spawn().unwrap();
        let load = Load { child, out, vip: vip.to_owned() };
        until("the client's first answer", BOUND, || holds(on.exists(), || "none".into()));
        self.client_sees(vip, owner);
        load
    }

    /// As long as some dozen requests of the load's.
    fn client_sees(&self, vip: &str, owner: &str) {
        (0..50).for_each(|_| self.client_reaches_at(vip, owner));
    }
}

impl Load {
    /// What the client saw until now, some answers of the new owner among it.
    pub fn end(mut self, lab: &Lab, owner: &str) -> Report {
        lab.client_sees(&self.vip, owner);
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "vip-lab load: {status}");
        serde_json::from_slice(&std::fs::read(&self.out).unwrap()).unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Report {
    /// The client was without an answer, and then had one from `owner`.
    pub fn print_outage(&self, fault: &str, owner: &str) {
        let (outage, gap) = (self.outage_ms, self.longest_gap_ms);
        measured(&format!("{fault}: outage {outage:.0} ms, longest gap {gap:.0} ms ({})", self.kinds()));
        assert_eq!(self.owners.last().map(|o| o.member.as_str()), Some(owner), "{:?}", self.owners);
    }

    /// DESIGN.md section 8: each connection opened after the swap succeeds and none times out; one that was open while a
    /// swap was made may be reset, and one immediate retry succeeds.
    pub fn assert_only_what_straddled_a_swap_failed(&self, lab: &Lab, what: &str, owner: &str) {
        self.print_outage(what, owner);
        assert!(self.ok > 0);
        let swaps = self.swaps_ns(lab);
        assert!(!swaps.is_empty(), "nothing was swapped");
        for failure in &self.failures {
            let open = |swap: &RangeInclusive<u64>| {
                failure.start_boot_ns <= *swap.end() && *swap.start() <= failure.end_boot_ns
            };
            let across = failure.kind == "reset" && swaps.iter().any(open);
            assert!(
                across && failure.retry_ok == Some(true),
                "{failure:?} of {}: swaps {swaps:?}",
                self.kinds()
            );
        }
    }

    /// When EC2 moved what the client asks, in the client's own table: between the call and the moment that it notes
    /// when it has done it, which is after the route's effect.
    fn swaps_ns(&self, lab: &Lab) -> Vec<RangeInclusive<u64>> {
        let vip = format!("{}/", self.vip.ip());
        let is_of = |c: &crate::calls::Call| {
            c.table.as_deref() == Some("rtb-0a")
                && c.destination.as_ref().is_some_and(|d| d.starts_with(&vip))
        };
        let swaps = lab.swaps().into_iter().filter(is_of);
        swaps.filter_map(|c| Some(c.received_boot_ns..=c.executed_boot_ns?)).collect()
    }

    fn kinds(&self) -> String {
        let all: Vec<_> = self.failed_by_kind.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        format!("{} failed of {}: {}", self.failed, self.ok + self.failed, all.join(", "))
    }
}
