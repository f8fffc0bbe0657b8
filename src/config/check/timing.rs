//! `[raft]` and `[health]`: the timings, and the inequalities that the lease rests on.

use std::time::Duration;

use super::values::Checker;
use crate::config::raw;
use crate::config::reason::Reason;
use crate::config::report::Place;
use crate::config::{HealthConfig, Timing};

/// Heartbeat, election min and max, in ms (DESIGN.md section 6).
type Profile = (u64, u64, u64);
const PROFILES: [(&str, Profile); 3] =
    [("steady", (50, 150, 300)), ("balanced", (30, 100, 200)), ("fast", (20, 60, 120))];
const BALANCED: Profile = (30, 100, 200);

/// A minute: the longest lease, so also the longest silence before a failover and after a start.
const MAX_ELECTION_MS: u64 = 60_000;

/// `None` where any relation does not hold.
pub(super) fn timing(c: &mut Checker, raft: Option<&raw::Raft>) -> Option<Timing> {
    let profile = raft.map_or(&None, |r| &r.profile);
    let profile = c.choice("raft.profile", profile, "steady, balanced, fast", &PROFILES);
    let (heartbeat, min, max) = profile.unwrap_or(BALANCED);
    // Below 5 ms the heartbeats of a busy host come late as a matter of course.
    let heartbeat_ms = raft.map_or(&None, |r| &r.heartbeat_ms);
    let heartbeat = c.number("raft.heartbeat_ms", heartbeat_ms, heartbeat, 5..=MAX_ELECTION_MS);
    let (min, max) = election(c, raft, (min, max))?;
    let places = places(raft);
    let timing = Timing {
        heartbeat: Duration::from_millis(heartbeat),
        election_min: Duration::from_millis(min),
        election_max: Duration::from_millis(max),
    };
    let mut holds = true;
    if min >= max {
        c.refuse(Reason::ElectionOrder { min, max }, places.clone());
        holds = false;
    }
    // A follower must be able to miss one heartbeat without campaigning (Raft paper, section 5.6:
    // broadcast time << election timeout).
    if 2 * heartbeat >= min {
        c.refuse(Reason::HeartbeatElection { heartbeat, min }, places.clone());
        holds = false;
    }
    // And the leader one acknowledgement without losing its permit (FENCING.md, F-a).
    if timing.heartbeat * 2 >= timing.usable_lease() {
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        let reason = Reason::LeaseTooShort {
            heartbeat,
            lease: max,
            drift: ms(timing.lease() / 100),
            margin: ms(timing.margin()),
            left: ms(timing.usable_lease()),
        };
        c.refuse(reason, places);
        holds = false;
    }
    holds.then_some(timing)
}

/// The pair of the file, or else of the profile.
fn election(c: &mut Checker, raft: Option<&raw::Raft>, profile: (u64, u64)) -> Option<(u64, u64)> {
    let Some(list) = raft.and_then(|r| r.election_ms.as_ref()) else { return Some(profile) };
    let [min, max] = list.get_ref().as_slice() else {
        let reason = Reason::ElectionCount { count: list.get_ref().len() };
        c.refuse(reason, vec![(list.span(), "not [least, most]")]);
        return None;
    };
    let mut checked = |value: &toml::Spanned<i64>| {
        let number = u64::try_from(*value.get_ref()).ok();
        let number = number.filter(|n| (1..=MAX_ELECTION_MS).contains(n));
        if number.is_none() {
            // As any number out of range; the default does not matter, since the file is refused.
            c.number("raft.election_ms", &Some(value.clone()), 0, 1..=MAX_ELECTION_MS);
        }
        number
    };
    let (min, max) = (checked(min), checked(max));
    Some((min?, max?))
}

/// The keys that have a say in the timings.
fn places(raft: Option<&raw::Raft>) -> Vec<Place> {
    let Some(raft) = raft else { return vec![] };
    let mut places: Vec<Place> = Vec::new();
    places.extend(raft.heartbeat_ms.as_ref().map(|v| (v.span(), "heartbeat")));
    places.extend(raft.election_ms.as_ref().map(|v| (v.span(), "election min and max")));
    places.extend(raft.profile.as_ref().map(|v| (v.span(), "the profile for what is not given")));
    places
}

pub(super) fn health(c: &mut Checker, health: Option<&raw::Health>) -> HealthConfig {
    // A minute and a hundred: what is slower or more patient than that is not a check.
    let interval = health.map_or(&None, |h| &h.interval_ms);
    let interval = c.number("health.interval_ms", interval, 500, 1..=60_000);
    let timeout = health.map_or(&None, |h| &h.timeout_ms);
    let timeout = c.number("health.timeout_ms", timeout, 500, 1..=60_000);
    let fall = c.number("health.fall", health.map_or(&None, |h| &h.fall), 2, 1..=100);
    let rise = c.number("health.rise", health.map_or(&None, |h| &h.rise), 2, 1..=100);
    let socket = health.and_then(|h| h.haproxy_socket.as_ref());
    let http = health.and_then(|h| h.http.as_ref());
    HealthConfig {
        haproxy_socket: socket.and_then(|v| c.socket_path("health.haproxy_socket", v)),
        http: http.and_then(|v| {
            c.url(v, &["http://"], |value| Reason::NotUrl {
                key: "health.http",
                value,
                wanted: "a plain http",
                example: "\"http://127.0.0.1:8404/healthz\"; the check does not speak TLS",
            })
        }),
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(timeout),
        fall: u32::try_from(fall).unwrap_or(2),
        rise: u32::try_from(rise).unwrap_or(2),
    }
}
