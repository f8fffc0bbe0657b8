//! Every relation between the file's values, checked in one place and reported together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::raw::{Raw, Table};
use super::reason::Reason;
use super::report::{ConfigError, Text};
use super::{Config, Host, MEMBER_ENV, Member, OnQuorumLoss, Policy};
use crate::model::{Name, USUAL_PRIORITY, Vip};
pub use tls::key_exposure;
pub use values::reachable_address;
use values::{Checker, host_of};

mod cloud;
mod timing;
mod tls;
mod values;

/// A [`Config`], or everything that is wrong. `env_member` goes before the file's `member`.
pub(super) fn check(
    raw: &Raw,
    text: Text,
    env_member: Option<String>,
    host: Host,
) -> Result<Config, ConfigError> {
    let mut c = Checker::new(text);
    let config = assemble(&mut c, raw, env_member, host);
    match (config, c.into_mistakes()) {
        (Some(config), mistakes) if mistakes.is_empty() => Ok(config),
        (_, mistakes) => Err(ConfigError::new(mistakes)),
    }
}

/// Runs every check before it gives up on any.
fn assemble(c: &mut Checker, raw: &Raw, env_member: Option<String>, host: Host) -> Option<Config> {
    let cluster = c.required(&raw.cluster, "cluster", "cluster = \"edge\"", None);
    let cluster: Option<Name> = cluster.and_then(|v| c.parsed("cluster", v));
    let data_dir = c.path("data_dir", &raw.data_dir);
    let members = members(c, raw);
    let member = this_member(c, raw, env_member);
    let listens = listens(c, raw);
    let admin_socket = admin_socket(c, raw);
    let admin_group =
        inner(&raw.admin).and_then(|admin| admin.group.as_ref()).and_then(|v| c.group("admin.group", v));
    let vip = cloud::vip(c, &raw.vip);
    let aws = cloud::aws(c, &raw.aws);
    if let (Some(vip), Some(aws)) = (&vip, &aws) {
        cloud::routes(c, raw, vip, aws);
    }
    let timing = timing::timing(c, inner(&raw.raft));
    let health = timing::health(c, inner(&raw.health));
    let policy = policy(c, raw);
    let tls = tls::tls(c, &raw.tls, host);
    let log = log_filter(c, raw);
    if let Some(vip) = &vip {
        not_on_a_vip(c, raw, &vip.addresses);
    }
    Some(Config {
        cluster: cluster?,
        member: member?,
        data_dir: data_dir.unwrap_or_else(|| "/var/lib/vipd".into()),
        peer_listen: listens.peer?,
        admin_listen: listens.admin,
        admin_socket,
        admin_group,
        members: members?,
        vip: vip?,
        aws: aws?,
        timing: timing?,
        health,
        policy,
        tls: tls?,
        metrics_listen: listens.metrics,
        log,
    })
}

pub(super) fn inner<T>(table: &Table<T>) -> Option<&T> {
    table.as_ref().map(toml::Spanned::get_ref)
}

/// Refuses a value that was there before, with both places.
struct Unique {
    what: &'static str,
    seen: BTreeMap<String, Range<usize>>,
}

impl Unique {
    fn new(what: &'static str) -> Self {
        Self { what, seen: BTreeMap::new() }
    }

    fn add(&mut self, c: &mut Checker, value: String, span: Range<usize>) {
        if let Some(first) = self.seen.get(&value) {
            let places = vec![(span, "here again"), (first.clone(), "first here")];
            c.refuse(Reason::Twice { what: self.what, value }, places);
        } else {
            self.seen.insert(value, span);
        }
    }
}

fn members(c: &mut Checker, raw: &Raw) -> Option<Vec<Member>> {
    const EXAMPLE: &str = "[[members]] with name = \"az-a\" and peer = \"10.0.1.10:7400\"";
    if raw.members.is_empty() {
        c.refuse(Reason::Missing { key: "[[members]]", example: EXAMPLE }, vec![]);
        return None;
    }
    let mut names = Unique::new("the member name");
    let mut peers = Unique::new("the peer address");
    let mut members = Vec::new();
    for entry in &raw.members {
        let m = entry.get_ref();
        let at = Some(entry.span());
        let name = c.required(&m.name, "members.name", "name = \"az-a\"", at.clone());
        let name: Option<Name> = name.and_then(|v| {
            names.add(c, v.get_ref().clone(), v.span());
            c.parsed("members.name", v)
        });
        let peer = c.required(&m.peer, "members.peer", "peer = \"10.0.1.10:7400\"", at);
        let peer = peer.and_then(|v| {
            let peer = c.host_port("members.peer", v)?;
            peers.add(c, peer.to_ascii_lowercase(), v.span());
            Some(peer)
        });
        let admin = m.admin.as_ref().and_then(|v| c.host_port("members.admin", v));
        let zone: Option<Name> = m.zone.as_ref().and_then(|v| c.parsed("members.zone", v));
        let priority = c.number("members.priority", &m.priority, u64::from(USUAL_PRIORITY), 0..=1000);
        if let (Some(name), Some(peer)) = (name, peer) {
            members.push(Member {
                name,
                peer,
                admin,
                zone: zone.map(String::from),
                priority: u32::try_from(priority).unwrap_or(USUAL_PRIORITY),
                witness: m.witness.as_ref().is_some_and(|w| *w.get_ref()),
            });
        }
    }
    let witnesses = raw.members.iter().filter_map(|m| m.get_ref().witness.as_ref());
    let witnesses: Vec<_> = witnesses.filter(|w| *w.get_ref()).map(|w| (w.span(), "witness")).collect();
    if witnesses.len() == raw.members.len() {
        c.refuse(Reason::OnlyWitnesses, witnesses);
    }
    Some(members)
}

