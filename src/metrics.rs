//! The counters and gauges of the contract, in the Prometheus text format.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TEXT_FORMAT, TextEncoder, exponential_buckets,
};

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = TEXT_FORMAT;

/// The phases of a move, in their order.
const PHASES: [&str; 6] = ["detect", "elect", "claim", "address", "route", "verify"];

/// Two metrics of one name, or one that no Prometheus reads.
#[derive(Debug, thiserror::Error)]
#[error("a metric cannot be registered: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// Everything that is counted. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    pub term: IntGauge,
    pub is_leader: IntGauge,
    pub is_owner: IntGauge,
    pub has_leader: IntGauge,
    pub lifelines: IntGauge,
    pub lease_remaining: Gauge,
    pub lease_lowest: Gauge,
    pub haproxy_healthy: IntGauge,
    pub haproxy_known: IntGauge,
    pub may_own: IntGauge,
    pub is_witness: IntGauge,
    pub paused: IntGauge,
    pub config_refused: IntGauge,
    pub learner_for: IntGauge,
    pub repairs: IntCounter,
    pub address_repairs: IntCounter,
    certificate: GaugeVec,
    peer_lag: IntGaugeVec,
    route_in_sync: IntGaugeVec,
    requests: IntCounterVec,
    request_time: HistogramVec,
    fenced: IntCounterVec,
    moves: IntCounterVec,
    phases: HistogramVec,
}

/// From 1 ms to 8 s, by doubling: a move in one region takes 10 ms to 1 s.
fn histogram(name: &str, help: &str) -> Result<HistogramOpts, MetricsError> {
    Ok(HistogramOpts::new(name, help).buckets(exponential_buckets(0.001, 2.0, 14)?))
}

fn add<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> Result<M, MetricsError> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

impl Metrics {
    pub fn new() -> Result<Self, MetricsError> {
        let r = Registry::new();
        let gauge = |name: &str, help: &str| add(&r, IntGauge::new(name, help));
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(&r, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            add(&r, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let build = gauges("vipd_build_info", "The version that runs", &["version"])?;
        build.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?.set(1);
        Ok(Self {
            term: gauge("vipd_term", "Raft's term")?,
            is_leader: gauge("vipd_is_leader", "1 on the leader")?,
            is_owner: gauge("vipd_is_owner", "1 on the owner of the VIP")?,
            lifelines: gauge(
                "vipd_lifelines",
                "Lifelines with an end here: on a follower its own to the leader, on the leader one of each other member",
            )?,
            has_leader: gauge("vipd_has_leader", "1 where a leader is known")?,
            lease_remaining: add(
                &r,
                Gauge::new(
                    "vipd_lease_remaining_seconds",
                    "Until the owner's lease ends; 0 where there is none",
                ),
            )?,
            lease_lowest: add(
                &r,
                Gauge::new(
                    "vipd_lease_lowest_seconds",
                    "The least that was left of the owner's lease within the last 15 to 30 s; 0 where there was none",
                ),
            )?,
            haproxy_healthy: gauge("vipd_haproxy_healthy", "0 where HAProxy is known to be unhealthy")?,
            haproxy_known: gauge(
                "vipd_haproxy_known",
                "0 where it is not known whether HAProxy is healthy: no check has an answer",
            )?,
            may_own: gauge(
                "vipd_may_own",
                "0 where this member may not own the VIP; vipctl status says why",
            )?,
            is_witness: gauge("vipd_is_witness", "1 on a member that votes and is never to own")?,
            paused: gauge("vipd_paused", "1 while operators keep the group from moving")?,
            config_refused: gauge(
                "vipd_config_refused",
                "1 where the file was refused when it was read again: the one before is in force",
            )?,
            learner_for: gauge(
                "vipd_learner_for_seconds",
                "How long a member has been a learner that no change under way makes a voter; 0 where none is, and on all but the leader",
            )?,
            repairs: add(&r, IntCounter::new("vipd_route_repairs_total", "Routes put right outside a move"))?,
            address_repairs: add(
                &r,
                IntCounter::new(
                    "vipd_address_repairs_total",
                    "Times that somebody took the address away from the owner and it was put back",
                ),
            )?,
            certificate: add(
                &r,
                GaugeVec::new(
                    Opts::new(
                        "vipd_certificate_expiry_seconds",
                        "Until this member's certificate ends, less than 0 where it is over; absent without TLS",
                    ),
                    &[],
                ),
            )?,
            peer_lag: gauges(
                "vipd_peer_lag_entries",
                "Log entries a member is behind the leader",
                &["member"],
            )?,
            route_in_sync: gauges(
                "vipd_route_in_sync",
                "1 where the route points at the owner",
                &["vip", "route_table"],
            )?,
            requests: counters(
                "vipd_ec2_requests_total",
                "Requests to EC2 by outcome",
                &["operation", "outcome"],
            )?,
            request_time: add(
                &r,
                HistogramVec::new(
                    histogram("vipd_ec2_request_duration_seconds", "How long EC2 took to answer")?,
                    &["operation"],
                ),
            )?,
            fenced: counters(
                "vipd_fenced_calls_total",
                "Calls to EC2 that the fence stopped: before a byte left, or half-way (dropped)",
                &["reason"],
            )?,
            moves: counters("vipd_moves_total", "Moves of the VIP onto this member", &["kind", "reason"])?,
            phases: add(
                &r,
                HistogramVec::new(
                    histogram(
                        "vipd_move_phase_seconds",
                        "How long each phase of a move onto this member took",
                    )?,
                    &["phase"],
                ),
            )?,
            registry: r,
        })
    }

    /// Counters start at 0 and not with the first event, which `increase()` would not see.
    pub fn start_at_zero(&self, moves: &[(&str, &str)], fences: &[&str]) {
        for (kind, reason) in moves {
            self.moves.with_label_values(&[*kind, *reason]);
        }
        for reason in fences {
            self.fenced.with_label_values(&[*reason]);
        }
        for phase in PHASES {
            self.phases.with_label_values(&[phase]);
        }
    }

    /// Seconds until this member's certificate ends.
    pub fn certificate_expiry(&self, seconds: f64) {
        self.certificate.with_label_values::<&str>(&[]).set(seconds);
    }

    pub fn peer_lag(&self, member: &str, entries: u64) {
        self.peer_lag.with_label_values(&[member]).set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    pub fn route_in_sync(&self, vip: &str, route_table: &str, in_sync: bool) {
        self.route_in_sync.with_label_values(&[vip, route_table]).set(i64::from(in_sync));
    }

    /// Members that have left and route tables that are no longer looked at show no more: what is there is set anew.
    pub fn forget_picture(&self) {
        self.peer_lag.reset();
        self.route_in_sync.reset();
    }

    pub fn request(&self, operation: &str, outcome: &str, took: Duration) {
        self.request_time.with_label_values(&[operation]).observe(took.as_secs_f64());
        self.requests.with_label_values(&[operation, outcome]).inc();
    }

    pub fn fenced(&self, reason: &str) {
        self.fenced.with_label_values(&[reason]).inc();
    }

    /// How many calls were fenced for that reason.
    pub fn fenced_calls(&self, reason: &str) -> u64 {
        self.fenced.with_label_values(&[reason]).get()
    }

    pub fn moved(&self, kind: &str, reason: &str) {
        self.moves.with_label_values(&[kind, reason]).inc();
    }

    pub fn phase(&self, phase: &str, took: Duration) {
        self.phases.with_label_values(&[phase]).observe(took.as_secs_f64());
    }

    /// All of it, as Prometheus reads it.
    pub fn text(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}
