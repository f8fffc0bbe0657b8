//! One run: what the client saw of one fault.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use vip_lab::clock::boot_ns;
use vip_lab::load::{Failure, Report, Sample};

use crate::bed::{Bed, Client};
use crate::daemons::Daemons;
use crate::plan::Fault;

/// Before each fault. Longer than a quarantine; a member that has just come back has its connections to EC2 open by
/// then.
const REST: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub from: String,
    pub to: String,
    /// How long new connections failed: from the first that did to the next that was answered; where that came more
    /// than once, the sum.
    pub outage_ms: f64,
    /// Those that failed, without the ones in `open_broken`.
    pub failed: usize,
    pub failed_by_kind: BTreeMap<String, usize>,
    /// Connections that stood when the VIP moved, were reset at once, and whose immediate second try was answered.
    pub open_broken: usize,
    pub requests: usize,
    /// From the fault until the last route table named the new owner.
    pub all_tables_ms: Option<f64>,
    /// The daemons' own account.
    pub phases_ms: BTreeMap<String, f64>,
    /// The daemons did not come to an order by themselves afterwards, and were started anew.
    pub mended: bool,
}

impl Run {
    /// Makes the fault, waits until it is over, takes it back. Whatever fails leaves a lab that is not to be used on.
    pub fn make(bed: &Bed, daemons: &mut dyn Daemons, fault: Fault) -> anyhow::Result<Self> {
        let from = daemons.ready(bed)?;
        std::thread::sleep(REST);
        let mended = daemons.mended();
        let client = Client::start(bed, &from)?;
        let since_ns = boot_ns();
        daemons.inflict(bed, fault, &from)?;
        let to = bed.wait_moved(&client, &from)?;
        let load = client.load.clone();
        let samples = client.end()?;
        let swapped_ns = bed.swapped_at_ns(&to, since_ns)?;
        match fault {
            // A daemon that is cut off has to be ended before it can speak again.
            Fault::ZoneCut => {
                daemons.bring_back(bed, fault, &from)?;
                bed.mend(&from, fault)?;
            }
            _ => {
                bed.mend(&from, fault)?;
                daemons.bring_back(bed, fault, &from)?;
            }
        }
        // Before the next fault, so that what this one left behind is counted here.
        daemons.ready(bed)?;
        let phases_ms = daemons.phases_ms(bed)?;
        let (open, counted): (Vec<Sample>, Vec<Sample>) =
            samples.into_iter().partition(Sample::broke_and_recovered);
        let report = Report::new(&load, &counted);
        Ok(Self {
            from,
            to,
            outage_ms: report.outages.iter().fold(0.0, |sum, outage| sum + outage.ms),
            failed: report.failed,
            failed_by_kind: report.failed_by_kind.iter().map(|(kind, n)| (label(*kind), *n)).collect(),
            open_broken: open.len(),
            requests: counted.len() + open.len(),
            all_tables_ms: swapped_ns.map(|at| ms(at.saturating_sub(since_ns))),
            phases_ms,
            mended: daemons.mended() > mended,
        })
    }
}

fn label(kind: Failure) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

pub fn ms(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64() * 1_000.0
}
