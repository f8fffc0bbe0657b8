//! No packet goes round between this host and the VPC.
//!
//! Where `ip_forward` is on and the VIP absent, a packet for it that still comes in is sent back to the VPC, whose
//! route sends it here again, until its TTL ends. So `ip rule iif DEV to VIP blackhole` stands for each outside
//! interface, just behind the rule that looks the local table up:
//!
//! ```text
//!   0:  from all lookup local                        the VIP is here: taken in, whatever follows
//!   1:  from all to 192.168.77.10 iif eth0 blackhole it is not: dropped. What starts on this host has no such iif
//!   32766:  from all lookup main
//! ```
//!
//! It therefore stands always, and no step of a move depends on it (docs/decisions/0027).

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::NetError;
use super::request::{add_rule, ask, list_links, list_routes, list_rules, remove_rule};
use super::watcher::{GAP, Monitor, QUIET, RETRY, subscribe, sweep};
use crate::model::Vip;

/// Marks the rules that are vipd's, as `proto` in `ip rule`: one that a killed vipd left is adopted. Not one of those
/// that iproute2's rt_protos names.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(77);

/// RT_TABLE_LOCAL (linux/rtnetlink.h).
const LOCAL: u32 = 255;

/// What tells of an interface that came or went, and of a rule that somebody took away.
const GROUPS: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Rule, MulticastGroup::Ipv6Rule];

/// Holds the rules until it is lifted. Dropped, they stay, as after a kill.
#[derive(Debug)]
pub struct LoopGuard {
    lift: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl LoopGuard {
    /// Sets the rules for `vips` and keeps them, inside a tokio runtime; follows interfaces that come and go. Where the
    /// kernel refuses it says so and goes on trying: nothing else depends on them. `interface` has the VIPs.
    pub fn set(interface: &str, vips: Vec<Vip>) -> Self {
        let (lift, lifted) = oneshot::channel();
        let guard = Rules { interface: interface.to_owned(), vips };
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = told(lifted) => {}
                () = guard.keep() => {}
            }
            if let Err(error) = guard.take_away().await {
                warn!(%error, "a rule against loops stays behind: ip rule lists it");
            }
        });
        Self { lift, task }
    }

    /// Takes the rules away, within a second.
    pub async fn lift(self) {
        // Gone where the task has ended by itself.
        let _ = self.lift.send(());
        let _ = self.task.await;
    }
}

/// Returns when it is told; never where whoever could tell is gone.
async fn told(lifted: oneshot::Receiver<()>) {
    if lifted.await.is_err() {
        std::future::pending().await
    }
}

/// One of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rule {
    pub(super) vip: Vip,
    pub(super) interface: String,
    pub(super) priority: u32,
}

/// What `ip link` shows of an interface, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Made by software: a bridge, a veth, a tunnel. An ENI is not.
    pub(super) is_virtual: bool,
}

struct Rules {
    interface: String,
    vips: Vec<Vip>,
}

impl Rules {
    async fn keep(&self) {
        let mut said = String::new();
        let mut monitor = None;
        loop {
            let wait = match self.mend().await {
                Ok(()) => {
                    said.clear();
                    QUIET
                }
                Err(error) => {
                    let words = error.to_string();
                    if words != said {
                        warn!(error = words, "no rule keeps packets for an absent VIP from looping");
                        said = words;
                    }
                    RETRY
                }
            };
            // Nothing is lost before there is a monitor: what it will tell is looked at after it is there.
            match &mut monitor {
                None => match subscribe(&GROUPS) {
                    Ok(new) => monitor = Some(new),
                    Err(_) => tokio::time::sleep(RETRY).await,
                },
                Some(open) => {
                    if !news(open, wait).await {
                        monitor = None;
                    }
                    tokio::time::sleep(GAP).await;
                }
            }
        }
    }

