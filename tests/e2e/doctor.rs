//! What would make the next failover fail, found before it does.

use std::time::Duration;

use serde_json::Value;

use crate::lab::{BOUND, Lab, MEMBERS, holds, text, until};
use crate::status::others;

/// A DryRun comes once a minute, and the others' after it: two of them and what follows.
const REHEARSED: Duration = Duration::from_secs(150);

impl Lab {
    /// Waits until each member has heard of its group: one that has not examines itself alone.
    fn all_are_in_the_group(&self) {
        for member in MEMBERS {
            self.says(member, "it has heard of its group", |s| s.owner.is_some());
        }
    }

    /// vipctl doctor: its exit code, and its findings.
    fn doctor(&self, ask: &str) -> (i32, Vec<Value>) {
        let (code, page) = self.vipctl_json(ask, &["doctor"]);
        (code, page["findings"].as_array().unwrap_or_else(|| panic!("{page}")).clone())
    }
}

/// The findings of one member and check that are not ok.
fn bad<'a>(found: &'a [Value], member: &str, check: &str) -> Vec<&'a Value> {
    let fits = |f: &&Value| f["member"] == member && f["check"] == check && f["level"] != "ok";
    found.iter().filter(fits).collect()
}

fn fails(found: &[Value]) -> Vec<&Value> {
    found.iter().filter(|f| f["level"] == "fail").collect()
}

#[test]
fn doctor_asks_every_member_and_finds_the_lab_well() {
    let lab = Lab::up("doctor");
    let owner = lab.steady();
    let (code, found) = lab.doctor(others(&owner)[0]);
    assert_eq!((code, fails(&found)), (0, vec![]));
    for member in MEMBERS {
        for check in ["route-tables", "source-dest-check", "clock", "haproxy-bind", "scheduling", "haproxy"] {
            assert!(found.iter().any(|f| f["member"] == member && f["check"] == check), "{member} {check}");
        }
    }
    // Not near a move; then each member asks for its tables, and EC2 was asked by DryRun.
    let (_, found) = until("every table is known to be allowed", BOUND + BOUND + BOUND, || {
        let answer = lab.doctor(&owner);
        let unknown = answer.1.iter().any(|f| f["check"] == "permission" && f["level"] != "ok");
        holds(!unknown, || format!("{:?}", answer.1)).map(|()| answer)
    });
    assert_eq!(fails(&found), Vec::<&Value>::new());
    let dry = lab.calls().into_iter().filter(|c| c.action == "ReplaceRoute" && c.dry_run).collect::<Vec<_>>();
    assert!(dry.len() >= 9 && dry.iter().all(|c| c.outcome == "DryRunOperation"), "{dry:?}");
    // What the member says its role needs, it needs.
    let policy = lab.vipctl(&owner, &["iam-policy"]);
    let policy: Value = serde_json::from_slice(&policy.stdout).unwrap();
    let arn = "arn:aws:ec2:eu-west-1:123456789012:route-table/rtb-0b";
    assert!(policy["Statement"][1]["Resource"].as_array().unwrap().contains(&arn.into()), "{policy}");
    // The leader hears of it within a second.
    until("a dry run knows of each table", BOUND, || {
        let (_, would) = lab.vipctl_json(&owner, &["transfer-leader", "--dry-run"]);
        let rights = would["rights"].as_array().unwrap();
        let all = rights.len() == 3 && rights.iter().all(|r| r["allowed"] == true);
        holds(all && would["not_asked"] == serde_json::json!([]), || would.to_string())
    });
    lab.assert_fenced();
}

#[test]
fn a_member_that_does_not_answer_is_a_finding() {
    let lab = Lab::up("docsilent");
    let owner = lab.steady();
    let gone = others(&owner)[0];
    lab.ok(&["kill", gone, "--only", "vipd"]);
    lab.says(&owner, "it does not answer", |s| s.problems.iter().any(|p| p.contains("does not answer")));
    let (code, found) = lab.doctor(&owner);
    assert_eq!(code, 1, "two are left of three: the next failover would find no majority");
    assert_eq!(bad(&found, "", "reach").len(), 1, "{found:?}");
    assert!(bad(&found, "", "quorum")[0]["finding"].as_str().unwrap().starts_with("2 of 3 members answer"));
}

