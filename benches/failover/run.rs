//! One run: what the client saw of one fault.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;
use vip_lab::clock::boot_ns;
use vip_lab::load::{Failure, Report, Sample};

use crate::bed::{Bed, Client, PATIENCE};
use crate::daemons::Daemons;
use crate::plan::Fault;

/// Before each fault. Longer than a quarantine; a member that has just come back has its connections to EC2 open by
/// then.
const REST: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub from: String,
    /// `None`: nobody had the VIP and served the client within the bed's patience. Such a run is endless.
    pub to: Option<String>,
    /// How long new connections failed: from the first that did to the next that was answered; where that came more
    /// than once, the sum. Infinite if endless (JSON: null).
    pub outage_ms: f64,
    /// The longest time between the starts of two answered requests, one after the other.
    pub longest_gap_ms: f64,
    /// The answered request that took longest.
    pub slowest_ok_ms: f64,
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
    /// Of another client's requests, from before the fault was taken back until all was in order.
    pub failed_on_return: Option<usize>,
    /// The daemons did not come to an order by themselves afterwards, and were started anew.
    pub mended: bool,
}

impl Run {
    /// Makes the fault, and waits until it is over. What fails leaves a lab that is not to be used on.
    pub fn measure(bed: &Bed, daemons: &mut dyn Daemons, fault: Fault) -> anyhow::Result<Self> {
        let from = daemons.ready(bed)?;
        std::thread::sleep(REST);
        let client = Client::start(bed, &from)?;
        let since_ns = boot_ns();
        daemons.inflict(bed, fault, &from)?;
        let to = bed.wait_moved(&client, &from)?;
        let load = client.load.clone();
        let samples = client.end()?;
        let swaps = match &to {
            Some(to) => bed.swaps(to, since_ns)?,
            None => None,
        };
        // Opened before its route moved, or it was the new owner that broke it.
        let stood = |sample: &Sample| swaps.as_ref().is_some_and(|s| sample.start_ns < s.client_ns);
        let (open, counted): (Vec<Sample>, Vec<Sample>) =
            samples.into_iter().partition(|sample| sample.broke_and_recovered() && stood(sample));
        let report = Report::new(&load, &counted);
        let outage_ms = report.outages.iter().fold(0.0, |sum, outage| sum + outage.ms);
        Ok(Self {
            from,
            outage_ms: if to.is_some() { outage_ms } else { f64::INFINITY },
            to,
            longest_gap_ms: report.longest_gap_ms,
            slowest_ok_ms: report.slowest_ok_ms,
            failed: report.failed,
            failed_by_kind: report.failed_by_kind.iter().map(|(kind, n)| (label(*kind), *n)).collect(),
            open_broken: open.len(),
            requests: counted.len() + open.len(),
            all_tables_ms: swaps.map(|s| ms(s.last_ns.saturating_sub(since_ns))),
            phases_ms: BTreeMap::new(),
            failed_on_return: None,
            mended: false,
        })
    }

    /// Takes the fault back and waits until all is in order, before the next one, so that what this one left behind
    /// is counted here.
    pub fn put_in_order(&mut self, bed: &Bed, daemons: &mut dyn Daemons, fault: Fault) -> anyhow::Result<()> {
        let Some(to) = &self.to else {
            bail!("nobody had the VIP and served the client within {} s", PATIENCE.as_secs());
        };
        let mended = daemons.mended();
        // Another one: the last requests of the first are over by now, so that none is answered by who comes back.
        let client = Client::start(bed, to)?;
        match fault {
            // A daemon that is cut off has to be ended before it can speak again.
            Fault::ZoneCut => {
                daemons.bring_back(bed, fault, &self.from)?;
                bed.mend(&self.from, fault)?;
            }
            _ => {
                bed.mend(&self.from, fault)?;
                daemons.bring_back(bed, fault, &self.from)?;
            }
        }
        daemons.ready(bed)?;
        self.mended = daemons.mended() > mended;
        self.failed_on_return = Some(client.end()?.iter().filter(|sample| sample.result.is_err()).count());
        self.phases_ms = daemons.phases_ms(bed, &self.from, to)?;
        Ok(())
    }
}

fn label(kind: Failure) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

pub fn ms(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64() * 1_000.0
}
