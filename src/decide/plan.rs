//! Desired and observed: which routes are wrong, and by which call each is put right.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::route::{Sight, Swap, Verb};
use crate::model::{EniId, Observed, RouteKey, Time, Vip};
use crate::mutant::{self, Mutant};

/// What to do about one route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fix {
    /// It is right.
    None,
    /// One call puts it right.
    Swap(Swap),
    /// It is missing and may not be created.
    Missing,
}

/// Every VIP in every table of `sight`, in the tables' order, and what to do so that it points at
/// `eni`. A listed table that is not there has no entry: nothing can be done about it.
pub fn plan(sight: &Sight, vips: &[Vip], eni: &EniId, create: bool) -> Vec<(RouteKey, Fix)> {
    let mut fixes = Vec::new();
    for table in &sight.tables {
        for vip in vips {
            let key = RouteKey { table: table.clone(), vip: *vip };
            let swap = |verb| Fix::Swap(Swap { route: key.clone(), eni: eni.clone(), verb });
            let fix = match sight.routes.get(&key) {
                Some(Observed::Active(Some(target))) if target == eni => Fix::None,
                Some(Observed::Active(_) | Observed::Blackhole(_)) => swap(Verb::Replace),
                Some(Observed::Missing) | None if create => swap(Verb::Create),
                Some(Observed::Missing) | None => Fix::Missing,
            };
            fixes.push((key, fix));
        }
    }
    fixes
}

/// Whether every route of `fixes` is right, and no listed table is absent. Where no table was found
/// nothing is right.
pub fn in_sync(fixes: &[(RouteKey, Fix)], sight: &Sight) -> bool {
    sight.absent.is_empty() && !fixes.is_empty() && fixes.iter().all(|(_, fix)| *fix == Fix::None)
}

/// At most one rewrite of a route a second, doubling to ten: reads may lag writes, and somebody else
/// may keep changing it (DESIGN.md section 5, budget).
#[derive(Debug, Default)]
pub struct Pace(BTreeMap<RouteKey, Step>);

#[derive(Debug)]
struct Step {
    not_before: Time,
    wait: Duration,
    last: Time,
}

impl Pace {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(10);
    /// A route that was left alone so long starts anew.
    const FORGET: Duration = Duration::from_secs(60);

    /// Whether `route` may be written at `now`.
    pub fn allows(&self, route: &RouteKey, now: Time) -> bool {
        self.0.get(route).is_none_or(|s| now >= s.not_before) || mutant::on(Mutant::Pace)
    }

    /// EC2 wants fewer calls: `route` waits up to half as long again, each by itself, so that what was throttled
    /// together does not come back together.
    pub fn throttled(&mut self, route: &RouteKey) {
        if let Some(step) = self.0.get_mut(route) {
            let of = |sum: u32, byte: u8| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            let spread = route.table.as_str().bytes().fold(0x811c_9dc5, of) % 64;
            step.not_before = step.not_before + step.wait * spread / 128;
        }
    }

    /// `route` is being written at `now`.
    pub fn wrote(&mut self, route: &RouteKey, now: Time) {
        let wait = match self.0.get(route) {
            Some(s) if now.since(s.last) < Self::FORGET => (s.wait * 2).min(Self::LONGEST),
            Some(_) | None => Self::FIRST,
        };
        self.0.insert(route.clone(), Step { not_before: now + wait, wait, last: now });
    }
}

/// How often somebody else changed each route (FAULTS 43).
#[derive(Debug, Default)]
pub struct Churn(BTreeMap<RouteKey, Changes>);

#[derive(Debug, Default)]
struct Changes {
    is_right: bool,
    /// The newest, at most [`Churn::KEPT`].
    at: VecDeque<Time>,
}

impl Churn {
    /// So often within a minute is no accident.
    pub const MANY: usize = 5;
    const WITHIN: Duration = Duration::from_secs(60);
    const KEPT: usize = 16;

    /// A look showed `route` as it should be.
    pub fn right(&mut self, route: &RouteKey) {
        self.0.entry(route.clone()).or_default().is_right = true;
    }

    /// A look showed it wrong. Whether this makes it one that somebody keeps changing.
    pub fn wrong(&mut self, route: &RouteKey, now: Time) -> bool {
        let Some(changes) = self.0.get_mut(route).filter(|c| c.is_right) else { return false };
        changes.is_right = false;
        let before = changes.within(now);
        changes.at.push_back(now);
        if changes.at.len() > Self::KEPT {
            changes.at.pop_front();
        }
        before < Self::MANY && changes.within(now) >= Self::MANY
    }

    /// Those that somebody keeps changing, and how often within the last minute.
    pub fn contended(&self, now: Time) -> BTreeMap<RouteKey, usize> {
        let counts = self.0.iter().map(|(route, changes)| (route.clone(), changes.within(now)));
        counts.filter(|(_, times)| *times >= Self::MANY).collect()
    }
}

impl Changes {
    fn within(&self, now: Time) -> usize {
        self.at.iter().filter(|at| now.since(**at) < Churn::WITHIN).count()
    }
}

/// EC2's budget for mutating calls: 50 in a burst, then 5 a second, for each account, region and
/// action (EC2 API throttling page).
#[derive(Debug)]
pub struct Budget {
    tokens: u32,
    refilled: Time,
}

impl Budget {
    const BURST: u32 = 50;
    const EVERY: Duration = Duration::from_millis(200);

    /// The whole burst.
    pub fn full(now: Time) -> Self {
        Self { tokens: Self::BURST, refilled: now }
    }

    /// Takes one call; false where none is left.
    pub fn take(&mut self, now: Time) -> bool {
        while self.tokens < Self::BURST && now.since(self.refilled) >= Self::EVERY {
            self.tokens += 1;
            self.refilled = self.refilled + Self::EVERY;
        }
        if self.tokens == Self::BURST {
            self.refilled = now;
        }
        let left = self.tokens > 0;
        self.tokens -= u32::from(left);
        left
    }
}