/// The longest calls that a file may allow: the member that is asked bounds its own examination as it does others'.
#[test]
fn fault_26_a_doctor_whose_calls_to_ec2_hang_tells_the_rest_in_time() {
    let lab = Lab::up_with("dochangs", &["--set", "aws.attempt_timeout_ms=60000"]);
    let owner = lab.steady();
    lab.ok(&["ec2", "hang", "--action", "DescribeRouteTables"]);
    let (code, found) = lab.doctor(&owner);
    assert_eq!(code, 1);
    for member in MEMBERS {
        let silent = bad(&found, member, "ec2");
        assert!(
            silent
                .iter()
                .any(|f| f["finding"].as_str().unwrap().starts_with("EC2 did not answer within 3 s")),
            "{member}: {found:?}"
        );
        // What needs no EC2 is there.
        let has = |check: &str| found.iter().any(|f| f["member"] == member && f["check"] == check);
        assert!(has("haproxy") && has("interface"), "{member}: {found:?}");
    }
    lab.ok(&["ec2", "clear", "hang"]);
}

/// The role may read, and lacks ReplaceRoute alone.
#[test]
fn fault_38_an_owner_that_may_read_and_not_replace_hands_over_to_one_that_may() {
    let lab = Lab::up("denyone");
    let first = lab.steady();
    lab.ok(&["ec2", "deny", "ReplaceRoute", "--member", &first]);
    let ask = others(&first)[0];
    let second = until("another member owns", REHEARSED, || {
        let status = lab.status(ask)?;
        let owner = status.owner.clone().unwrap_or_default();
        holds(owner != first, || format!("{status:?}")).map(|()| owner)
    });
    lab.routes_come_to(&second);
    lab.client_reaches(&second);
    let reason = lab.status(ask).unwrap().last_move.unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("may not change every route: not allowed to call ec2:ReplaceRoute"), "{reason}");
    let denied =
        |c: &crate::calls::Call| c.is_of(&first) && c.dry_run && c.outcome == "UnauthorizedOperation";
    assert!(lab.calls().iter().any(denied));
    // It is no target, and everybody says why and what to add.
    let line = "{\"Effect\": \"Allow\", \"Action\": \"ec2:ReplaceRoute\"";
    lab.says(&second, "the line to add", |s| {
        s.problems.iter().any(|p| p.starts_with(&first) && p.contains(line))
    });
    let (code, refusal) = lab.vipctl_json(&second, &["transfer-leader", "--to", &first, "--dry-run"]);
    assert_eq!(code, 4, "{refusal}");
    assert!(refusal["error"]["cause"].as_str().unwrap().contains(line), "{refusal}");
    let (code, found) = lab.doctor(&second);
    assert_eq!(code, 1);
    let finding = bad(&found, &first, "permission")[0];
    assert!(finding["level"] == "fail" && finding["mend"].as_str().unwrap().contains(line), "{finding}");
    lab.assert_fenced();
}

#[test]
fn fault_47_a_wrong_table_is_named_at_the_start_and_by_doctor() {
    let tables = "aws.route_tables=[\"rtb-0a\", \"rtb-0b\", \"rtb-0c\", \"rtb-0dead\"]";
    let lab = Lab::up_with("wrongtable", &["--set", tables]);
    let gone = "does not exist in this region and account";
    lab.says("az-a", "a table is missing", |s| {
        s.problems.iter().any(|p| p.contains("rtb-0dead") && p.contains(gone))
    });
    let words = "rtb-0dead is not to be found in eu-west-1, in this account";
    lab.logs("az-b", words);
    lab.all_are_in_the_group();
    let (code, found) = lab.doctor("az-a");
    assert_eq!(code, 1);
    for member in MEMBERS {
        let named = bad(&found, member, "route-tables");
        assert!(named.len() == 1 && named[0]["finding"] == words, "{named:?}");
        assert!(named[0]["mend"].as_str().unwrap().contains("aws.region"), "{named:?}");
    }
}

