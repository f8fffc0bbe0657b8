//! The judgement as operators see it.

use std::time::Duration;

use prost::Message as _;

use super::agree::differences;
use crate::clock;
use crate::config::Config;
use crate::decide::{Decide, Right, Role, Waits};
use crate::ledger::{Move, Phases};
use crate::model::{
    EniId, Health, Incarnation, Member, Name, Observed, RouteKey, RouteTableId, Time, WallMs, brief, cut,
};
use crate::proto;
use crate::raft::Heard;

/// What this member knows of itself besides its judgement.
#[derive(Clone, Debug)]
pub struct Myself {
    pub zone: String,
    pub eni: Option<EniId>,
}

/// Everything that a status is made of.
pub struct View<'a> {
    pub config: &'a Config,
    /// Why the newest file was refused.
    pub refused: Option<&'a str>,
    /// Keys of it that take a restart.
    pub restart: &'a [&'static str],
    pub myself: &'a Myself,
    pub decide: &'a Decide,
    pub heard: &'a Heard,
    /// When an append of another leader last came in.
    pub leader_heard: Option<Time>,
    pub quarantined: bool,
    pub now: Time,
    /// When this member's certificate ends; `None` without TLS.
    pub certificate: Option<WallMs>,
}

/// The longest answer that any viewer may ask for: all the moves that are kept, of two route tables, have 74 KiB. Of many
/// tables the request ids of the older moves are left out: at most half is of such.
const HISTORY_MAX_BYTES: usize = 128 * 1024;

/// A field's tag and length before it.
const FRAMED: usize = 4;

/// What EC2 said (`WORDS_MAX`), of which ARN, and the line to add to the policy.
const DENIAL_MAX: usize = 1024;

const HEALTHY: &str = "healthy";

/// Its word and its reason.
pub fn health(health: &Health) -> (&'static str, &str) {
    match health {
        Health::Healthy => (HEALTHY, ""),
        Health::NotChecked => (HEALTHY, "not checked"),
        Health::Unhealthy(why) => ("unhealthy", why),
        Health::Unknown(why) => ("unknown", why),
    }
}

/// A report's health, back from its words.
pub fn read_health(member: &proto::Member) -> Health {
    match member.health.as_str() {
        HEALTHY => Health::Healthy,
        "unhealthy" => Health::Unhealthy(member.health_reason.clone()),
        _ => Health::Unknown(member.health_reason.clone()),
    }
}

/// What a report says of its member: its data directory, and what its file has.
pub fn read_member(member: &proto::Member) -> Option<(Incarnation, Member)> {
    let id = u64::from_str_radix(&member.incarnation, 16).ok()?;
    let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let says = Member {
        name: member.name.parse().ok()?,
        peer: member.peer.clone(),
        admin: text(&member.admin),
        zone: text(&member.zone),
        priority: member.priority,
        witness: member.witness,
    };
    Some((Incarnation(id), says))
}

