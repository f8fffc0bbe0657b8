//! What a member finds out about itself and its surroundings when an operator asks: everything that would make the
//! next failover fail.
//!
//! ```text
//!   vipctl doctor --> rpc::Desk --Examiner--> Doctor --> host, agents, haproxy   files under a root
//!                        |                           --> ec2                     vpc::Ec2, with DryRuns
//!                        |                           --> group                   the whole picture
//!                        '--Forward--> every other member examines itself
//! ```
//!
//! Gathering is apart from judging where EC2 is asked; where files are read, the root is the port.

pub mod agents;
pub mod certificate;
pub mod ec2;
pub mod finding;
pub mod group;
pub mod haproxy;
pub mod host;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::{mpsc, watch};

use self::finding::{Finding, Level};
use self::host::Root;
use crate::clock;
use crate::config::iam::{Policies, Whereabouts};
use crate::config::{Config, InForce, SourceDestCheck};
use crate::decide::Event;
use crate::model::{EniId, Health, RouteKey, RouteTableId, Time};
use crate::proto;
use crate::rpc::desk::Examiner;
use crate::rpc::picture;
use crate::vpc::ec2::Ec2;
use crate::vpc::{Cloud as _, CloudError, Stamp, Swap, Verb};

/// DryRuns that one examination makes: a group of seven that examines itself leaves EC2's burst of 50 half full.
/// What is not asked now was asked before, or is said to be unknown (docs/decisions/0026).
const REHEARSALS_MAX: usize = 4;

/// How often an examination asks EC2 for permissions; between two the answers of the last one stand.
const REHEARSE_EVERY: Duration = Duration::from_secs(15);

/// So long after a claim its move is over, and ten seconds more.
const QUIET: Duration = Duration::from_secs(15);

/// How long EC2 may take over all of one examination, whatever `aws.attempt_timeout_ms` is: half a second less than other
/// members wait for this one's findings (`rpc/desk.rs`). What was found by then is told.
const EC2_ANSWERS: Duration = Duration::from_secs(3);

/// Examines one member.
pub struct Doctor {
    /// As it is in force now.
    pub in_force: watch::Receiver<InForce>,
    /// Not there before IMDS has told where this member runs.
    pub place: OnceLock<Place>,
    pub health: watch::Receiver<Health>,
    /// What this member waits for while it belongs to no group.
    pub waits: watch::Receiver<String>,
    pub root: Root,
    /// The term and claim that its requests carry.
    pub stamp: watch::Receiver<Stamp>,
    /// The judgement learns what a DryRun said.
    pub events: mpsc::Sender<Event>,
    pub rehearsed: Mutex<Option<Time>>,
}

/// Where in the cloud this member runs.
pub struct Place {
    pub cloud: Arc<Ec2>,
    pub eni: Option<EniId>,
}

/// The state of a member that belongs to no group, beside those of a group.
const ALONE: &str = "alone";

/// The ends of the DryRuns which this examination alone makes: nobody else asks.
#[derive(Default)]
struct Rehearsed {
    /// CreateRoute, by table.
    created: Vec<(RouteTableId, Result<(), CloudError>)>,
    /// ModifyNetworkInterfaceAttribute, where the file has vipd do it.
    fix: Option<Result<(), CloudError>>,
}