fn this_member(c: &mut Checker, raw: &Raw, env_member: Option<String>) -> Option<Name> {
    let (name, places) = if let Some(name) = env_member {
        match name.parse::<Name>() {
            Ok(name) => (name, vec![]),
            Err(source) => {
                c.refuse(Reason::Parse { key: MEMBER_ENV, source }, vec![]);
                return None;
            }
        }
    } else {
        let example = "member = \"az-a\" (or VIPD_MEMBER=az-a in the environment)";
        let value = c.required(&raw.member, "member", example, None)?;
        (c.parsed::<Name>("member", value)?, vec![(value.span(), "not in the list")])
    };
    let names = raw.members.iter().filter_map(|m| m.get_ref().name.as_ref());
    let names: Vec<&str> = names.map(|n| n.get_ref().as_str()).collect();
    // Without any name the list itself is the mistake, and named as one already.
    if !names.is_empty() && !names.contains(&name.as_str()) {
        let reason = Reason::NotAMember { member: name.to_string(), names: names.join(", ") };
        c.refuse(reason, places);
        return None;
    }
    Some(name)
}

struct Listens {
    peer: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

fn listens(c: &mut Checker, raw: &Raw) -> Listens {
    let at = raw.peer.as_ref().map(toml::Spanned::span);
    let listen = inner(&raw.peer).map_or(&None, |p| &p.listen);
    let peer = c.required(listen, "peer.listen", "[peer] with listen = \"10.0.1.10:7400\"", at);
    let listeners = [
        ("peer.listen", peer),
        ("admin.listen", inner(&raw.admin).and_then(|t| t.listen.as_ref())),
        ("metrics.listen", inner(&raw.metrics).and_then(|t| t.listen.as_ref())),
    ];
    let mut seen: Vec<(&'static str, SocketAddr, Range<usize>)> = Vec::new();
    let [peer, admin, metrics] = listeners.map(|(key, value)| {
        let value = value?;
        let address = c.listen(key, value)?;
        if let Some((first, _, there)) = seen.iter().find(|(_, other, _)| clash(*other, address)) {
            let places = vec![(value.span(), "cannot listen here too"), (there.clone(), "taken")];
            let value = value.get_ref().clone();
            c.refuse(Reason::SharedListen { first, second: key, value }, places);
        }
        seen.push((key, address, value.span()));
        Some(address)
    });
    Listens { peer, admin, metrics }
}

/// Whether the second bind(2) would fail with EADDRINUSE. Port 0 never does: the kernel chooses.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || everywhere)
}

fn admin_socket(c: &mut Checker, raw: &Raw) -> Option<std::path::PathBuf> {
    match inner(&raw.admin).and_then(|admin| admin.socket.as_ref()) {
        None => Some("/run/vipd/admin.sock".into()),
        // The way to have none.
        Some(path) if path.get_ref().is_empty() => None,
        Some(path) => c.socket_path("admin.socket", path),
    }
}

fn policy(c: &mut Checker, raw: &Raw) -> Policy {
    let policy = inner(&raw.policy);
    let choices = [("hold", OnQuorumLoss::Hold), ("release", OnQuorumLoss::Release)];
    let on_quorum_loss = policy.map_or(&None, |p| &p.on_quorum_loss);
    // A day: beyond it a hold is a pause, which is a verb of its own.
    let min_hold = policy.map_or(&None, |p| &p.min_hold_s);
    let min_hold = c.number("policy.min_hold_s", min_hold, 10, 0..=86_400);
    Policy {
        on_quorum_loss: c
            .choice("policy.on_quorum_loss", on_quorum_loss, "hold, release", &choices)
            .unwrap_or(OnQuorumLoss::Hold),
        failback: policy.and_then(|p| p.failback.as_ref()).is_some_and(|f| *f.get_ref()),
        min_hold: std::time::Duration::from_secs(min_hold),
    }
}

fn log_filter(c: &mut Checker, raw: &Raw) -> Option<String> {
    let filter = inner(&raw.log)?.filter.as_ref()?;
    let value = filter.get_ref().clone();
    if let Err(source) = tracing_subscriber::EnvFilter::builder().parse(&value) {
        c.refuse(Reason::LogFilter { value, source }, vec![(filter.span(), "this filter")]);
        return None;
    }
    Some(value)
}

/// The VIP moves, so that nothing which means one member may stand on it: it would fail on every
/// other member, or mean another one. A standby whose check asks the VIP sees the owner's HAProxy.
fn not_on_a_vip(c: &mut Checker, raw: &Raw, vips: &[Vip]) {
    let mut places = vec![
        ("peer.listen", inner(&raw.peer).and_then(|t| t.listen.as_ref())),
        ("admin.listen", inner(&raw.admin).and_then(|t| t.listen.as_ref())),
        ("metrics.listen", inner(&raw.metrics).and_then(|t| t.listen.as_ref())),
        ("health.http", inner(&raw.health).and_then(|t| t.http.as_ref())),
    ];
    for member in &raw.members {
        places.push(("members.peer", member.get_ref().peer.as_ref()));
        places.push(("members.admin", member.get_ref().admin.as_ref()));
    }
    for (key, value) in places {
        let Some(value) = value else { continue };
        let ip = host_of(value.get_ref()).parse::<IpAddr>();
        if let Some(vip) = vips.iter().find(|vip| ip == Ok(vip.ip())) {
            let reason = Reason::OnTheVip { key, value: value.get_ref().clone(), vip: vip.to_string() };
            c.refuse(reason, vec![(value.span(), "this is the VIP")]);
        }
    }
}