impl View<'_> {
    /// What this member tells the others of itself.
    pub fn me(&self) -> proto::Member {
        let d = self.decide;
        let name = &self.config.member;
        let own = self.config.own();
        let (word, reason) = health(d.health());
        let raft = d.raft();
        proto::Member {
            name: name.to_string(),
            zone: self.myself.zone.clone(),
            role: if raft.removed.is_some() { "removed" } else { role(raft.role, raft.is_voter(name)) }
                .to_owned(),
            voter: raft.is_voter(name) && raft.removed.is_none(),
            witness: own.witness,
            drained: self.is_drained(name),
            reachable: true,
            health: word.to_owned(),
            health_reason: reason.to_owned(),
            eni: self.myself.eni.as_ref().map(ToString::to_string).unwrap_or_default(),
            peer: own.peer.clone(),
            admin: own.admin.clone().unwrap_or_default(),
            applied: d.applied(),
            lag: 0,
            vip_local: self.config.vip.addresses.iter().all(|v| d.addresses().contains(v)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            priority: own.priority,
            lease_ms: u64::try_from(self.config.timing.lease().as_millis()).unwrap_or(u64::MAX),
            incarnation: d.incarnation().to_string(),
            // What the group ordered, everyone knows from the ledger.
            not_eligible: d.unable().unwrap_or_default(),
            quarantined: self.quarantined,
            cloud_error: d.cut_off().unwrap_or_default().to_owned(),
            config_refused: self.refused.unwrap_or_default().to_owned(),
            restart_for: self.restart.iter().map(ToString::to_string).collect(),
            cloud_seen_ms: d.reached().map(|at| millis(self.now.since(at))),
            rights: self.rights(),
            configured_vips: self.config.vip.addresses.iter().map(ToString::to_string).collect(),
            configured_tables: self.configured_tables(),
            timings: timings(self.config),
            certificate_expires: self.certificate.map(rfc3339),
            certificate_days: self.certificate.map(|until| days(seconds_left(until))),
            round_trip_ms: None,
            round_trip_least_ms: None,
            failback: Some(self.config.policy.failback),
            min_hold_s: Some(self.config.policy.min_hold.as_secs()),
            on_quorum_loss: self.config.policy.on_quorum_loss.to_string(),
            learner_for_s: None,
        }
    }

    fn configured_tables(&self) -> Vec<String> {
        let aws = &self.config.aws;
        let tag = aws.route_table_tag.iter().map(|(key, value)| format!("tag {key}={value}"));
        aws.route_tables.iter().map(ToString::to_string).chain(tag).collect()
    }

    fn rights(&self) -> Vec<proto::Right> {
        let right = |(table, right): (&RouteTableId, &Right)| proto::Right {
            route_table: table.to_string(),
            allowed: right.denied.is_none(),
            age_ms: millis(self.now.since(right.at)),
            error: right.denied.as_ref().map(|d| d.why.clone()).unwrap_or_default(),
        };
        self.decide.rights().iter().map(right).collect()
    }

    /// The whole picture.
    pub fn status(&self) -> proto::Status {
        let d = self.decide;
        let members = self.members();
        let vips = self.vips();
        let mut problems = self.problems(&members, &vips);
        let quorum = self.has_quorum();
        if let Some(at) = d.raft().removed {
            problems.insert(
                0,
                format!(
                    "the group has removed {} (log entry {at}): it neither votes nor owns; stop vipd here",
                    self.config.member
                ),
            );
        } else if !quorum {
            problems.insert(
                0,
                "no quorum acknowledges a leader: nothing is called and nothing is removed".to_owned(),
            );
        }
        let claim = d.ledger().claim.as_ref();
        let moving = d.is_handing_over()
            || claim.is_some_and(|c| !c.done)
            || (d.raft().role == Role::Leader && !d.is_owner() && d.nobody_may_own().is_none());
        let paused_since = d.ledger().paused.map(rfc3339);
        let state = match (quorum, moving, paused_since.is_some(), problems.is_empty()) {
            (false, _, _, _) => "no-quorum",
            (true, true, _, _) => "moving",
            (true, false, true, _) => "paused",
            (true, false, false, false) => "degraded",
            (true, false, false, true) => "steady",
        };
        if let Some(since) = &paused_since {
            problems.push(format!(
                "paused since {since}: the VIP moves only if the leader dies or stops; vipctl resume ends it"
            ));
        }
        let waiting = d.waits(self.now).map(waiting);
        problems.extend(waiting.iter().map(|w| held(w, &self.config.member)));
        problems.extend(members.iter().flat_map(of_its_file));
        problems.extend(members.iter().filter_map(|m| self.too_far(m)));
        // Not yet a reason to be degraded: nothing fails before it is over.
        problems.extend(members.iter().filter_map(expiry));
        let mut warnings: Vec<_> = d.size_warning().map(str::to_owned).into_iter().collect();
        warnings.extend(members.iter().filter_map(lingers));
        proto::Status {
            cluster: self.config.cluster.to_string(),
            term: d.raft().term.0,
            leader: d.raft().leader_name().map(ToString::to_string),
            owner: d.ledger().owner().map(ToString::to_string),
            state: state.to_owned(),
            problems,
            warnings,
            changing: d.raft().is_joint(),
            members,
            vips,
            last_move: d.ledger().last_move().map(a_move),
            seen_by: self.config.member.to_string(),
            epoch: claim.map_or(0, |c| c.epoch.0),
            route_repairs: d.repairs(),
            paused: paused_since.is_some(),
            paused_since,
            waiting,
            lease_remaining_ms: d.open_permit().map(|p| millis(p.deadline().since(self.now))),
        }
    }

    /// Past moves, newest first, as many as there are or go into an answer.
    pub fn history(&self, limit: usize) -> proto::History {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let (mut left, mut for_ids) = (HISTORY_MAX_BYTES, HISTORY_MAX_BYTES / 2);
        let fits = |m: &Move| {
            let mut shown = a_move(m);
            let ids: usize = shown.request_ids.iter().map(|id| id.len() + FRAMED).sum();
            match for_ids.checked_sub(ids) {
                Some(less) => for_ids = less,
                // Nor has an older one any.
                None => {
                    for_ids = 0;
                    shown.request_ids_left_out = u32::try_from(shown.request_ids.len()).unwrap_or(u32::MAX);
                    shown.request_ids = Vec::new();
                }
            }
            left = left.checked_sub(shown.encoded_len() + FRAMED)?;
            Some(shown)
        };
        proto::History {
            moves: self.decide.ledger().moves.iter().rev().take(limit).map_while(fits).collect(),
        }
    }

    /// A leader has one while its lease stands; another member, while it hears the leader. After a
    /// start Raft names the leader of the stored vote, which proves nothing.
    pub fn has_quorum(&self) -> bool {
        let d = self.decide;
        let patience = self.config.timing.election_max * 2;
        if d.raft().role == Role::Leader {
            return d.quorum_stands(self.now);
        }
        d.raft().leader.is_some() && self.leader_heard.is_some_and(|at| self.now.since(at) < patience)
    }

    fn is_drained(&self, name: &Name) -> bool {
        self.decide.ledger().drained.contains(name)
    }

    /// By the membership; before there is one, by the file.
    fn members(&self) -> Vec<proto::Member> {
        let raft = self.decide.raft();
        let me = &self.config.member;
        let mut all: Vec<proto::Member> = raft.members().map(|(id, m)| self.member(Some(id), m)).collect();
        if all.is_empty() {
            return self.config.members.iter().map(|m| self.member(None, m)).collect();
        }
        if raft.member(me).is_none() {
            all.push(self.me());
        }
        if let Some((age, learners)) = self.decide.lingering(self.now) {
            let is_one = |m: &&mut proto::Member| learners.iter().any(|name| name.as_str() == m.name);
            all.iter_mut().filter(is_one).for_each(|m| m.learner_for_s = Some(age.as_secs()));
        }
        all
    }

    fn member(&self, id: Option<Incarnation>, m: &Member) -> proto::Member {
        let raft = self.decide.raft();
        let heard = self.heard.get(&m.name);
        let mut member = if m.name == self.config.member {
            self.me()
        } else {
            heard.map(|(_, member)| member.clone()).unwrap_or_else(|| proto::Member {
                health: "unknown".to_owned(),
                health_reason: "not heard of since this member started".to_owned(),
                role: "unknown".to_owned(),
                ..proto::Member::default()
            })
        };
        member.name = m.name.to_string();
        member.peer.clone_from(&m.peer);
        member.admin = m.admin.clone().unwrap_or_default();
        member.witness = m.witness;
        member.priority = m.priority;
        member.drained = self.is_drained(&m.name);
        if member.zone.is_empty() {
            member.zone = m.zone.clone().unwrap_or_default();
        }
        if let Some(id) = id {
            member.incarnation = id.to_string();
        }
        if m.name == self.config.member {
            return member;
        }
        member.voter = raft.is_voter(&m.name);
        member.reachable = self.decide.peers().get(&m.name).is_some_and(|p| p.reachable);
        if !member.reachable {
            member.role = "unknown".to_owned();
        }
        member.lag = raft.last_index.saturating_sub(member.applied);
        member
    }

    /// openraft waits one heartbeat for the answer to an append. A slower one acknowledges nothing, so that this member
    /// and that one make no quorum together.
    fn too_far(&self, m: &proto::Member) -> Option<String> {
        let (round_trip, waits) =
            (m.round_trip_least_ms?, self.config.timing.heartbeat.as_secs_f64() * 1000.0);
        (round_trip >= waits).then(|| {
            format!(
                "a round trip from {} to {} takes {round_trip:.0} ms, and the timings wait {waits:.0} ms for an \
                 answer: mend the network, or raise raft.heartbeat_ms and raft.election_ms above it",
                self.config.member, m.name
            )
        })
    }

    fn vips(&self) -> Vec<proto::VipRoutes> {
        let owner = self.decide.ledger().owner();
        let target = owner.and_then(|name| self.eni_of(name));
        let of_vip = |vip: &crate::model::Vip| proto::VipRoutes {
            address: vip.to_string(),
            owner: owner.map(ToString::to_string),
            routes: self
                .tables()
                .into_iter()
                .map(|table| self.route(RouteKey { table, vip: *vip }, target.as_deref()))
                .collect(),
        };
        self.config.vip.addresses.iter().map(of_vip).collect()
    }

    fn eni_of(&self, name: &Name) -> Option<String> {
        if *name == self.config.member {
            return self.myself.eni.as_ref().map(ToString::to_string);
        }
        self.heard.get(name).map(|(_, m)| m.eni.clone()).filter(|e| !e.is_empty())
    }

    fn tables(&self) -> Vec<crate::model::RouteTableId> {
        let mut tables = self.config.aws.route_tables.clone();
        for table in self.decide.sight().iter().flat_map(|s| &s.tables) {
            if !tables.contains(table) {
                tables.push(table.clone());
            }
        }
        tables
    }

    fn route(&self, key: RouteKey, wanted: Option<&str>) -> proto::Route {
        let sight = self.decide.sight();
        let absent = sight.is_some_and(|s| s.absent.contains(&key.table));
        let (state, target) = match sight.and_then(|s| s.routes.get(&key)) {
            Some(Observed::Active(eni)) => ("active", eni.as_ref()),
            Some(Observed::Blackhole(eni)) => ("blackhole", eni.as_ref()),
            Some(Observed::Missing) => ("missing", None),
            None if absent => ("missing", None),
            None => ("unknown", None),
        };
        let error = match self.decide.route_error(&key).or(self.decide.look_error()) {
            Some(error) => error.to_owned(),
            None if absent => "the route table does not exist in this region and account".to_owned(),
            None => String::new(),
        };
        proto::Route {
            route_table: key.table.to_string(),
            target: target.map(ToString::to_string),
            state: state.to_owned(),
            in_sync: state == "active" && target.map(EniId::as_str).is_some_and(|t| Some(t) == wanted),
            error,
        }
    }

    fn problems(&self, members: &[proto::Member], vips: &[proto::VipRoutes]) -> Vec<String> {
        let mut problems = Vec::new();
        for m in members {
            if !m.reachable {
                problems.push(format!("{} does not answer", m.name));
            } else if m.health != HEALTHY && !m.witness {
                problems.push(format!("{} is {}: {}", m.name, brief(&m.health), brief(&m.health_reason)));
            } else if !m.not_eligible.is_empty() && !m.witness {
                problems.push(format!("{} may not own: {}", m.name, brief(&m.not_eligible)));
            } else if !m.cloud_error.is_empty() {
                problems.push(format!("{} does not reach EC2: {}", m.name, brief(&m.cloud_error)));
            } else if let Some(right) = m.rights.iter().find(|right| !right.allowed) {
                problems.push(format!(
                    "{} owns only where no other can: {}",
                    m.name,
                    cut(&right.error, DENIAL_MAX)
                ));
            }
        }
        if let Some(why) = self.decide.nobody_may_own() {
            problems.push(format!("no member may own, so the last claim stands: {}", brief(&why)));
        }
        for (route, times) in self.decide.contended() {
            problems.push(format!(
                "{} in {} was changed by someone else {times} times within a minute: it is put right ever more \
                 slowly; CloudTrail's ReplaceRoute events without vipd's User-Agent name who",
                route.vip, route.table
            ));
        }
        problems.extend(differences(members).iter().map(ToString::to_string));
        if vips.iter().all(|v| v.routes.is_empty()) {
            let why =
                self.decide.look_error().unwrap_or("no route table was found: check aws.route_table_tag");
            problems.push(format!("no route is managed: {why}"));
        }
        for vip in vips {
            for route in vip.routes.iter().filter(|r| !r.in_sync) {
                let why = if route.error.is_empty() { String::new() } else { format!(": {}", route.error) };
                let target = route.target.as_deref().unwrap_or("nothing");
                problems.push(format!(
                    "{} in {} points at {target} ({}){why}",
                    vip.address, route.route_table, route.state
                ));
            }
        }
        problems
    }
}