impl Doctor {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.in_force.borrow().config)
    }

    fn stamp(&self) -> Stamp {
        *self.stamp.borrow()
    }

    async fn policies(&self, status: proto::Status) -> Policies {
        let tables = match self.place.get() {
            Some(place) => {
                let survey = tokio::time::timeout(EC2_ANSWERS, place.cloud.survey(self.stamp())).await;
                survey.ok().and_then(Result::ok).unwrap_or_default()
            }
            None => Vec::new(),
        };
        // The tables of one group are of one VPC, hence of one account.
        let account = tables.into_iter().map(|t| t.owner).find(|owner| !owner.is_empty());
        let enis = status.members.iter().filter_map(|m| m.eni.parse().ok()).collect();
        let region = self.place.get().and_then(|place| place.cloud.region()).map(str::to_owned);
        self.config().iam_policies(&Whereabouts { region, account, enis })
    }

    /// Says in the log what EC2 shows to be wrong: a wrong region, VPC or table is found at the start, not by the
    /// first failover (FAULTS 47).
    pub async fn tell_of_ec2(&self) {
        let Some(place) = self.place.get() else { return };
        for found in ec2::judge(&self.config(), &self.look(place).await) {
            if found.level == Level::Fail {
                tracing::error!(check = found.check, why = %found.why, mend = %found.mend, "{}", found.finding);
            }
        }
    }

    async fn look(&self, place: &Place) -> ec2::Seen {
        let stamp = self.stamp();
        let checks = self.config().aws.source_dest_check != SourceDestCheck::Ignore;
        let interface = async {
            let eni = place.eni.as_ref().filter(|_| checks)?;
            Some(place.cloud.eni_facts(eni, stamp).await)
        };
        let (tables, interface) = tokio::join!(place.cloud.survey(stamp), interface);
        ec2::Seen {
            region: place.cloud.region().map(str::to_owned),
            eni: place.eni.clone(),
            tables,
            interface,
            clock_ahead: place.cloud.clock_ahead(),
            time_service: host::time_service(&self.root),
        }
    }

    /// What EC2 has to say now of the tables that it was asked about longest ago; what it said before is in `me`.
    async fn rehearse(
        &self,
        place: &Place,
        status: &proto::Status,
        me: &mut proto::Member,
        tables: &[RouteTableId],
    ) -> Rehearsed {
        let mut rehearsed = Rehearsed::default();
        let Some(eni) = place.eni.as_ref().filter(|_| self.may_rehearse(status)) else { return rehearsed };
        let config = self.config();
        let Some(vip) = config.vip.addresses.first() else { return rehearsed };
        let age = |id: &RouteTableId| {
            let right = me.rights.iter().find(|r| r.route_table == id.as_str());
            right.map_or(u64::MAX, |r| if r.allowed { r.age_ms } else { u64::MAX - 1 })
        };
        let mut order: Vec<_> = tables.to_vec();
        order.sort_by_key(|id| std::cmp::Reverse(age(id)));
        order.truncate(REHEARSALS_MAX);
        let verbs = [Some(Verb::Replace), config.aws.create_missing.then_some(Verb::Create)];
        let swap = |verb| {
            let vip = *vip;
            move |table: &RouteTableId| Swap {
                route: RouteKey { table: table.clone(), vip },
                eni: eni.clone(),
                verb,
            }
        };
        let swaps = verbs.into_iter().flatten().flat_map(|verb| order.iter().map(swap(verb)));
        let asked = swaps.map(|swap| async move {
            let result = place.cloud.rehearse(swap.clone(), self.stamp()).await;
            (swap, result)
        });
        let fix = async {
            let fixes = config.aws.source_dest_check == SourceDestCheck::Fix;
            if fixes { Some(place.cloud.rehearse_fix(eni, self.stamp()).await) } else { None }
        };
        let (asked, fix) = tokio::join!(join_all(asked), fix);
        rehearsed.fix = fix;
        for (swap, result) in asked {
            let table = swap.route.table.clone();
            if swap.verb == Verb::Create {
                rehearsed.created.push((table, result));
                continue;
            }
            if matches!(result, Err(CloudError::DryRunIgnored { .. })) {
                *self.rehearsed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Time::MAX);
            }
            if let Some(right) = right(&table, &result) {
                me.rights.retain(|old| old.route_table != table.as_str());
                me.rights.push(right);
            }
            // Without a group nobody listens yet, and what is said now is old when somebody does.
            if status.state != ALONE {
                let _ = self.events.send(Event::Rehearsed { swap, result }).await;
            }
        }
        rehearsed
    }

    /// Not near a move, whose budget it would use, and not again and again.
    fn may_rehearse(&self, status: &proto::Status) -> bool {
        let claimed = status.last_move.as_ref().and_then(|m| m.at.parse::<jiff::Timestamp>().ok());
        let claimed = claimed.and_then(|at| u64::try_from(at.as_millisecond()).ok());
        let quiet = u64::try_from(QUIET.as_millis()).unwrap_or(u64::MAX);
        if claimed.is_some_and(|at| clock::wall().0.saturating_sub(at) < quiet) {
            return false;
        }
        if status.state == "moving" || status.state == "no-quorum" {
            return false;
        }
        let now = clock::now();
        let mut last = self.rehearsed.lock().unwrap_or_else(PoisonError::into_inner);
        // The end of time: never again.
        if last.is_some_and(|at| now.since(at) < REHEARSE_EVERY) {
            return false;
        }
        *last = Some(now);
        true
    }

    async fn findings(&self, status: proto::Status) -> Vec<Finding> {
        let config = self.config();
        let name = config.member.as_str();
        let mut me = status.members.iter().find(|m| m.name == name).cloned().unwrap_or_default();
        let mut all = of_the_host(self.root.clone(), Arc::clone(&config), me.witness).await;
        if me.witness {
            return all;
        }
        all.extend(health(&config, &me));
        all.extend(address(&status, &me));
        let Some(place) = self.place.get() else {
            all.push(group::nowhere(&self.waits.borrow()));
            return all;
        };
        let asked = self.of_ec2(place, &status, &mut me, &mut all);
        if tokio::time::timeout(EC2_ANSWERS, asked).await.is_err() {
            all.push(ec2::silent(EC2_ANSWERS));
        }
        all
    }

    /// What EC2 tells goes to `all` as it comes.
    async fn of_ec2(
        &self,
        place: &Place,
        status: &proto::Status,
        me: &mut proto::Member,
        all: &mut Vec<Finding>,
    ) {
        let seen = self.look(place).await;
        all.extend(ec2::judge(&self.config(), &seen));
        if let Ok(tables) = &seen.tables {
            let tables: Vec<_> = tables.iter().map(|t| t.id.clone()).collect();
            let rehearsed = self.rehearse(place, status, me, &tables).await;
            all.extend(ec2::permissions(&tables, &me.rights, &rehearsed.created));
            all.extend(rehearsed.fix.and_then(|result| ec2::may_fix(&seen, &result)));
        }
    }

    /// What this member knows of itself before it belongs to a group.
    fn alone(&self) -> proto::Status {
        let config = self.config();
        let (health, health_reason) = {
            let health = self.health.borrow();
            let (word, reason) = picture::health(&health);
            (word.to_owned(), reason.to_owned())
        };
        let name = config.member.to_string();
        let witness = config.members.iter().any(|m| m.name == config.member && m.witness);
        let me =
            proto::Member { name: name.clone(), witness, health, health_reason, ..proto::Member::default() };
        proto::Status {
            cluster: config.cluster.to_string(),
            state: ALONE.to_owned(),
            seen_by: name,
            members: vec![me],
            ..proto::Status::default()
        }
    }
}

