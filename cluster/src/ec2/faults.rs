//! What shall go wrong: rules set at run time, each with a count of how often it was applied, so that a test can
//! see that its fault really happened.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::calls::Call;

/// Nobody needs more rules at once; the list must not grow over a long run.
const MOST_RULES: usize = 64;

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Effect {
    /// Takes effect after half of it, answers after all of it, as a round trip.
    Delay {
        /// The whole, in milliseconds.
        ms: u64,
    },
    /// RequestLimitExceeded.
    Throttle,
    /// This code.
    Error {
        /// EC2's error code.
        code: String,
    },
    /// Neither effect nor answer.
    Hang,
    /// No answer, and the effect comes later.
    Late {
        /// After so many milliseconds.
        ms: u64,
    },
    /// The effect comes at once, the answer never.
    Lost,
    /// UnauthorizedOperation.
    Deny,
    /// Takes effect; what comes back is no answer.
    Garbage {
        /// What comes back.
        what: Garbage,
    },
    /// Describe calls show the state of so long ago.
    ReadLag {
        /// In milliseconds.
        ms: u64,
    },
}

/// Answers that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Garbage {
    /// A proxy's error page, status 200.
    Html,
    /// XML that breaks off.
    Malformed,
    /// 256 MiB of XML.
    Huge,
    /// Nothing, status 200.
    Empty,
    /// Random bytes.
    Bytes,
}

impl Effect {
    fn name(&self) -> String {
        match self {
            Self::Delay { ms } => format!("delay {ms}"),
            Self::Throttle => "throttle".into(),
            Self::Error { code } => format!("error {code}"),
            Self::Hang => "hang".into(),
            Self::Late { ms } => format!("late {ms}"),
            Self::Lost => "lost".into(),
            Self::Deny => "deny".into(),
            Self::Garbage { .. } => "garbage".into(),
            Self::ReadLag { ms } => format!("read-lag {ms}"),
        }
    }

    /// Whether a DryRun is hit too where the rule does not say: it cannot be late or lost, but asks for permission
    /// and costs a call.
    fn hits_dry_runs(&self) -> bool {
        matches!(self, Self::Delay { .. } | Self::Throttle | Self::Deny)
    }
}

/// An effect and the calls that it is for; absent: any.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// What happens.
    #[serde(flatten)]
    pub effect: Effect,
    /// Only this action.
    pub action: Option<String>,
    /// Only this route table.
    pub table: Option<String>,
    /// Only this member's calls.
    pub member: Option<String>,
    /// Only so many times.
    pub times: Option<u64>,
    /// DryRuns too, or not; absent: as fits the effect.
    pub dry_run: Option<bool>,
    /// How often it was applied.
    #[serde(default)]
    pub hits: u64,
}

impl Rule {
    /// For every call.
    pub fn always(effect: Effect) -> Self {
        Self { effect, action: None, table: None, member: None, times: None, dry_run: None, hits: 0 }
    }

    fn fits(&self, call: &Call) -> bool {
        let is = |wanted: &Option<String>, have: Option<&str>| match wanted {
            Some(wanted) => have == Some(wanted),
            None => true,
        };
        let reads = call.action.starts_with("Describe");
        let kind_fits = match self.effect {
            Effect::ReadLag { .. } => reads,
            Effect::Late { .. } | Effect::Lost => self.action.is_some() || !reads,
            _ => true,
        };
        kind_fits
            && self.times.is_none_or(|times| self.hits < times)
            && is(&self.action, Some(&call.action))
            && is(&self.table, call.table.as_deref())
            && is(&self.member, call.member.as_deref())
            && (!call.dry_run || self.dry_run.unwrap_or(self.effect.hits_dry_runs()))
    }
}

/// What the rules say about one call: all delays together, and the first of everything else.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Delays, added up.
    pub delay_ms: u64,
    /// Read lag, the longest.
    pub read_lag_ms: u64,
    /// The first other effect that fits.
    pub effect: Option<Effect>,
    /// All that were applied, for the log.
    pub names: Vec<String>,
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    budget: Option<BTreeMap<String, Bucket>>,
}

/// EC2's token bucket for one action (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html).
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at_ns: u64,
}

/// What `faults` prints.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    rules: &'a [Rule],
    budget: bool,
}