fn waiting(waits: Waits) -> proto::Waiting {
    let Waits { to, left, reason } = waits;
    proto::Waiting { to: to.to_string(), left_ms: millis(left), reason }
}

/// The VIP would move, and does not yet.
fn held(w: &proto::Waiting, me: &Name) -> String {
    let left = w.left_ms.div_ceil(1000);
    format!(
        "the VIP waits {left} s on {me} (policy.min_hold_s) before it goes back to {}: {}; vipctl transfer-leader --to {} \
         moves it now",
        w.to,
        brief(&w.reason),
        w.to
    )
}

/// An operator's change was not carried to its end.
fn lingers(m: &proto::Member) -> Option<String> {
    let age = m.learner_for_s?;
    Some(format!(
        "{} is a learner for {age} s, and no change is under way: vipctl member promote {}, or vipctl member remove {}",
        m.name, m.name, m.name
    ))
}

/// What is the matter with a member's file: the group goes on as it does.
fn of_its_file(m: &proto::Member) -> Vec<String> {
    let mut said = Vec::new();
    if !m.config_refused.is_empty() {
        said.push(format!("{} goes on with its old configuration: {}", m.name, brief(&m.config_refused)));
    }
    if !m.restart_for.is_empty() {
        said.push(format!(
            "{}: what its file says of {} takes a restart",
            m.name,
            brief(&m.restart_for.join(", "))
        ));
    }
    said
}

