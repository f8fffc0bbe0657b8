//! vipd.toml: what is accepted, and how what is not is refused. Numbers are those of FAULTS.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use vipd::config::{Config, ConfigError};

mod accepted;
mod faults;
mod iam;
mod reload;
mod values;

/// The contract's example (DESIGN.md section 6), as it stands there but for the TLS files' home.
const CONTRACT: &str = r#"
cluster  = "edge"                  # carried by every RPC; another cluster's member is refused
member   = "az-a"                  # or VIPD_MEMBER
data_dir = "/var/lib/vipd"

[peer]
listen = "10.0.1.10:7400"          # Raft, members only
[admin]
listen = "10.0.1.10:7401"          # operators; optional
socket = "/run/vipd/admin.sock"    # operators on this host

[[members]]                        # the same list on every member; seeds the group, then the Raft membership rules
name     = "az-a"
peer     = "10.0.1.10:7400"
admin    = "10.0.1.10:7401"
zone     = "eu-west-1a"            # default: from IMDS
priority = 100                     # a higher one is the better target of a move
witness  = false                   # votes, never owns

[vip]
addresses  = ["192.168.77.10/32"]  # IPv4 /32, IPv6 /128
interface  = "lo"
lifetime_s = 0                     # 0: no kernel lifetime

[aws]
region             = "eu-west-1"   # default: IMDS
route_tables       = ["rtb-0a", "rtb-0b"]
route_table_tag    = "vipd:cluster=edge"   # and/or, looked up again every reconcile
eni                = "eni-0a"      # default: IMDS, the ENI of the primary interface
endpoint_url       = "http://10.0.0.2:5000"
assume_role_arn    = "arn:aws:iam::123456789012:role/routes"   # route tables of another account
create_missing     = false         # CreateRoute where the route is missing
source_dest_check  = "verify"      # verify | fix | ignore
attempt_timeout_ms = 1000
reconcile_s        = 10
warm_connections   = 8

[raft]
profile = "balanced"               # steady 50/150-300 | balanced 30/100-200 | fast 20/60-120 (heartbeat/election, ms)
heartbeat_ms = 30                  # either key overrides its profile
election_ms  = [100, 200]

[health]                           # any subset; none: always healthy
haproxy_socket = "/run/haproxy/admin.sock"
http           = "http://127.0.0.1:8404/healthz"
interval_ms    = 500
timeout_ms     = 500
fall = 2
rise = 2

[policy]
on_quorum_loss = "hold"            # hold | release
failback       = false             # true: go back to the highest priority once healthy
min_hold_s     = 10

[tls]                              # without it vipd refuses to start, unless insecure = true
ca = "/etc/vipd/ca.pem"
cert = "/etc/vipd/az-a.pem"
key = "/etc/vipd/az-a.key"
insecure = false

[metrics]
listen = "127.0.0.1:9407"          # /metrics /livez /readyz /leader (200 on the owner, 503 elsewhere)
"#;

/// The least that is accepted.
const LEAST: &str = r#"cluster = "edge"
member = "az-a"
[peer]
listen = "10.0.1.10:7400"
[[members]]
name = "az-a"
peer = "10.0.1.10:7400"
[vip]
addresses = ["192.168.77.10/32"]
[aws]
route_tables = ["rtb-0a"]
[tls]
insecure = true
"#;

fn parse(text: impl AsRef<[u8]>) -> Result<Config, ConfigError> {
    Config::parse(text.as_ref(), "vipd.toml", None)
}

fn least_with(from: &str, to: &str) -> String {
    assert!(LEAST.contains(from), "{from}");
    LEAST.replacen(from, to, 1)
}

/// [`LEAST`] with a table more.
fn least_and(table: &str) -> String {
    format!("{LEAST}{table}\n")
}

/// As a terminal shows it, without colour.
fn shown(error: &dyn Diagnostic) -> String {
    let mut out = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(10_000)
        .render_report(&mut out, error)
        .expect("every place is in the text");
    out
}

/// Refused, at this place as the first, with all these words in what is shown.
#[track_caller]
fn refused(text: impl AsRef<[u8]>, at: (usize, usize), words: &[&str]) -> ConfigError {
    let error = parse(text).expect_err("is refused");
    let all = shown(&error);
    let first = error.mistakes().first().expect("a mistake");
    assert_eq!(first.position(), at, "{all}");
    assert!(!first.next_step().is_empty(), "{all}");
    let (line, column) = at;
    let log = error.to_string();
    assert!(log.starts_with(&format!("vipd.toml:{line}:{column}: ")), "{log}");
    assert!(!log.contains('\n'), "{log}");
    for word in words {
        assert!(all.contains(word), "no \"{word}\" in:\n{all}");
    }
    error
}

/// As [`refused`], for exactly one mistake on the line that holds `marked`, at its first byte.
#[track_caller]
fn refused_at(text: &str, marked: &str, words: &[&str]) {
    let at = text.find(marked).unwrap_or_else(|| panic!("no {marked} in the text"));
    let head = &text[..at];
    let line = head.matches('\n').count() + 1;
    let column = at - head.rfind('\n').map_or(0, |i| i + 1) + 1;
    let error = refused(text, (line, column), words);
    assert_eq!(error.mistakes().len(), 1, "{}", shown(&error));
    // The source line itself is shown.
    let source = text.lines().nth(line - 1).expect("the line");
    assert!(shown(&error).contains(source), "{}", shown(&error));
}

fn tls_files(dir: &Path, key_mode: u32) -> String {
    for name in ["ca.pem", "az-a.pem", "az-a.key"] {
        fs::write(dir.join(name), "-----BEGIN").expect("a file");
    }
    let key = fs::Permissions::from_mode(key_mode);
    fs::set_permissions(dir.join("az-a.key"), key).expect("a mode");
    CONTRACT.replace("/etc/vipd", dir.to_str().expect("UTF-8"))
}
