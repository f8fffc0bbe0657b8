//! What Prometheus reads: as promtool wants it, everything of the contract, and all that the alerts and the dashboard
//! name.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::{BOUND, Lab, MEMBERS, holds, text, until};
use crate::status::others;
use crate::tool::tool;

/// DESIGN's list.
const CONTRACT: [&str; 16] = [
    "vipd_build_info",
    "vipd_term",
    "vipd_is_leader",
    "vipd_is_owner",
    "vipd_has_leader",
    "vipd_lease_remaining_seconds",
    "vipd_peer_lag_entries{member}",
    "vipd_route_in_sync{vip,route_table}",
    "vipd_route_repairs_total",
    "vipd_ec2_requests_total{operation,outcome}",
    "vipd_ec2_request_duration_seconds_bucket{operation}",
    "vipd_fenced_calls_total{reason}",
    "vipd_moves_total{kind,reason}",
    "vipd_move_phase_seconds_bucket{phase}",
    "vipd_haproxy_healthy",
    "vipd_certificate_expiry_seconds",
];

impl Lab {
    /// Waits until a member shows one series at this value, or not at all.
    pub fn gauge_is(&self, member: &str, series: &str, value: Option<&str>) {
        until(&format!("{series} of {member} is {value:?}"), BOUND, || {
            let (_, metrics) = self.get(member, "127.0.0.1:9407", "/metrics")?;
            let shown = metrics.lines().find_map(|l| l.strip_prefix(series)).map(str::trim);
            holds(shown == value, || format!("{shown:?}"))
        });
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Everything in a text that looks like a metric of vipd's.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|w| w.starts_with("vipd_")).map(str::to_owned).collect()
}

fn check(metrics: &str) {
    let mut promtool = Command::new(tool("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}\n{metrics}", text(&output.stderr));
}

#[test]
fn promtool_takes_the_metrics_and_none_is_missing() {
    let lab = Lab::up("metrics");
    let owner = lab.steady();
    let to = others(&owner)[0];
    assert_eq!(lab.vipctl_json(&owner, &["transfer-leader", "--to", to]).0, 0);
    lab.steady();
    for member in MEMBERS {
        let (code, metrics) = lab.get(member, "127.0.0.1:9407", "/metrics").unwrap();
        assert_eq!(code, 200);
        check(&metrics);
    }

    let wanted = [
        "vipd_moves_total{kind=\"switchover\",reason=\"operator\"} 1",
        "vipd_move_phase_seconds_count{phase=\"route\"} 1",
        "vipd_ec2_requests_total{operation=\"ReplaceRoute\",outcome=\"ok\"} 3",
        "vipd_route_in_sync{route_table=\"rtb-0c\",vip=\"192.168.77.10/32\"} 1",
        "vipd_peer_lag_entries{member=\"az-a\"} 0",
        // What has not come yet is there.
        "vipd_moves_total{kind=\"failover\",reason=\"leader-lost\"} 0",
        "vipd_moves_total{kind=\"switchover\",reason=\"drain\"} 0",
        "vipd_moves_total{kind=\"switchover\",reason=\"ec2\"} 0",
        "vipd_moves_total{kind=\"switchover\",reason=\"failback\"} 0",
        "vipd_moves_total{kind=\"switchover\",reason=\"health\"} 0",
        "vipd_moves_total{kind=\"switchover\",reason=\"membership\"} 0",
        "vipd_moves_total{kind=\"switchover\",reason=\"not-eligible\"} 0",
        "vipd_moves_total{kind=\"switchover\",reason=\"permission\"} 0",
        "vipd_moves_total{kind=\"switchover\",reason=\"stop\"} 0",
    ];
    // The gauges by route and by member are set once a second.
    let metrics = until("everything is counted", BOUND, || {
        let (_, metrics) = lab.get(to, "127.0.0.1:9407", "/metrics")?;
        let missing = wanted.iter().find(|wanted| !metrics.lines().any(|line| line == **wanted));
        holds(missing.is_none(), || format!("{missing:?} in {metrics}")).map(|()| metrics)
    });
    let samples: Vec<_> = metrics.lines().filter(|l| !l.starts_with('#')).collect();
    for metric in CONTRACT {
        let (name, labels) = metric.trim_end_matches('}').split_once('{').unwrap_or((metric, ""));
        let all_labels = |s: &&str| labels.split(',').all(|l| l.is_empty() || s.contains(&format!("{l}=\"")));
        let has = |s: &&str| s.split(['{', ' ']).next() == Some(name);
        assert!(samples.iter().filter(|s| has(s)).any(|s| all_labels(&s)), "{metric} is missing: {metrics}");
    }

    let there: BTreeSet<_> =
        samples.iter().filter_map(|s| s.split(['{', ' ']).next()).map(str::to_owned).collect();
    let dashboard: Value = serde_json::from_str(&read("cluster/grafana/vipd.json")).unwrap();
    let mut used = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let expressions: Vec<_> =
            panel["targets"].as_array().unwrap().iter().map(|t| t["expr"].as_str().unwrap()).collect();
        assert!(!expressions.is_empty(), "{} shows nothing", panel["title"]);
        used.extend(expressions.into_iter().flat_map(named));
    }
    used.extend(named(&dashboard["templating"].to_string()));
    assert!(used.len() >= 12, "{used:?}");
    let rules = read("cluster/prometheus/vipd-alerts.yml");
    used.extend(rules.lines().filter_map(|l| l.trim().strip_prefix("expr: ")).flat_map(named));
    let absent: Vec<_> = used.difference(&there).collect();
    assert!(absent.is_empty(), "named, but not there: {absent:?}");
}
