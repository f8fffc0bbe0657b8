//! The group as a whole: whether somebody is left to fail over to, and whether they agree.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, Level};
use crate::model::route::create_command;
use crate::proto;
use crate::rpc::agree::{Setting, differences};

/// By the whole picture, and who answered the doctor.
pub fn judge(status: &proto::Status, answered: &BTreeSet<String>) -> Vec<Finding> {
    let mut all = Vec::new();
    all.extend(standing(status));
    all.push(majority(status));
    all.push(targets(status));
    all.extend(status.members.iter().filter_map(lingering));
    all.extend(silent(status, answered));
    all.extend(zones(status));
    all.extend(routes(status));
    all.extend(agree(status));
    all
}

/// This member belongs to none yet.
pub fn none(waits: &str) -> Finding {
    Finding::new(
        Level::Fail,
        "group",
        format!("this member belongs to no running group yet: {waits}"),
        "nobody is elected: nothing is called, and the routes stay as they are",
        "start vipd on every member that is listed, with the same [[members]] in every file (after a change of it: \
         systemctl restart vipd) and the peer ports open between them; leave out a zone that is down, and add it later (vipctl member add)",
    )
}

/// IMDS has not told this member where it runs.
pub fn nowhere(waits: &str) -> Finding {
    Finding::new(
        Level::Fail,
        "metadata",
        format!("region and network interface are not known, so that EC2 was not asked: {waits}"),
        "this member takes no part until IMDS answers",
        "curl -X PUT http://169.254.169.254/latest/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60'; or set \
         aws.region and aws.eni, and each member's zone",
    )
}

fn voters(status: &proto::Status) -> Vec<&proto::Member> {
    status.members.iter().filter(|m| m.voter).collect()
}

/// Can the owner's member be lost?
fn majority(status: &proto::Status) -> Finding {
    let check = "quorum";
    let voters = voters(status);
    let reached = voters.iter().filter(|m| m.reachable).count();
    let (n, need) = (voters.len(), voters.len() / 2 + 1);
    if reached > need {
        return Finding::ok(check, format!("{reached} of {n} members answer; {need} are a majority"));
    }
    let mend = if n < 3 {
        "add a third member, a witness will do: list it in every file"
    } else {
        "bring back the members that do not answer: systemctl status vipd there"
    };
    Finding::new(
        Level::Fail,
        check,
        match n {
            1 => "one member only".to_owned(),
            2 => "two members only: a majority of two is two".to_owned(),
            _ => format!("{reached} of {n} members answer, and {need} are a majority"),
        },
        "with the loss of the owner the majority is lost: nobody could take over",
        mend,
    )
}

/// Why a member that is not the owner would be no target.
fn unfit(m: &proto::Member) -> Option<String> {
    let denied = m.rights.iter().find(|right| !right.allowed);
    if !m.reachable {
        Some("does not answer".to_owned())
    } else if !m.voter {
        Some("is no voter".to_owned())
    } else if m.witness {
        Some("is a witness".to_owned())
    } else if m.drained {
        Some("is drained".to_owned())
    } else if !m.not_eligible.is_empty() {
        Some(format!("may not own: {}", m.not_eligible))
    } else if m.health == "unhealthy" {
        Some(format!("is unhealthy: {}", m.health_reason))
    } else if !m.cloud_error.is_empty() {
        Some(format!("does not reach EC2: {}", m.cloud_error))
    } else {
        denied.map(|right| format!("may not change every route: {}", right.error))
    }
}

fn targets(status: &proto::Status) -> Finding {
    let check = "targets";
    let others = || status.members.iter().filter(|m| Some(&m.name) != status.owner.as_ref());
    let fit: Vec<&str> = others().filter(|m| unfit(m).is_none()).map(|m| m.name.as_str()).collect();
    if fit.is_empty() {
        let why: Vec<_> = others().filter_map(|m| Some(format!("{} {}", m.name, unfit(m)?))).collect();
        let why = if why.is_empty() { "the group has one member".to_owned() } else { why.join("; ") };
        return Finding::new(
            Level::Fail,
            check,
            format!("nobody is fit to take over: {why}"),
            "the next failover would go to a member that does not serve, or to none",
            "see what each one's own findings say; vipctl undrain NAME for one that is drained",
        );
    }
    let unfit: Vec<_> =
        others().filter(|m| !m.witness).filter_map(|m| Some(format!("{} {}", m.name, unfit(m)?))).collect();
    if unfit.is_empty() {
        return Finding::ok(check, format!("fit to take over: {}", fit.join(", ")));
    }
    Finding::new(
        Level::Warn,
        check,
        format!("fit to take over: {}; not fit: {}", fit.join(", "), unfit.join("; ")),
        "fewer failures are survived than the group was built for",
        "see what each one's own findings say; vipctl undrain NAME for one that is drained",
    )
}

fn lingering(m: &proto::Member) -> Option<Finding> {
    let age = m.learner_for_s?;
    Some(Finding::new(
        Level::Warn,
        "members",
        format!("{} is a learner for {age} s, and no change is under way", m.name),
        "it neither votes nor owns: an add or a replace was not carried to its end",
        format!(
            "vipctl member promote {}, the same replace again, or vipctl member remove {}",
            m.name, m.name
        ),
    ))
}

/// One without an examination of its own: what its host looks like is not known.
fn silent(status: &proto::Status, answered: &BTreeSet<String>) -> Vec<Finding> {
    let silent = status.members.iter().filter(|m| !answered.contains(&m.name));
    let one = |m: &proto::Member| {
        let what = if m.reachable { "does not answer the doctor" } else { "does not answer" };
        Finding::new(
            Level::Warn,
            "reach",
            format!("{} {what}", m.name),
            "what is wrong with it is not known",
            format!("on {}: systemctl status vipd; vipctl doctor; vipctl --version", m.name),
        )
    };
    silent.map(one).collect()
}