/// From here on `status` names a certificate that ends.
const EXPIRY_WARNING_DAYS: i64 = 30;

/// Seconds until then on the wall clock, less than 0 where it has been.
fn seconds_left(until: WallMs) -> i64 {
    let (until, now) =
        (i64::try_from(until.0).unwrap_or(i64::MAX), i64::try_from(clock::wall().0).unwrap_or(0));
    until.saturating_sub(now).div_euclid(1000)
}

/// Whole days.
fn days(seconds: i64) -> i64 {
    seconds.div_euclid(86_400)
}

fn expiry(m: &proto::Member) -> Option<String> {
    let days = m.certificate_days.filter(|days| *days < EXPIRY_WARNING_DAYS)?;
    let at = brief(m.certificate_expires.as_deref().unwrap_or_default());
    let when = match days {
        ..0 => "is over".to_owned(),
        0 => "ends within a day".to_owned(),
        1 => "ends in 1 day".to_owned(),
        _ => format!("ends in {days} days"),
    };
    Some(format!(
        "the certificate of {} {when} ({at}): vipctl certs issue member {}, then reload",
        m.name, m.name
    ))
}

fn role(role: Role, voter: bool) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::Follower if voter => "follower",
        Role::Follower | Role::Learner => "learner",
    }
}

fn timings(config: &Config) -> String {
    let t = &config.timing;
    let [heartbeat, least, most] = [t.heartbeat, t.election_min, t.election_max].map(millis);
    format!("heartbeat {heartbeat} ms, election {least} to {most} ms")
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A move as the contract prints it: milliseconds with three decimals.
pub fn a_move(m: &Move) -> proto::Move {
    #[allow(clippy::cast_precision_loss, reason = "a move takes less than 2^52 microseconds")]
    let ms = |us: u64| us as f64 / 1000.0;
    let Phases { detect, elect, claim, address, route, verify } = m.phases;
    proto::Move {
        kind: m.kind.label().to_owned(),
        from: m.from.as_ref().map(ToString::to_string),
        to: m.to.to_string(),
        term: m.term.0,
        epoch: m.epoch.0,
        reason: m.reason.clone(),
        at: rfc3339(m.at),
        total_ms: m.total_us.map(ms),
        phases_ms: Some(proto::Phases {
            detect: detect.map(ms),
            elect: elect.map(ms),
            claim: claim.map(ms),
            address: address.map(ms),
            route: route.map(ms),
            verify: verify.map(ms),
        }),
        request_ids: m.request_ids.clone(),
        request_ids_left_out: 0,
    }
}

/// In UTC.
pub fn rfc3339(at: WallMs) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|t| t.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
