//! All that was measured, as it is written to `failover.json`.

use std::collections::BTreeMap;

use serde::Serialize;
use vip_lab::load::Spread;

use crate::idle::Idle;
use crate::machine::Machine;
use crate::plan::{Fault, Group, Profile, System, TABLES, Tuning};
use crate::run::Run;

/// One form of the benchmark, whole.
#[derive(Debug, Serialize)]
pub struct Results {
    pub form: &'static str,
    pub at: String,
    pub took_s: u64,
    pub machine: Machine,
    pub cases: Vec<Case>,
    pub idle: Vec<Idle>,
    /// Labs that were given up, and why.
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
    pub outage_ms: Option<Spread>,
    pub failed: Option<Spread>,
    pub all_tables_ms: Option<Spread>,
    /// Medians.
    pub phases_ms: BTreeMap<String, f64>,
    pub open_broken: usize,
    pub runs: Vec<Run>,
    /// Runs that came to no end, and why.
    pub errors: Vec<String>,
    /// How often the system had to be put in order by hand after such a fault.
    pub mended: usize,
    #[serde(skip)]
    kept_by: System,
}

impl Case {
    pub fn new(group: &Group, fault: Fault) -> Self {
        Self {
            system: group.system.name(),
            setting: group.system.setting(),
            ec2_delay_ms: group.ec2_delay_ms,
            tables: group.tables,
            fault,
            outage_ms: None,
            failed: None,
            all_tables_ms: None,
            phases_ms: BTreeMap::new(),
            open_broken: 0,
            runs: Vec::new(),
            errors: Vec::new(),
            mended: 0,
            kept_by: group.system,
        }
    }

    /// Computes what is said of all runs.
    pub fn close(&mut self) {
        let runs = &self.runs;
        self.outage_ms = Spread::of(runs.iter().map(|run| run.outage_ms));
        self.failed =
            Spread::of(runs.iter().map(|run| f64::from(u32::try_from(run.failed).unwrap_or(u32::MAX))));
        self.all_tables_ms = Spread::of(runs.iter().filter_map(|run| run.all_tables_ms));
        self.mended = runs.iter().filter(|run| run.mended).count();
        self.open_broken = runs.iter().map(|run| run.open_broken).sum();
        for phase in PHASES {
            let spread = Spread::of(runs.iter().filter_map(|run| run.phases_ms.get(phase).copied()));
            self.phases_ms.extend(spread.map(|s| (phase.to_owned(), s.median)));
        }
    }
}

/// In the order in which they come.
pub const PHASES: [&str; 6] = ["detect", "elect", "claim", "address", "route", "verify"];

/// The three that stand beside each other.
pub const LANES: [System; 3] =
    [System::Vipd(Profile::Balanced), System::Keepalived(Tuning::Tuned), System::Keepalived(Tuning::Default)];

impl Results {
    pub fn new(form: &'static str, at: String, machine: Machine) -> Self {
        Self { form, at, took_s: 0, machine, cases: Vec::new(), idle: Vec::new(), errors: Vec::new() }
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
