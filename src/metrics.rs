//! The counters and gauges of the contract, in the Prometheus text format.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// A gauge of seconds.
type Seconds = Gauge<f64, AtomicU64>;

/// Everything that is counted. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub term: Gauge,
    pub is_leader: Gauge,
    pub is_owner: Gauge,
    pub has_leader: Gauge,
    pub lease_remaining: Seconds,
    pub haproxy_healthy: Gauge,
    pub repairs: Counter,
    peer_lag: Family<MemberLabel, Gauge>,
    route_in_sync: Family<RouteLabels, Gauge>,
    requests: Family<RequestLabels, Counter>,
    request_time: Family<OperationLabel, Histogram>,
    fenced: Family<ReasonLabel, Counter>,
    moves: Family<MoveLabels, Counter>,
    phases: Family<PhaseLabel, Histogram>,
}

macro_rules! labels {
    ($($name:ident { $($field:ident),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($field: String),+ }
    )+};
}
labels! {
    MemberLabel { member }
    RouteLabels { vip, route_table }
    RequestLabels { operation, outcome }
    OperationLabel { operation }
    ReasonLabel { reason }
    MoveLabels { kind, reason }
    PhaseLabel { phase }
}

/// From 1 ms to 8 s, by doubling: a move in one region takes 10 ms to 1 s.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut r = Registry::with_prefix("vipd");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The version that runs", build);
        macro_rules! add {
            ($metric:expr, $name:literal, $help:literal) => {{
                let metric = $metric;
                r.register($name, $help, metric.clone());
                metric
            }};
        }
        let term = add!(Gauge::default(), "term", "Raft's term");
        let is_leader = add!(Gauge::default(), "is_leader", "1 on the leader");
        let is_owner = add!(Gauge::default(), "is_owner", "1 on the owner of the VIP");
        let has_leader = add!(Gauge::default(), "has_leader", "1 where a leader is known");
        let lease_remaining = add!(
            Seconds::default(),
            "lease_remaining_seconds",
            "Until the owner's lease ends; 0 where there is none"
        );
        let haproxy_healthy =
            add!(Gauge::default(), "haproxy_healthy", "0 where HAProxy is known to be unhealthy");
        let repairs = add!(Counter::default(), "route_repairs", "Routes put right outside a move");
        let peer_lag =
            add!(Family::default(), "peer_lag_entries", "Log entries a member is behind the leader");
        let route_in_sync = add!(Family::default(), "route_in_sync", "1 where the route points at the owner");
        let requests = add!(Family::default(), "ec2_requests", "Requests to EC2 by outcome");
        let request_time = add!(
            Family::new_with_constructor(buckets as fn() -> Histogram),
            "ec2_request_duration_seconds",
            "How long EC2 took to answer"
        );
        let fenced = add!(Family::default(), "fenced_calls", "Calls to EC2 that the fence stopped");
        let moves = add!(Family::default(), "moves", "Moves of the VIP onto this member");
        let phases = add!(
            Family::new_with_constructor(buckets as fn() -> Histogram),
            "move_phase_seconds",
            "How long each phase of a move onto this member took"
        );
        Self {
            registry: Arc::new(r),
            term,
            is_leader,
            is_owner,
            has_leader,
            lease_remaining,
            haproxy_healthy,
            repairs,
            peer_lag,
            route_in_sync,
            requests,
            request_time,
            fenced,
            moves,
            phases,
        }
    }
}

impl Metrics {
    pub fn peer_lag(&self, member: &str, entries: u64) {
        let label = MemberLabel { member: member.to_owned() };
        self.peer_lag.get_or_create(&label).set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    pub fn route_in_sync(&self, vip: &str, route_table: &str, in_sync: bool) {
        let labels = RouteLabels { vip: vip.to_owned(), route_table: route_table.to_owned() };
        self.route_in_sync.get_or_create(&labels).set(i64::from(in_sync));
    }

    pub fn request(&self, operation: &str, outcome: &str, took: Duration) {
        let operation = operation.to_owned();
        self.request_time
            .get_or_create(&OperationLabel { operation: operation.clone() })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { operation, outcome: outcome.to_owned() }).inc();
    }

    pub fn fenced(&self, reason: &str) {
        self.fenced.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    pub fn moved(&self, kind: &str, reason: &str) {
        self.moves.get_or_create(&MoveLabels { kind: kind.to_owned(), reason: reason.to_owned() }).inc();
    }

    pub fn phase(&self, phase: &str, took: Duration) {
        self.phases.get_or_create(&PhaseLabel { phase: phase.to_owned() }).observe(took.as_secs_f64());
    }

    /// All of it, as Prometheus reads it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
