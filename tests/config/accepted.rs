//! What is accepted, and what vipd says about it.

use std::time::Duration;

use vipd::config::{OnQuorumLoss, SourceDestCheck};

use super::*;

#[test]
fn the_contracts_example_says_what_it_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = parse(tls_files(dir.path(), 0o640)).unwrap_or_else(|e| panic!("{}", shown(&e)));
    assert_eq!(config.cluster.as_str(), "edge");
    assert_eq!(config.member.as_str(), "az-a");
    assert_eq!(config.peer_listen.to_string(), "10.0.1.10:7400");
    assert_eq!(config.admin_listen.map(|a| a.to_string()).as_deref(), Some("10.0.1.10:7401"));
    assert_eq!(config.admin_socket.as_deref(), Some(Path::new("/run/vipd/admin.sock")));
    let [member] = config.members.as_slice() else { panic!("{:?}", config.members) };
    assert_eq!(member.admin.as_deref(), Some("10.0.1.10:7401"));
    assert_eq!(member.zone.as_deref(), Some("eu-west-1a"));
    assert_eq!((member.priority, member.witness), (100, false));
    let aws = &config.aws;
    assert_eq!(aws.region.as_deref(), Some("eu-west-1"));
    assert_eq!(aws.route_tables.len(), 2);
    assert_eq!(aws.route_table_tag, Some(("vipd:cluster".to_owned(), "edge".to_owned())));
    assert_eq!(aws.eni.as_ref().map(|e| e.as_str()), Some("eni-0a"));
    assert_eq!(aws.endpoint_url.as_deref(), Some("http://10.0.0.2:5000"));
    assert_eq!(aws.assume_role_arn.as_deref(), Some("arn:aws:iam::123456789012:role/routes"));
    assert_eq!(config.health.http.as_deref(), Some("http://127.0.0.1:8404/healthz"));
    assert_eq!(config.tls.key, Some(dir.path().join("az-a.key")));
    assert!(!config.tls.insecure);
    assert_eq!(config.metrics_listen.map(|a| a.port()), Some(9407));
}

#[test]
fn what_is_left_out_has_the_contracts_default() {
    let config = parse(LEAST).unwrap_or_else(|e| panic!("{}", shown(&e)));
    assert_eq!(config.data_dir, Path::new("/var/lib/vipd"));
    assert_eq!(config.admin_listen, None);
    assert_eq!(config.admin_socket.as_deref(), Some(Path::new("/run/vipd/admin.sock")));
    assert_eq!((config.vip.interface.as_str(), config.vip.lifetime_s), ("lo", 0));
    assert_eq!((config.members[0].priority, config.members[0].witness), (100, false));
    assert_eq!(config.members[0].zone, None);
    let aws = &config.aws;
    assert_eq!((aws.create_missing, aws.source_dest_check), (false, SourceDestCheck::Verify));
    assert_eq!(aws.attempt_timeout, Duration::from_millis(1000));
    assert_eq!((aws.reconcile, aws.warm_connections), (Duration::from_secs(10), 8));
    assert_eq!((&aws.region, &aws.eni, &aws.endpoint_url), (&None, &None, &None));
    assert_eq!(times(&config), (30, 100, 200));
    let health = &config.health;
    assert_eq!((&health.haproxy_socket, &health.http), (&None, &None));
    assert_eq!(health.interval, Duration::from_millis(500));
    assert_eq!((health.timeout, health.fall, health.rise), (Duration::from_millis(500), 2, 2));
    assert_eq!(config.policy.on_quorum_loss, OnQuorumLoss::Hold);
    assert_eq!((config.policy.failback, config.policy.min_hold), (false, Duration::from_secs(10)));
    assert_eq!(config.metrics_listen, None);
    assert!(config.tls.insecure);
}

fn times(config: &Config) -> (u128, u128, u128) {
    let t = config.timing;
    (t.heartbeat.as_millis(), t.election_min.as_millis(), t.election_max.as_millis())
}

#[test]
fn a_file_is_loaded() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("vipd.toml");
    fs::write(&path, LEAST).expect("a file");
    let config = Config::load(&path).unwrap_or_else(|e| panic!("{}", shown(&e)));
    assert_eq!(config.vip.addresses[0].to_string(), "192.168.77.10/32");
}

#[test]
fn either_timing_overrides_its_profile() {
    for (raft, expected) in [
        ("profile = \"steady\"", (50, 150, 300)),
        ("profile = \"fast\"", (20, 60, 120)),
        ("profile = \"steady\"\nheartbeat_ms = 70", (70, 150, 300)),
        ("profile = \"fast\"\nelection_ms = [200, 500]", (20, 200, 500)),
        ("heartbeat_ms = 200\nelection_ms = [1000, 2000]", (200, 1000, 2000)),
    ] {
        let config = parse(least_and(&format!("[raft]\n{raft}"))).expect(raft);
        assert_eq!(times(&config), expected, "{raft}");
    }
}