impl Faults {
    /// Adds a rule; they are tried in the order in which they came.
    pub fn add(&mut self, rule: Rule) -> Result<(), &'static str> {
        if self.rules.len() >= MOST_RULES {
            return Err("64 faults are in force; clear some (vip-lab ec2 clear)");
        }
        self.rules.push(rule);
        Ok(())
    }

    /// Takes back the rules with this effect's name (`throttle`, `delay`); all, and the budget, where absent.
    pub fn clear(&mut self, kind: Option<&str>) {
        match kind {
            Some(kind) => self.rules.retain(|rule| rule.effect.name().split(' ').next() != Some(kind)),
            None => *self = Self::default(),
        }
    }

    /// EC2's own budget: 50 changes at once and 5 a second, 100 reads and 20, for each action.
    pub fn set_budget(&mut self, on: bool) {
        self.budget = on.then(BTreeMap::new);
    }

    /// The rules with their hits.
    pub fn view(&self) -> View<'_> {
        View { rules: &self.rules, budget: self.budget.is_some() }
    }

    /// Applies the rules to a call that came at `now_ns`.
    pub fn judge(&mut self, call: &Call, now_ns: u64) -> Verdict {
        let mut verdict = Verdict::default();
        for rule in &mut self.rules {
            if !rule.fits(call) {
                continue;
            }
            match &rule.effect {
                Effect::Delay { ms } => verdict.delay_ms += ms,
                Effect::ReadLag { ms } => verdict.read_lag_ms = verdict.read_lag_ms.max(*ms),
                effect if verdict.effect.is_none() => verdict.effect = Some(effect.clone()),
                _ => continue,
            }
            rule.hits += 1;
            verdict.names.push(rule.effect.name());
        }
        if !self.afford(&call.action, now_ns) && verdict.effect.is_none() {
            verdict.effect = Some(Effect::Throttle);
            verdict.names.push("budget".into());
        }
        verdict
    }

    fn afford(&mut self, action: &str, now_ns: u64) -> bool {
        let Some(buckets) = &mut self.budget else { return true };
        let (burst, per_second) = if action.starts_with("Describe") { (100.0, 20.0) } else { (50.0, 5.0) };
        let bucket = buckets.entry(action.into()).or_insert(Bucket { tokens: burst, at_ns: now_ns });
        let seconds = std::time::Duration::from_nanos(now_ns.saturating_sub(bucket.at_ns)).as_secs_f64();
        bucket.tokens = (bucket.tokens + seconds * per_second).min(burst);
        bucket.at_ns = now_ns;
        let enough = bucket.tokens >= 1.0;
        if enough {
            bucket.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(action: &str, table: &str) -> Call {
        Call {
            action: action.into(),
            table: Some(table.into()),
            member: Some("az-a".into()),
            ..Call::default()
        }
    }

    #[test]
    fn an_error_for_the_next_two_calls() {
        let mut faults = Faults::default();
        let effect = Effect::Error { code: "InternalError".into() };
        let rule =
            Rule { action: Some("ReplaceRoute".into()), times: Some(2), ..Rule::always(effect.clone()) };
        faults.add(rule).unwrap();
        let dry = Call { dry_run: true, ..call("ReplaceRoute", "rtb-0a") };
        assert_eq!(faults.judge(&dry, 0), Verdict::default());
        assert_eq!(faults.judge(&call("CreateRoute", "rtb-0a"), 0), Verdict::default());
        for _ in 0..2 {
            assert_eq!(faults.judge(&call("ReplaceRoute", "rtb-0a"), 0).effect, Some(effect.clone()));
        }
        assert_eq!(faults.judge(&call("ReplaceRoute", "rtb-0a"), 0).effect, None);
        assert_eq!(faults.view().rules[0].hits, 2);
    }

    #[test]
    fn delays_add_up_and_a_rule_can_be_for_one_table() {
        let mut faults = Faults::default();
        faults.add(Rule::always(Effect::Delay { ms: 30 })).unwrap();
        faults.add(Rule { table: Some("rtb-0b".into()), ..Rule::always(Effect::Delay { ms: 12 }) }).unwrap();
        faults.add(Rule { member: Some("az-b".into()), ..Rule::always(Effect::Hang) }).unwrap();
        assert_eq!(faults.judge(&call("ReplaceRoute", "rtb-0a"), 0).delay_ms, 30);
        let both = faults.judge(&call("ReplaceRoute", "rtb-0b"), 0);
        assert_eq!((both.delay_ms, both.effect), (42, None));
        faults.clear(Some("delay"));
        assert_eq!(faults.judge(&call("ReplaceRoute", "rtb-0b"), 0), Verdict::default());
    }

    #[test]
    fn a_late_write_leaves_reads_alone() {
        let mut faults = Faults::default();
        faults.add(Rule::always(Effect::Late { ms: 5 })).unwrap();
        faults.add(Rule::always(Effect::ReadLag { ms: 700 })).unwrap();
        let read = faults.judge(&call("DescribeRouteTables", "rtb-0a"), 0);
        assert_eq!((read.read_lag_ms, read.effect), (700, None));
        let write = faults.judge(&call("ReplaceRoute", "rtb-0a"), 0);
        assert_eq!((write.read_lag_ms, write.effect), (0, Some(Effect::Late { ms: 5 })));
    }

    #[test]
    fn the_budget_is_fifty_and_then_five_a_second() {
        let mut faults = Faults::default();
        faults.set_budget(true);
        let mut passed = |at_ns| {
            (0..60).filter(|_| faults.judge(&call("ReplaceRoute", "rtb-0a"), at_ns).effect.is_none()).count()
        };
        assert_eq!(passed(0), 50);
        assert_eq!(passed(2_000_000_000), 10);
        assert_eq!(faults.judge(&call("CreateRoute", "rtb-0a"), 2_000_000_000).effect, None);
    }
}