/// The first start, when it is asked most: one of three runs.
#[test]
fn a_member_without_a_group_examines_itself_and_says_what_it_waits_for() {
    let lab = Lab::up_with("docalone", &["--no-vipd"]);
    lab.ok(&["ec2", "eni", "az-a", "--source-dest-check", "on"]);
    lab.ok(&["start", "az-a", "--only", "vipd"]);
    let found = until("it waits for both of the others", BOUND, || {
        let (code, page) = lab.vipctl_json("az-a", &["doctor"]);
        let found = page["findings"].as_array().cloned().unwrap_or_default();
        let words = bad(&found, "", "group").first().map(|f| f["finding"].to_string()).unwrap_or_default();
        let waits = ["az-b (10.0.2.10:7400) does not answer", "az-c (10.0.3.10:7400) does not answer"];
        let well =
            found.iter().any(|f| f["member"] == "az-a" && f["check"] == "haproxy" && f["level"] == "ok");
        let all = code == 1 && page["verdict"] == "fail" && well && waits.iter().all(|w| words.contains(w));
        holds(all, || page.to_string()).map(|()| found)
    });
    assert!(bad(&found, "", "group")[0]["mend"].as_str().unwrap().contains("[[members]]"), "{found:?}");
    for check in ["tls", "route-tables", "clock", "permission", "haproxy-bind", "interface", "scheduling"] {
        assert!(found.iter().any(|f| f["member"] == "az-a" && f["check"] == check), "{check}: {found:?}");
    }
    let named = bad(&found, "az-a", "source-dest-check");
    assert!(named.len() == 1 && named[0]["level"] == "fail", "{found:?}");
    // The other verbs have no answer, and say the same.
    let (code, error) = lab.vipctl_json("az-a", &["status"]);
    let cause = error["error"]["cause"].as_str().unwrap_or_default();
    assert!(code == 3 && cause.contains("az-b (10.0.2.10:7400) does not answer"), "{error}");
    // It becomes a group, and the finding goes.
    lab.ok(&["start", "az-b", "--only", "vipd"]);
    lab.ok(&["start", "az-c", "--only", "vipd"]);
    lab.all_are_in_the_group();
    let (_, found) = lab.doctor("az-a");
    assert!(bad(&found, "", "group").is_empty(), "{found:?}");
}

#[test]
fn fault_48_a_member_whose_source_dest_check_is_on_is_no_target_and_says_why() {
    let lab = Lab::up_with("srcdst", &["--no-vipd"]);
    lab.ok(&["ec2", "eni", "az-b", "--source-dest-check", "on"]);
    lab.ok(&["start", "all", "--only", "vipd"]);
    let why = "the source/dest check of eni-0b is on";
    let status = lab.says("az-a", "why az-b may not own", |s| {
        let says = s.problems.iter().any(|p| p.starts_with("az-b may not own: ") && p.contains(why));
        says && s.state == "degraded" && s.owner.is_some()
    });
    assert_ne!(status.owner.as_deref(), Some("az-b"), "{status:?}");
    let (code, refusal) = lab.vipctl_json("az-a", &["transfer-leader", "--to", "az-b"]);
    assert_eq!(code, 4, "{refusal}");
    assert!(refusal["error"]["cause"].as_str().unwrap().contains(why), "{refusal}");
    lab.all_are_in_the_group();
    let (code, found) = lab.doctor("az-c");
    let named = bad(&found, "az-b", "source-dest-check");
    assert_eq!((code, named.len()), (1, 1), "{found:?}");
    let mend =
        "aws ec2 modify-network-interface-attribute --network-interface-id eni-0b --no-source-dest-check";
    assert_eq!(named[0]["mend"], mend);
    lab.assert_fenced();
}

#[test]
fn a_source_dest_check_that_is_on_is_switched_off_where_the_file_says_so() {
    let lab = Lab::up_with("srcfix", &["--no-vipd", "--set", "aws.source_dest_check=fix"]);
    for member in MEMBERS {
        lab.ok(&["ec2", "eni", member, "--source-dest-check", "on"]);
    }
    lab.ok(&["start", "all", "--only", "vipd"]);
    let owner = lab.steady();
    lab.client_reaches(&owner);
    let fixes = || {
        lab.calls().into_iter().filter(|c| c.action == "ModifyNetworkInterfaceAttribute").collect::<Vec<_>>()
    };
    until("each member has switched its own off", BOUND, || {
        let own = |m: &&str| fixes().iter().any(|c| c.is_of(m) && c.eni == Some(crate::status::eni(m)));
        holds(MEMBERS.iter().all(own), || format!("{:?}", fixes()))
    });
    assert!(
        fixes().iter().all(|c| c.eni == c.member.as_deref().map(crate::status::eni)),
        "its own only: {:?}",
        fixes()
    );
    // The next interface will need it again: doctor asks for it by DryRun, not near a move.
    let says = |words: &str, level: &str| {
        until(&format!("doctor says: {words}"), BOUND * 4, || {
            let (_, found) = lab.doctor(&owner);
            let fits = |f: &&Value| {
                f["check"] == "permission"
                    && f["finding"].as_str().is_some_and(|text| text.starts_with(words))
            };
            let of = found.iter().find(fits).ok_or_else(|| format!("{found:?}"))?.clone();
            holds(of["level"] == level, || of.to_string()).map(|()| of)
        })
    };
    says("ec2:ModifyNetworkInterfaceAttribute is allowed on eni-0b", "ok");
    assert!(fixes().iter().any(|c| c.dry_run && c.outcome == "DryRunOperation"), "{:?}", fixes());
    lab.ok(&["ec2", "deny", "ModifyNetworkInterfaceAttribute", "--member", "az-b"]);
    let denied = says("ec2:ModifyNetworkInterfaceAttribute is denied on eni-0b", "warn");
    assert_eq!(denied["member"], "az-b", "{denied}");
    let line = "{\"Effect\": \"Allow\", \"Action\": \"ec2:ModifyNetworkInterfaceAttribute\"";
    assert!(denied["mend"].as_str().unwrap().contains(line), "{denied}");
    lab.assert_fenced();
}