#[test]
fn vipd_member_goes_before_the_files_member() {
    let env = |name: &str, text: &str| {
        Config::parse(text.as_bytes(), "vipd.toml", Some(name.to_owned()))
            .map(|c| c.member.to_string())
            .map_err(|e| shown(&e))
    };
    let without = least_with("member = \"az-a\"\n", "");
    assert_eq!(env("az-a", &without).as_deref(), Ok("az-a"));
    assert_eq!(env("az-a", &least_with("member = \"az-a\"", "member = \"az-b\"")).as_deref(), Ok("az-a"));
    assert_eq!(env("", LEAST).as_deref(), Ok("az-a"), "an empty one counts as none");
    assert!(env("az-c", LEAST).expect_err("not listed").contains("\"az-c\", is not among [[members]]: az-a"));
    assert!(env("AZ C", LEAST).expect_err("no name").contains("VIPD_MEMBER: \"AZ C\" is not a name"));
    refused(&without, (1, 1), &["member is missing", "VIPD_MEMBER"]);
}

#[test]
fn an_empty_admin_socket_is_none() {
    let config = parse(least_and("[admin]\nsocket = \"\"")).expect("accepted");
    assert_eq!(config.admin_socket, None);
    assert!(config.warnings().iter().any(|w| w.contains("vipctl cannot reach")));
}

#[test]
fn the_timeline_counts_what_the_file_says() {
    let text = least_and(
        "[raft]\nprofile = \"fast\"\n[health]\nhttp = \"http://127.0.0.1:1/\"\n[policy]\non_quorum_loss = \"release\"",
    );
    let text = text.replace("[aws]", "lifetime_s = 3\n[aws]");
    let shown = parse(text).expect("accepted").timeline();
    let expected = "\
timeline of az-a in edge

raft
  heartbeat                      20 ms   from the leader to every member
  election timeout, least        60 ms   drawn anew for each election
  election timeout, most        120 ms
  lease                         120 ms   granted by this member: its longest election timeout
  margin                          6 ms   a twentieth of the lease, at least 5 ms
  usable lease                112.8 ms   lease - 1 % - margin: route calls start within it
  quarantine after start        126 ms   lease + margin, or the longest lease ever granted: no vote, no campaign

failover from a daemon that died on a host that lives
  detect                             -   its lifelines end, seen by a majority: no lease is waited for
  next candidate                  8 ms   after the best one, and so on: where that does not win
  then                               -   as below

failover from a dead host or zone, at worst
  detect                        240 ms   lease + longest election timeout
  elect                              -   2 round trips + 2 fsyncs: the vote, the term's first entry
  claim                              -   1 round trip + 1 fsync
  route                        1000 ms   one attempt, every table in parallel: aws.attempt_timeout_ms
  worst failover               1240 ms   plus 3 round trips and 3 fsyncs

health
  HTTP check failing           1500 ms   health.interval_ms + health.timeout_ms x 2

a wrong route is put right, while a majority lives
  R                            2000 ms   plus one EC2 round trip, once visible, after a claim
  later                       12000 ms   aws.reconcile_s + R, plus one EC2 round trip, once visible

quorum lost
  address removed               240 ms   lease + longest election timeout; the routes stay
  address gone, vipd frozen    4000 ms   at most, by the kernel: vip.lifetime_s + 1 s
";
    assert_eq!(shown, expected, "{shown}");
}

#[test]
fn warnings_name_what_the_group_does_not_survive() {
    let warned = |text: String, word: &str| {
        let all = parse(&text).unwrap_or_else(|e| panic!("{}", shown(&e))).warnings();
        assert!(all.iter().any(|w| w.contains(word)), "no \"{word}\" in {all:#?}");
    };
    let member = |name: &str, zone: &str, more: &str| {
        format!("[[members]]\nname = \"{name}\"\npeer = \"{name}:7400\"\nzone = \"{zone}\"\n{more}\n")
    };
    let group = |others: &[String]| least_with("[vip]", &format!("zone = \"a\"\n{}[vip]", others.concat()));
    warned(LEAST.to_owned(), "a single member");
    warned(LEAST.to_owned(), "no health check");
    warned(LEAST.to_owned(), "tls.insecure");
    // 57
    warned(group(&[member("b", "b", "")]), "the group survives no loss");
    warned(group(&[member("b", "a", ""), member("c", "c", "")]), "2 of 3 members are in a");
    warned(
        group(&[member("b", "b", ""), member("c", "c", ""), member("d", "d", "")]),
        "4 members survive the loss of 1, as 3 would",
    );
    warned(
        group(&[member("b", "b", "witness = true"), member("c", "c", "witness = true")]),
        "only one member is not a witness",
    );
    warned(least_with("peer = \"10.0.1.10:7400\"", "peer = \"10.0.1.10:7500\""), "the others dial port 7500");
    let tables: Vec<String> = (0..51).map(|i| format!("\"rtb-{i}\"")).collect();
    warned(least_with("\"rtb-0a\"", &tables.join(", ")), "burst of 50");

    let sound = group(&[member("b", "b", ""), member("c", "c", "")]);
    let dir = tempfile::tempdir().expect("a directory");
    tls_files(dir.path(), 0o600);
    let tls = format!(
        "ca = \"{0}/ca.pem\"\ncert = \"{0}/az-a.pem\"\nkey = \"{0}/az-a.key\"\n[health]\nhaproxy_socket = \"/x\"",
        dir.path().display()
    );
    let config = parse(sound.replace("insecure = true", &tls)).unwrap_or_else(|e| panic!("{}", shown(&e)));
    assert_eq!(config.warnings(), Vec::<String>::new());
}
