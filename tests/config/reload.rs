//! What a reload takes over, and what it names.

use std::collections::BTreeSet;
use std::sync::Arc;

use vipd::config::{InForce, OnQuorumLoss};

use super::*;

fn in_force(text: &str) -> InForce {
    InForce::new(Arc::new(parse(text).unwrap_or_else(|e| panic!("{}", shown(&e)))))
}

fn reloaded(change: impl FnOnce(String) -> String) -> InForce {
    let before = CONTRACT.replace("insecure = false", "insecure = true");
    let after = change(before.clone());
    reloaded_from(&before, &after)
}

fn reloaded_from(before: &str, after: &str) -> InForce {
    assert_ne!(before, after, "nothing was changed");
    in_force(before).reload(parse(after).unwrap_or_else(|e| panic!("{}", shown(&e))))
}

#[test]
fn what_can_be_taken_over_is_and_nothing_is_named() {
    let now = reloaded(|text| {
        text.replace("\"rtb-0b\"]", "\"rtb-0c\"]")
            .replace("vipd:cluster=edge", "vipd:cluster=core")
            .replace("create_missing     = false", "create_missing = true")
            .replace("reconcile_s        = 10", "reconcile_s = 20")
            .replace("warm_connections   = 8", "warm_connections = 4")
            .replace("fall = 2", "fall = 5")
            .replace("on_quorum_loss = \"hold\"", "on_quorum_loss = \"release\"")
            .replace("failback       = false", "failback = true")
            .replace("zone     = \"eu-west-1a\"", "zone = \"eu-west-1b\"")
            + "\n[log]\nfilter = \"debug\"\n"
    });
    assert_eq!(now.restart, [""; 0]);
    let c = &now.config;
    assert_eq!(c.aws.route_tables[1].as_str(), "rtb-0c");
    assert_eq!(c.aws.route_table_tag.as_ref().map(|t| t.1.as_str()), Some("core"));
    assert_eq!((c.aws.create_missing, c.aws.reconcile.as_secs(), c.aws.warm_connections), (true, 20, 4));
    assert_eq!((c.health.fall, c.policy.on_quorum_loss, c.policy.failback), (5, OnQuorumLoss::Release, true));
    assert_eq!((c.members[0].zone.as_deref(), c.log.as_deref()), (Some("eu-west-1b"), Some("debug")));
}

#[test]
fn what_takes_a_restart_is_named_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let files = |ends: &[&str]| ends.iter().for_each(|end| fs::write(dir.path().join(end), "-----").unwrap());
    let with_files = tls_files(dir.path(), 0o600);
    files(&["new-ca.pem", "new-az-a.pem", "new.crl"]);
    fs::copy(dir.path().join("az-a.key"), dir.path().join("new-az-a.key")).unwrap();
    let crl = format!("crl = \"{}\"", dir.path().join("new.crl").display());
    let another = "[[members]]\nname = \"az-b\"\npeer = \"10.0.2.10:7400\"\n\n[vip]\n";
    let before = with_files.replacen("[vip]\n", another, 1);
    let rows = [
        ("member", "member   = \"az-a\"", "member = \"az-b\""),
        ("admin.group", "[admin]\n", "[admin]\ngroup = \"vipd-ops\"\n"),
        ("tls.ca", "/ca.pem", "/new-ca.pem"),
        ("tls.cert", "/az-a.pem", "/new-az-a.pem"),
        ("tls.key", "/az-a.key", "/new-az-a.key"),
        ("tls.crl", "insecure = false", &crl),
        ("cluster", "cluster  = \"edge\"", "cluster = \"core\""),
        ("data_dir", "/var/lib/vipd", "/var/lib/other"),
        ("peer.listen", "listen = \"10.0.1.10:7400\"", "listen = \"10.0.1.10:7500\""),
        ("admin.listen", "listen = \"10.0.1.10:7401\"", "listen = \"10.0.1.10:7501\""),
        ("admin.socket", "/run/vipd/admin.sock", "/run/vipd/other.sock"),
        ("members", "priority = 100", "priority = 200"),
        ("vip.addresses", "192.168.77.10/32", "192.168.77.11/32"),
        ("vip.interface", "interface  = \"lo\"", "interface = \"eth1\""),
        ("vip.lifetime_s", "lifetime_s = 0", "lifetime_s = 9"),
        ("aws.region", "region             = \"eu-west-1\"", "region = \"eu-west-2\""),
        ("aws.eni", "eni-0a", "eni-0b"),
        ("aws.endpoint_url", "10.0.0.2:5000", "10.0.0.2:5001"),
        ("aws.assume_role_arn", "role/routes", "role/others"),
        ("aws.attempt_timeout_ms", "attempt_timeout_ms = 1000", "attempt_timeout_ms = 900"),
        ("raft", "heartbeat_ms = 30", "heartbeat_ms = 31"),
        ("metrics.listen", "127.0.0.1:9407", "127.0.0.1:9408"),
    ];
    let as_it_was = format!("{:?}", in_force(&before).config);
    for (key, from, to) in rows {
        let now = reloaded_from(&before, &before.replacen(from, to, 1));
        assert_eq!(now.restart, [key]);
        assert_eq!(format!("{:?}", now.config), as_it_was, "{key}");
    }
    // Without certificates no file of them counts.
    let now = reloaded_from(&before, &before.replace("insecure = false", "insecure = true"));
    assert_eq!(now.restart, ["tls.ca", "tls.cert", "tls.key", "tls.insecure"]);
    assert_eq!(format!("{:?}", now.config), as_it_was);

    let of_the_source = include_str!("../../src/config/reload.rs").split("kept(\"").skip(1);
    let of_the_source: BTreeSet<&str> = of_the_source.filter_map(|rest| rest.split('"').next()).collect();
    let seen: BTreeSet<&str> = rows.iter().map(|(key, ..)| *key).chain(["tls.insecure"]).collect();
    assert_eq!(seen, of_the_source, "each key that takes a restart has its row");
}

#[test]
fn a_refused_file_leaves_all_as_it_was_until_a_good_one() {
    let before = in_force(LEAST);
    let refused = before.refuse("line 3".to_owned());
    assert_eq!(refused.refused.as_deref(), Some("line 3"));
    assert!(Arc::ptr_eq(&before.config, &refused.config));
    let good = refused.reload(parse(LEAST).unwrap_or_else(|e| panic!("{}", shown(&e))));
    assert_eq!((good.refused, good.restart), (None, vec![]));
}