fn zones(status: &proto::Status) -> Option<Finding> {
    let check = "zones";
    let voters = voters(status);
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for m in voters.iter().filter(|m| !m.zone.is_empty()) {
        *zones.entry(m.zone.as_str()).or_default() += 1;
    }
    // With fewer the quorum's finding says it.
    if voters.len() < 3 || zones.is_empty() {
        return None;
    }
    let majority = voters.len() / 2 + 1;
    Some(match zones.iter().find(|(_, n)| **n >= majority) {
        None => Finding::ok(check, format!("no zone holds a majority ({} zones)", zones.len())),
        Some((zone, n)) => Finding::new(
            Level::Warn,
            check,
            format!("{n} of {} members are in {zone}", voters.len()),
            "the loss of that zone is the loss of the quorum: the VIP would stay where it is",
            "put one member into each of three zones; a witness will do",
        ),
    })
}

fn standing(status: &proto::Status) -> Vec<Finding> {
    let check = "state";
    let mut all = Vec::new();
    if status.state == "no-quorum" {
        all.push(Finding::new(
            Level::Fail,
            check,
            "no quorum acknowledges a leader",
            "nothing is called and nothing moves",
            "vipctl status; bring members back until a majority runs",
        ));
    }
    if status.owner.is_none() {
        all.push(Finding::new(
            Level::Fail,
            check,
            "nobody owns the VIP",
            "the routes point at whoever had them last",
            "vipctl status says why",
        ));
    }
    if let Some(since) = &status.paused_since {
        all.push(Finding::new(
            Level::Warn,
            check,
            format!("paused since {since}"),
            "an unhealthy owner keeps the VIP; a failover from a dead one still happens",
            "vipctl resume",
        ));
    }
    if let Some(w) = &status.waiting {
        all.push(Finding::new(
            Level::Warn,
            check,
            format!("the VIP waits {} s before it goes back to {}: {}", w.left_ms.div_ceil(1000), w.to, w.reason),
            "policy.min_hold_s keeps it from going back and forth; a failover from a dead owner does not wait",
            format!("vipctl transfer-leader --to {} moves it now", w.to),
        ));
    }
    if all.is_empty() {
        let owner = status.owner.as_deref().unwrap_or_default();
        all.push(Finding::ok(check, format!("{}, {owner} owns the VIP", status.state)));
    }
    all
}

/// Desired against observed, as the leader sees it.
fn routes(status: &proto::Status) -> Vec<Finding> {
    let check = "routes";
    let mut all = Vec::new();
    for vip in &status.vips {
        for route in vip.routes.iter().filter(|r| !r.in_sync) {
            let (table, address) = (&route.route_table, &vip.address);
            let missing = route.state == "missing";
            let eni = status
                .members
                .iter()
                .find(|m| Some(&m.name) == status.owner.as_ref())
                .map(|m| m.eni.as_str());
            let eni = eni.filter(|eni| !eni.is_empty()).unwrap_or("ENI");
            all.push(Finding::new(
                if missing { Level::Fail } else { Level::Warn },
                check,
                format!(
                    "{address} in {table} points at {} ({})",
                    route.target.as_deref().unwrap_or("nothing"),
                    route.state
                ),
                if missing {
                    "that table's subnets do not reach the VIP, and a failover does not change that"
                        .to_owned()
                } else if route.error.is_empty() {
                    "that table's subnets reach another member than the owner, or none".to_owned()
                } else {
                    route.error.clone()
                },
                if missing {
                    format!("{}; or aws.create_missing = true", create_command(table, address, eni))
                } else {
                    "vipctl routes; the owner puts it right as soon as EC2 lets it".to_owned()
                },
            ));
        }
    }
    let n: usize = status.vips.iter().map(|v| v.routes.len()).sum();
    if n == 0 {
        all.push(Finding::new(
            Level::Fail,
            check,
            "no route is managed",
            "the VIP cannot move",
            "check aws.route_tables and aws.route_table_tag",
        ));
    } else if all.is_empty() {
        all.push(Finding::ok(check, format!("all {n} point at the owner")));
    }
    all
}

/// What has to be the same on every member (FAULTS 62).
fn agree(status: &proto::Status) -> Vec<Finding> {
    let mut all: Vec<_> = differences(&status.members)
        .into_iter()
        .map(|d| {
            let (level, why) = match d.what {
                Setting::Vips | Setting::Tables => {
                    (Level::Fail, "after a move some VIP or table would be left where it was")
                }
                Setting::Timings => {
                    (Level::Warn, "the shortest lease counts; a failover takes as long as the longest")
                }
                Setting::Policy => (Level::Warn, "the owner's counts: a move changes what the group does"),
            };
            Finding::new(
                level,
                "configuration",
                d.to_string(),
                why,
                "make the files of all members alike; then systemctl reload or restart vipd, the owner last",
            )
        })
        .collect();
    let versions: BTreeSet<&str> =
        status.members.iter().map(|m| m.version.as_str()).filter(|v| !v.is_empty()).collect();
    if versions.len() > 1 {
        let versions: Vec<_> = versions.into_iter().collect();
        all.push(Finding::new(
            Level::Warn,
            "configuration",
            format!("the members run different versions: {}", versions.join(", ")),
            "an upgrade stopped half way",
            "upgrade the rest, one member after the other, the owner last",
        ));
    }
    if all.is_empty() {
        all.push(Finding::ok("configuration", "VIPs, route tables, timings, policy and versions are alike"));
    }
    all
}