    /// One reading, and what follows from it.
    async fn mend(&self) -> Result<(), NetError> {
        ask(|handle| async move {
            let links = list_links(&handle).await?;
            let gateways = gateways(&list_routes(&handle).await?);
            let outside: Vec<String> = self.outside(links, &gateways).collect();
            for family in self.families() {
                let found = list_rules(&handle, family).await?;
                let wanted = match behind_local(&found) {
                    Some(priority) => self.wanted(family, priority, &outside),
                    None => return Err(NetError::NoLocalRule),
                };
                let (add, remove) = compare(wanted, self.mine(found));
                for rule in add {
                    add_rule(&handle, &rule, PROTOCOL).await?;
                    info!(vip = %rule.vip, interface = rule.interface, "packets that come in for the absent VIP are dropped");
                }
                for message in remove {
                    remove_rule(&handle, message).await?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn take_away(&self) -> Result<(), NetError> {
        ask(|handle| async move {
            let mut outcome = Ok(());
            for family in self.families() {
                for (_, message) in self.mine(list_rules(&handle, family).await?) {
                    // All are tried: one that stays must not keep the others.
                    outcome = outcome.and(remove_rule(&handle, message).await);
                }
            }
            outcome
        })
        .await
    }

    fn families(&self) -> BTreeSet<Family> {
        self.vips.iter().map(|vip| Family::of(*vip)).collect()
    }

    /// Over which the VPC may send: real devices, and what has a gateway behind it, be it virtual. Not what connects
    /// this host's own containers: they may reach the VIP as the host itself may.
    fn outside(&self, links: Vec<Link>, gateways: &BTreeSet<u32>) -> impl Iterator<Item = String> {
        let inside = move |l: &Link| {
            let known = l.name == "lo" || l.name == self.interface;
            known || (l.is_virtual && !gateways.contains(&l.index))
        };
        links.into_iter().filter(move |l| !inside(l)).map(|l| l.name)
    }

    fn wanted(&self, family: Family, priority: u32, outside: &[String]) -> BTreeSet<Rule> {
        let vips = self.vips.iter().filter(|vip| Family::of(**vip) == family);
        let on = |vip: &Vip| {
            let vip = *vip;
            outside.iter().map(move |name| Rule { vip, interface: name.clone(), priority })
        };
        vips.flat_map(on).collect()
    }

    /// Those that this or an earlier vipd has set for one of these VIPs; another vipd on this host has others.
    fn mine(&self, found: Vec<RuleMessage>) -> Vec<(Rule, RuleMessage)> {
        found.into_iter().filter_map(|m| Some((self.of_vipd(&m)?, m))).collect()
    }

    fn of_vipd(&self, message: &RuleMessage) -> Option<Rule> {
        let (mut vip, mut interface, mut marked) = (None, String::new(), false);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Destination(ip) => vip = self.vips.iter().find(|v| v.ip() == *ip).copied(),
                RuleAttribute::Iifname(name) => interface.clone_from(name),
                RuleAttribute::Protocol(protocol) => marked = *protocol == PROTOCOL,
                _ => {}
            }
        }
        let rule = Rule { vip: vip?, interface, priority: priority(message) };
        (marked && message.header.action == RuleAction::Blackhole).then_some(rule)
    }
}

/// Waits for a message, `wait` at most; false where the monitor broke.
async fn news(monitor: &mut Monitor, wait: Duration) -> bool {
    match tokio::time::timeout(wait, monitor.next()).await {
        Ok(Some(())) => {
            sweep(monitor);
            true
        }
        Ok(None) => false,
        Err(_elapsed) => true,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn of(vip: Vip) -> Self {
        if vip.ip().is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// The interfaces by which some route of any table reaches a gateway.
fn gateways(routes: &[RouteMessage]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for route in routes {
        let mut by = None;
        let mut behind = false;
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => by = Some(*index),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => behind = true,
                RouteAttribute::MultiPath(hops) => found.extend(hops.iter().map(|hop| hop.interface_index)),
                _ => {}
            }
        }
        found.extend(by.filter(|_| behind));
    }
    found
}

/// The place just behind the last rule that looks the local table up for everybody. It is 0 unless somebody moved it;
/// a rule before it would drop what the VIP's owner is to take in. `None`: there is none.
fn behind_local(rules: &[RuleMessage]) -> Option<u32> {
    let for_all = |m: &&RuleMessage| {
        let narrows = |a: &RuleAttribute| {
            !matches!(
                a,
                RuleAttribute::Priority(_)
                    | RuleAttribute::Table(_)
                    | RuleAttribute::Protocol(_)
                    | RuleAttribute::SuppressPrefixLen(u32::MAX)
            )
        };
        m.header.action == RuleAction::ToTable
            && table(m) == LOCAL
            && !m.header.flags.contains(RuleFlags::Invert)
            && !m.attributes.iter().any(narrows)
    };
    rules.iter().filter(for_all).map(priority).max().and_then(|p| p.checked_add(1))
}

/// Absent where it is 0 (fib_nl_fill_rule in net/core/fib_rules.c).
fn priority(rule: &RuleMessage) -> u32 {
    let of = |a: &RuleAttribute| if let RuleAttribute::Priority(n) = a { Some(*n) } else { None };
    rule.attributes.iter().find_map(of).unwrap_or(0)
}

fn table(rule: &RuleMessage) -> u32 {
    let of = |a: &RuleAttribute| if let RuleAttribute::Table(n) = a { Some(*n) } else { None };
    rule.attributes.iter().find_map(of).unwrap_or(u32::from(rule.header.table))
}

/// What is to be set, and what is to go: what nobody wants, and what is there twice.
fn compare<M>(mut wanted: BTreeSet<Rule>, found: Vec<(Rule, M)>) -> (BTreeSet<Rule>, Vec<M>) {
    let surplus = found.into_iter().filter_map(|(rule, m)| (!wanted.remove(&rule)).then_some(m)).collect();
    (wanted, surplus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(interface: &str, priority: u32) -> Rule {
        Rule { vip: "192.168.77.10/32".parse().unwrap(), interface: interface.to_owned(), priority }
    }

    fn lookup(table: u8, attributes: Vec<RuleAttribute>) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.action = RuleAction::ToTable;
        message.header.table = table;
        message.attributes = attributes;
        message
    }

    #[test]
    fn what_is_right_stays_what_is_missing_comes_and_the_rest_goes() {
        let found = vec![
            (rule("eth0", 1), 'a'),
            (rule("eth0", 1), 'b'),
            (rule("gone", 1), 'c'),
            (rule("eth1", 101), 'd'),
        ];
        let (add, remove) = compare([rule("eth0", 1), rule("eth1", 1)].into(), found);
        assert_eq!(add, [rule("eth1", 1)].into());
        assert_eq!(remove, ['b', 'c', 'd']);
    }

    #[test]
    fn the_place_is_behind_the_local_tables_rule_wherever_that_is() {
        let main = || lookup(254, vec![RuleAttribute::Priority(32766)]);
        let local = |p: u32| {
            lookup(255, vec![RuleAttribute::Priority(p), RuleAttribute::SuppressPrefixLen(u32::MAX)])
        };
        assert_eq!(behind_local(&[lookup(255, vec![]), main()]), Some(1));
        assert_eq!(behind_local(&[lookup(255, vec![]), local(100), main()]), Some(101), "it is being moved");
        // One that is for some packets only says nothing of the others.
        let some = lookup(255, vec![RuleAttribute::Priority(9), RuleAttribute::FwMark(1)]);
        assert_eq!(behind_local(&[some.clone(), local(100)]), Some(101));
        assert_eq!(behind_local(&[some, main()]), None);
    }

    #[test]
    fn outside_is_what_is_real_or_has_a_gateway_behind_it() {
        let link = |index, name: &str, is_virtual| Link { index, name: name.to_owned(), is_virtual };
        let rules = Rules { interface: "vip0".to_owned(), vips: vec![] };
        let links = vec![
            link(1, "lo", false),
            link(2, "ens5", false),
            link(3, "docker0", true),
            link(4, "vip0", true),
            link(5, "bond0", true),
        ];
        let found: Vec<_> = rules.outside(links, &BTreeSet::from([4, 5])).collect();
        assert_eq!(found, ["ens5", "bond0"]);
    }
}
