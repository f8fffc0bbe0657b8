//! Whether the members' files agree where they have to (FAULTS 62): by what each reports of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::brief;
use crate::proto;

/// So many values of one setting are named: they show what is the matter, and a member may list a thousand.
const NAMED_MAX: usize = 8;

/// What has to be alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    Vips,
    Tables,
    Timings,
    Policy,
}

/// One value that not every member has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    pub what: Setting,
    value: String,
    with: Vec<String>,
    without: Vec<String>,
    /// Further values of that setting, which are not named.
    more: usize,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (with, without) = (self.with.join(", "), self.without.join(", "));
        match self.what {
            Setting::Vips => write!(f, "{} is in vip.addresses of {with}, not of {without}", self.value),
            Setting::Tables => write!(f, "{} is in [aws] of {with}, not of {without}", self.value),
            Setting::Timings => write!(f, "the members' timings differ: {} on {with}", self.value),
            Setting::Policy => write!(f, "the members' [policy] differs: {} on {with}", self.value),
        }?;
        if self.more > 0 { write!(f, "; {} more differ", self.more) } else { Ok(()) }
    }
}

/// The differences between those members that have reported.
pub fn differences(members: &[proto::Member]) -> Vec<Difference> {
    let reported: Vec<_> = members.iter().filter(|m| !m.configured_vips.is_empty()).collect();
    let timings = |m: &proto::Member| vec![m.timings.clone()];
    let mut all = of(Setting::Vips, &reported, |m| m.configured_vips.clone());
    all.extend(of(Setting::Tables, &reported, |m| m.configured_tables.clone()));
    all.extend(of(Setting::Timings, &reported, timings));
    // One of an earlier version does not say.
    let said: Vec<_> = reported.into_iter().filter(|m| m.min_hold_s.is_some()).collect();
    all.extend(of(Setting::Policy, &said, |m| policy(m).collect()));
    all
}

/// Key by key, so that only what differs is named.
fn policy(m: &proto::Member) -> impl Iterator<Item = String> {
    let failback = m.failback.map(|on| format!("failback = {on}"));
    let min_hold = m.min_hold_s.map(|s| format!("min_hold_s = {s}"));
    let loss = Some(format!("on_quorum_loss = \"{}\"", m.on_quorum_loss));
    [failback, min_hold, loss].into_iter().flatten()
}

fn of(
    what: Setting,
    members: &[&proto::Member],
    values: impl Fn(&proto::Member) -> Vec<String>,
) -> Vec<Difference> {
    let mut by_value: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for member in members {
        for value in values(member) {
            by_value.entry(value).or_default().insert(&member.name);
        }
    }
    let names = |has: &BTreeSet<&str>, wanted: bool| {
        let fits = members.iter().filter(|m| has.contains(m.name.as_str()) == wanted);
        fits.map(|m| m.name.clone()).collect::<Vec<_>>()
    };
    by_value.retain(|_, has| has.len() < members.len());
    let more = by_value.len().saturating_sub(NAMED_MAX);
    let named = by_value.iter().take(NAMED_MAX);
    let mut all: Vec<_> = named
        .map(|(value, has)| Difference {
            what,
            value: brief(value),
            with: names(has, true),
            without: names(has, false),
            more: 0,
        })
        .collect();
    if let Some(last) = all.last_mut() {
        last.more = more;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, vips: &[&str], tables: &[&str], timings: &str) -> proto::Member {
        let list = |of: &[&str]| of.iter().map(|s| (*s).to_owned()).collect();
        proto::Member {
            name: name.into(),
            configured_vips: list(vips),
            configured_tables: list(tables),
            timings: timings.into(),
            ..proto::Member::default()
        }
    }

    #[test]
    fn fault_62_members_whose_policy_differs_are_named_key_by_key() {
        let with = |name: &str, failback, min_hold_s| proto::Member {
            failback,
            min_hold_s,
            on_quorum_loss: "hold".into(),
            ..member(name, &["v"], &["t"], "fast")
        };
        let said =
            |of: [proto::Member; 3]| differences(&of).iter().map(ToString::to_string).collect::<Vec<_>>();
        let like = |name| with(name, Some(false), Some(10));
        // The third runs a version that does not say.
        assert_eq!(said([like("az-a"), like("az-b"), member("az-c", &["v"], &["t"], "fast")]), [""; 0]);
        assert_eq!(
            said([like("az-a"), like("az-b"), with("az-c", Some(true), Some(10))]),
            [
                "the members' [policy] differs: failback = false on az-a, az-b",
                "the members' [policy] differs: failback = true on az-c",
            ]
        );
        let released =
            proto::Member { on_quorum_loss: "release".into(), ..with("az-c", Some(false), Some(0)) };
        let words = said([like("az-a"), like("az-b"), released]);
        assert_eq!(words.len(), 4, "{words:?}");
        assert!(words[2].ends_with("on_quorum_loss = \"hold\" on az-a, az-b"), "{words:?}");
    }

    #[test]
    fn fault_66_of_a_thousand_differences_a_few_are_named_and_the_rest_counted() {
        let many: Vec<String> = (0..1000).map(|i| format!("t{i:03}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let long = "x".repeat(16_000);
        let differ = [member("az-a", &["v"], &[], &long), member("az-b", &["v"], &many, "fast")];
        let words: Vec<_> = differences(&differ).iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), NAMED_MAX + 2, "{words:#?}");
        assert_eq!(words[0], "t000 is in [aws] of az-b, not of az-a");
        assert_eq!(words[NAMED_MAX - 1], "t007 is in [aws] of az-b, not of az-a; 992 more differ");
        assert!(words.iter().all(|w| w.len() < 500), "{words:#?}");
    }

    #[test]
    fn fault_62_members_whose_vips_tables_or_timings_differ_are_named() {
        let alike =
            [member("az-a", &["v"], &["t", "u"], "fast"), member("az-b", &["v"], &["u", "t"], "fast")];
        assert_eq!(differences(&alike), []);
        let differ = [
            member("az-a", &["v", "w"], &["t"], "fast"),
            member("az-b", &["v"], &["t", "u"], "fast"),
            member("az-c", &["v"], &["t", "u"], "slow"),
            // It has not reported yet.
            member("az-d", &[], &[], ""),
        ];
        let words: Vec<_> = differences(&differ).iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "w is in vip.addresses of az-a, not of az-b, az-c",
                "u is in [aws] of az-b, az-c, not of az-a",
                "the members' timings differ: fast on az-a, az-b",
                "the members' timings differ: slow on az-c",
            ]
        );
    }
}