/// What the host's files say. There may be thousands of processes and sockets: they are read beside the thread on which
/// heartbeats wait.
async fn of_the_host(root: Root, config: Arc<Config>, witness: bool) -> Vec<Finding> {
    let read = move || {
        let mut all = certificate::tls(&root, &config, clock::wall());
        all.extend([host::scheduling(&root), host::locked_memory(&root)]);
        if !witness {
            all.extend(host_of_an_owner(&root, &config));
        }
        all
    };
    // A panic ends the process whole; nothing else takes the answer away.
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// What a member that may own needs of its host.
fn host_of_an_owner(root: &Root, config: &Config) -> Vec<Finding> {
    let own: Vec<_> = [Some(config.peer_listen), config.admin_listen, config.metrics_listen]
        .into_iter()
        .flatten()
        .collect();
    let mut all = vec![host::interface(root, &config.vip.interface)];
    all.extend(haproxy::bind(root, &config.vip.addresses, &own));
    all.extend(host::rp_filter(root, &config.vip.addresses));
    let families: BTreeSet<_> = config.vip.addresses.iter().map(|vip| host::family(*vip)).collect();
    for family in families {
        let of = config.vip.addresses.iter().find(|vip| host::family(**vip) == family);
        all.extend(of.map(|vip| host::ip_forward(root, *vip)));
    }
    all.extend(agents::agents(root, &config.vip.interface));
    all
}

/// `None`: EC2 said nothing about permission.
fn right(table: &RouteTableId, result: &Result<(), CloudError>) -> Option<proto::Right> {
    let denied = match result {
        Ok(()) => None,
        Err(error @ CloudError::Unauthorized { .. }) => Some(error.to_string()),
        Err(_) => return None,
    };
    Some(proto::Right {
        route_table: table.to_string(),
        allowed: denied.is_none(),
        age_ms: 0,
        error: denied.unwrap_or_default(),
    })
}

fn health(config: &Config, me: &proto::Member) -> Vec<Finding> {
    let check = "haproxy";
    if config.health.haproxy_socket.is_none() && config.health.http.is_none() {
        return vec![Finding::new(
            Level::Warn,
            check,
            "HAProxy is not checked",
            "an owner whose HAProxy is dead keeps the VIP",
            "set health.haproxy_socket, health.http or both",
        )];
    }
    vec![match me.health.as_str() {
        "healthy" => Finding::ok(check, "healthy"),
        "unhealthy" => Finding::new(
            Level::Fail,
            check,
            format!("unhealthy: {}", me.health_reason),
            "it would not serve the VIP",
            "systemctl status haproxy; haproxy -c -f /etc/haproxy/haproxy.cfg",
        ),
        _ => Finding::new(
            Level::Warn,
            check,
            format!("not known: {}", me.health_reason),
            "such an owner keeps the VIP, and such a member is the second choice for it",
            "see that health.haproxy_socket and health.http are right, and that vipd may open the socket",
        ),
    }]
}

fn address(status: &proto::Status, me: &proto::Member) -> Option<Finding> {
    let owns = status.owner.as_ref() == Some(&me.name) && status.state != "moving";
    let check = "address";
    match (owns, me.vip_local) {
        (true, true) => Some(Finding::ok(check, "the owner has the VIP")),
        (true, false) => Some(Finding::new(
            Level::Fail,
            check,
            "this member owns the VIP, and the address is not on its interface",
            "HAProxy's answers do not come from the VIP",
            "journalctl -u vipd; who takes it away? ip monitor address",
        )),
        (false, true) if status.state != "moving" && status.state != "no-quorum" => Some(Finding::new(
            Level::Warn,
            check,
            "this member does not own the VIP, and has the address",
            "its own connections to the VIP stay here instead of reaching the owner",
            "wait for a move to end; who puts it there? ip monitor address",
        )),
        (false, _) => None,
    }
}

impl Examiner for Doctor {
    fn iam_policies(&self, status: proto::Status) -> BoxFuture<'_, proto::IamPolicies> {
        Box::pin(async move {
            let all = self.policies(status).await;
            let text = |policy| serde_json::to_string_pretty(policy).unwrap_or_default();
            proto::IamPolicies { instance: text(&all.instance), routes: all.routes.as_ref().map(text) }
        })
    }

    fn examine(&self, status: proto::Status) -> BoxFuture<'_, Vec<proto::Finding>> {
        Box::pin(async move {
            let config = self.config();
            let name = config.member.as_str();
            self.findings(status).await.into_iter().map(|finding| finding.of(name)).collect()
        })
    }

    fn waits(&self) -> String {
        self.waits.borrow().clone()
    }

    fn examine_alone(&self) -> BoxFuture<'_, proto::Diagnosis> {
        Box::pin(async move {
            let status = self.alone();
            let cluster = status.cluster.clone();
            let mine = self.examine(status).await;
            let group = group::none(&self.waits()).of("");
            proto::Diagnosis { cluster, findings: std::iter::once(group).chain(mine).collect() }
        })
    }

    fn examine_group(&self, status: &proto::Status, answered: &BTreeSet<String>) -> Vec<proto::Finding> {
        group::judge(status, answered).into_iter().map(|finding| finding.of("")).collect()
    }
}