#[test]
fn fault_62_members_whose_tables_differ_are_shown() {
    let lab = Lab::up_with("differ", &["--set", "c:aws.route_tables=[\"rtb-0a\", \"rtb-0b\"]"]);
    let words = "rtb-0c is in [aws] of az-a, az-b, not of az-c";
    let status = lab
        .says("az-a", "the difference", |s| s.problems.iter().any(|p| p == words) && s.state == "degraded");
    assert!(status.owner.is_some(), "{status:?}");
    lab.all_are_in_the_group();
    let (code, found) = lab.doctor("az-b");
    let named = bad(&found, "", "configuration");
    assert_eq!((code, named.len(), &named[0]["finding"]), (1, 1, &words.into()), "{found:?}");
}

/// Another cluster's member is refused by whoever it speaks to, and says so. With TLS it does not get that far: its
/// certificate is of the wrong cluster.
#[test]
fn fault_62_another_clusters_name_is_refused() {
    let lab = Lab::up_with("othername", &["--set", "tls.insecure=true", "--set", "c:cluster=other"]);
    lab.logs("az-c", "is of cluster edge, not other");
    let (code, error) = lab.vipctl_json("az-c", &["status"]);
    assert_eq!(code, 3, "it is in no group: {error}");
}

#[test]
fn fault_84_haproxy_that_cannot_bind_the_vip_is_explained() {
    let lab = Lab::up("nobind");
    let owner = lab.steady();
    let standby = others(&owner)[0];
    let cfg = lab.dir.join(standby).join("haproxy.cfg");
    let wildcard = std::fs::read_to_string(&cfg).unwrap();
    std::fs::write(&cfg, wildcard.replace("bind *:8080", "bind 192.168.77.10:8080")).unwrap();
    lab.ok(&["kill", standby, "--only", "haproxy"]);
    let pid = cfg.with_file_name("by-hand.pid");
    let (file, pid_file) = (cfg.to_str().unwrap(), pid.to_str().unwrap());
    let start = || lab.run(&["ns", standby, "--", "haproxy", "-D", "-f", file, "-p", pid_file]);
    let refused = start();
    let said = format!("{}{}", text(&refused.stdout), text(&refused.stderr));
    assert!(!refused.status.success() && said.contains("192.168.77.10:8080"), "HAProxy binds it: {said}");
    let (code, found) = lab.doctor(&owner);
    assert_eq!(code, 1);
    let named = bad(&found, standby, "haproxy-bind");
    assert_eq!(named.len(), 1, "{found:?}");
    for word in ["ip_nonlocal_bind", "transparent"] {
        assert!(named[0]["mend"].as_str().unwrap().contains(word), "{named:?}");
    }
    // As it says.
    lab.inside(standby, &["sysctl", "-q", "-w", "net.ipv4.ip_nonlocal_bind=1"]);
    let started = start();
    assert!(started.status.success(), "{}", text(&started.stderr));
    until("it is well again", BOUND, || {
        let (_, found) = lab.doctor(&owner);
        holds(bad(&found, standby, "haproxy-bind").is_empty(), || format!("{found:?}"))
    });
    let pid = std::fs::read_to_string(&pid).unwrap();
    lab.inside(standby, &["kill", pid.trim()]);
}
