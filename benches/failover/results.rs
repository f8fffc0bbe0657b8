//! All that was measured, as it is written to `failover.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use vip_lab::load::Spread;

use crate::idle::Idle;
use crate::machine::Machine;
use crate::plan::{Fault, Group, LANES, MANY_TABLES, System, TABLES};
use crate::run::Run;

/// One form of the benchmark, whole.
#[derive(Debug, Serialize)]
pub struct Results {
    pub form: &'static str,
    pub at: String,
    /// What `--only` said.
    pub only: Option<String>,
    pub took_s: u64,
    /// Of the processors' time meanwhile, in hundredths: what other machines on the same hardware took.
    pub stolen_percent: f64,
    /// Planned of each case.
    pub runs: usize,
    pub machine: Machine,
    pub cases: Vec<Case>,
    pub idle: Vec<Idle>,
    /// Labs that did not come up or were given up, and why.
    pub errors: Vec<String>,
}

/// The runs of one fault under one setting.
#[derive(Debug, Serialize)]
pub struct Case {
    pub system: &'static str,
    pub setting: &'static str,
    pub ec2_delay_ms: u64,
    pub tables: usize,
    pub fault: Fault,
    pub planned: usize,
    pub outage_ms: Option<Spread>,
    pub failed: Option<Spread>,
    pub all_tables_ms: Option<Spread>,
    pub phases_ms: BTreeMap<String, Spread>,
    pub open_broken: usize,
    pub runs: Vec<Run>,
    /// Runs that came to no end, or whose lab did not come to order, and why.
    pub errors: Vec<String>,
    /// How often the system had to be put in order by hand after such a fault.
    pub mended: usize,
    #[serde(skip)]
    kept_by: System,
    #[serde(skip)]
    lab: String,
}

impl Case {
    pub fn new(group: &Group, fault: Fault, planned: usize) -> Self {
        Self {
            system: group.system.name(),
            setting: group.system.setting(),
            ec2_delay_ms: group.ec2_delay_ms,
            tables: group.tables,
            fault,
            planned,
            outage_ms: None,
            failed: None,
            all_tables_ms: None,
            phases_ms: BTreeMap::new(),
            open_broken: 0,
            runs: Vec::new(),
            errors: Vec::new(),
            mended: 0,
            kept_by: group.system,
            lab: group.to_string(),
        }
    }

    /// Computes what is said of all runs so far.
    pub fn sum_up(&mut self) {
        let runs = &self.runs;
        self.outage_ms = Spread::of(runs.iter().map(|run| run.outage_ms));
        self.failed =
            Spread::of(runs.iter().map(|run| f64::from(u32::try_from(run.failed).unwrap_or(u32::MAX))));
        let last_table = |run: &Run| if run.to.is_some() { run.all_tables_ms } else { Some(f64::INFINITY) };
        self.all_tables_ms = Spread::of(runs.iter().filter_map(last_table));
        self.mended = runs.iter().filter(|run| run.mended).count();
        self.open_broken = runs.iter().map(|run| run.open_broken).sum();
        for phase in PHASES {
            let spread = Spread::of(runs.iter().filter_map(|run| run.phases_ms.get(phase).copied()));
            self.phases_ms.extend(spread.map(|s| (phase.to_owned(), s)));
        }
    }

    /// In words: under which setting, and which fault.
    pub fn name(&self) -> String {
        format!("{}: {}", self.lab, self.fault.label())
    }

    /// Two round trips to EC2, for many tables and where a round trip is something to count in.
    pub fn route_goal_ms(&self) -> Option<u64> {
        let counts =
            matches!(self.kept_by, System::Vipd(_)) && self.tables >= MANY_TABLES && self.ec2_delay_ms > 0;
        counts.then_some(2 * self.ec2_delay_ms)
    }

    /// The goals are for an EC2 that adds no delay.
    pub fn goal_ms(&self) -> Option<f64> {
        self.fault.goal_ms(self.kept_by).filter(|_| self.ec2_delay_ms == 0)
    }
}

/// In the order in which they come.
pub const PHASES: [&str; 6] = ["detect", "elect", "claim", "address", "route", "verify"];

impl Results {
    pub fn new(form: &'static str, only: Option<String>, at: String, runs: usize, machine: Machine) -> Self {
        Self {
            form,
            at,
            only,
            took_s: 0,
            stolen_percent: 0.0,
            runs,
            machine,
            cases: Vec::new(),
            idle: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// `failover.json`.
    pub fn write(&self, out: &Path) -> anyhow::Result<()> {
        replace(&out.join("failover.json"), &serde_json::to_vec_pretty(self)?)
    }

    /// The runs of this system and fault with no delay and three tables.
    pub fn base(&self, system: System, fault: Fault) -> Option<&Case> {
        self.cases
            .iter()
            .find(|c| c.kept_by == system && c.fault == fault && (c.ec2_delay_ms, c.tables) == (0, TABLES))
    }

    /// Everything that is varied.
    pub fn varied(&self) -> impl Iterator<Item = &Case> {
        self.cases
            .iter()
            .filter(|c| !(LANES.contains(&c.kept_by) && (c.ec2_delay_ms, c.tables) == (0, TABLES)))
    }
}

/// Whatever breaks it off, the file is the old one or the new one, whole.
pub fn replace(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, text)?;
    Ok(std::fs::rename(&part, path)?)
}
