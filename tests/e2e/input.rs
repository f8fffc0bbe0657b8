//! Wrong input is refused with its cause, the next step and the contract's exit code.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::lab::{BOUND, Lab, text};
use crate::status::others;
use crate::verbs::TO_A_MEMBER;

const GOOD: &str = r#"cluster = "edge"
member = "az-a"
data_dir = "DIR"

[peer]
listen = "127.0.0.1:7400"

[[members]]
name = "az-a"
peer = "127.0.0.1:7400"

[vip]
addresses = ["192.168.77.10/32"]
interface = "lo"

[aws]
region = "eu-west-1"
route_tables = ["rtb-0a"]
eni = "eni-0a"

[tls]
insecure = true
"#;

fn check(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vipd")).arg("--check").arg("--config").arg(file).output().unwrap()
}

/// The exit code of `--check` and all that it said, of the good file with one text replaced.
fn checked(from: &str, to: &str) -> (i32, String) {
    assert!(GOOD.contains(from));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vipd.toml");
    std::fs::write(&file, GOOD.replace("DIR", &dir.path().display().to_string()).replace(from, to)).unwrap();
    let output = check(&file);
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

/// FAULTS 58, 59.
#[test]
fn fault_58_a_wrong_file_is_refused_by_line_and_column() {
    let (code, said) = checked("cluster", "cluster");
    assert_eq!(code, 0, "{said}");
    let (code, said) = checked("[tls]\ninsecure", "[tls]\nsecure = false\ninsecure");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("vipd.toml:22:1") && said.contains("secure"), "{said}");
    assert!(said.contains("the keys of this table are"), "{said}");
    let (code, said) = checked("192.168.77.10/32", "192.168.77.10/24");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("vipd.toml:13:") && said.contains("/32"), "{said}");
    let missing = check(Path::new("/nowhere/vipd.toml"));
    let said = text(&missing.stderr);
    assert_eq!(missing.status.code(), Some(2), "{said}");
    assert!(said.contains("/nowhere/vipd.toml"), "{said}");
}

#[test]
fn fault_74_without_net_admin_it_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("vipd.toml"), dir.path().join("data"));
    std::fs::write(&file, GOOD.replace("DIR", &data.display().to_string())).unwrap();
    let drop = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    let output = Command::new("setpriv")
        .args(drop)
        .args(["timeout", "10", env!("CARGO_BIN_EXE_vipd"), "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("CAP_NET_ADMIN is missing") && said.contains("AmbientCapabilities"), "{said}");
    assert!(!data.exists(), "nothing was begun");
}

#[test]
fn an_endpoint_that_is_not_there_is_exit_5() {
    let output = Command::new(env!("CARGO_BIN_EXE_vipctl"))
        .args(["--endpoint", "unix:/nowhere/admin.sock", "-o", "json", "status"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    has_cause_and_next(
        &serde_json::from_slice(&output.stdout).unwrap(),
        "unreachable",
        "/nowhere/admin.sock",
    );
}

fn has_cause_and_next(json: &Value, kind: &str, word: &str) {
    let error = &json["error"];
    assert_eq!(error["kind"], kind, "{json}");
    assert!(error["cause"].as_str().is_some_and(|c| c.contains(word)), "{word} in {json}");
    assert!(error["next"].as_str().is_some_and(|n| !n.is_empty()), "{json}");
}

#[test]
fn fault_54_a_transfer_that_cannot_be_is_exit_4() {
    let lab = Lab::up("refuse");
    let owner = lab.steady();
    let follower = others(&owner)[0];
    let before = lab.status(&owner).unwrap();
    for ask in [owner.as_str(), follower] {
        for to in ["az-z", "no such name", &owner] {
            let (code, json) = lab.vipctl_json(ask, &["transfer-leader", "--to", to]);
            assert_eq!(code, 4, "{json}");
            has_cause_and_next(&json, "refused", if to == "no such name" { "" } else { to });
        }
    }
    // An unhealthy one too.
    lab.ok(&["kill", follower, "--only", "haproxy"]);
    lab.says(&owner, "one is unhealthy", |s| s.state == "degraded");
    let (code, json) = lab.vipctl_json(&owner, &["transfer-leader", "--to", follower]);
    assert_eq!(code, 4, "{json}");
    has_cause_and_next(&json, "refused", follower);
    let after = lab.status(&owner).unwrap();
    assert_eq!(
        (after.epoch, after.term, after.owner),
        (before.epoch, before.term, before.owner),
        "nothing changed"
    );
}

#[test]
fn fault_69_without_a_quorum_status_prints_and_is_exit_3() {
    let lab = Lab::up("quorum");
    let owner = lab.steady();
    let [one, two] = others(&owner)[..] else { unreachable!() };
    lab.ok(&["kill", one]);
    lab.ok(&["kill", two]);
    lab.says(&owner, "no quorum", |s| s.state == "no-quorum");
    let (code, json) = lab.vipctl_json(&owner, &["status"]);
    assert_eq!((code, &json["owner"]), (3, &owner.as_str().into()), "{json}");
    assert_eq!(json["members"].as_array().map(Vec::len), Some(3), "{json}");
    let (code, json) = lab.vipctl_json(&owner, &["transfer-leader", "--to", one]);
    assert_eq!(code, 3, "{json}");
    has_cause_and_next(&json, "no-quorum", "");
    // No change of the members either.
    for verb in TO_A_MEMBER.into_iter().filter(|verb| verb[0] == "member" && verb[1] != "list") {
        let (code, json) = lab.vipctl_json(&owner, verb);
        assert_eq!(code, 3, "{verb:?}: {json}");
        has_cause_and_next(&json, "no-quorum", "");
    }
    // A follower that lives says the same.
    lab.ok(&["start", one]);
    lab.ok(&["kill", &owner]);
    lab.says(one, "no quorum", |s| s.state == "no-quorum");
    let (code, json) = lab.vipctl_json(one, &["transfer-leader"]);
    assert_eq!(code, 3, "{json}");
    has_cause_and_next(&json, "no-quorum", "");
}

/// A follower forwards; who gets no answer from anybody says so in time.
#[test]
fn fault_69_a_follower_forwards_and_a_group_that_stands_still_is_no_answer_in_time() {
    let lab = Lab::up("still");
    let owner = lab.steady();
    let follower = others(&owner)[0];
    let (code, would) = lab.vipctl_json(follower, &["transfer-leader", "--to", follower, "--dry-run"]);
    assert_eq!((code, &would["from"]), (0, &owner.as_str().into()), "{would}");
    assert_eq!(lab.vipctl_json(follower, &["status"]).1["seen_by"], owner.as_str());

    lab.ok(&["freeze", "all", "--only", "vipd"]);
    for verb in TO_A_MEMBER {
        let started = std::time::Instant::now();
        let (code, json) = lab.vipctl_json(follower, &[verb, &["--timeout", "1s"]].concat());
        assert_eq!(code, 5, "{verb:?}: {json}");
        // Of the second one half is the only endpoint's: with the default of 5 s it would be 2000 ms.
        has_cause_and_next(&json, "unreachable", "no answer within 500 ms");
        assert!(started.elapsed() < BOUND, "{verb:?}: {:?}", started.elapsed());
    }
    lab.ok(&["continue", "all", "--only", "vipd"]);
    lab.steady();
}

#[test]
fn fault_59_a_vip_inside_the_vpc_is_exit_2() {
    let lab = Lab::up_with(
        "incidr",
        &["--no-vipd", "--set", "tls.insecure=true", "--set", "vip.addresses=[\"10.0.77.10/32\"]"],
    );
    let file = lab.dir.join("az-a/vipd.toml").display().to_string();
    let ended =
        lab.run(&["ns", "az-a", "--", "timeout", "10", env!("CARGO_BIN_EXE_vipd"), "--config", &file]);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("10.0.77.10/32 lies inside the VPC's CIDR 10.0.0.0/16"), "{said}");
    assert!(said.contains("choose an address outside"), "{said}");
}

/// With its zone and interface in the file a member asks IMDS for nothing: the route tables tell the VPC's ranges.
#[test]
fn fault_59_a_vip_inside_the_vpc_is_exit_2_where_imds_is_not_asked() {
    let lab = Lab::up_with(
        "incidreni",
        &["--no-vipd", "--set", "tls.insecure=true", "--set", "vip.addresses=[\"10.0.77.10/32\"]"],
    );
    lab.ok(&["config", "--set", "az-a:aws.eni=\"eni-0a\""]);
    let file = lab.dir.join("az-a/vipd.toml");
    let text_of_it = std::fs::read_to_string(&file).unwrap();
    assert!(text_of_it.contains("eni = \"eni-0a\"") && text_of_it.contains("zone = "), "{text_of_it}");
    let ended = lab.run(&[
        "ns",
        "az-a",
        "--",
        "timeout",
        "10",
        env!("CARGO_BIN_EXE_vipd"),
        "--config",
        &file.display().to_string(),
    ]);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("10.0.77.10/32 lies inside the VPC's CIDR 10.0.0.0/16"), "{said}");
}

#[test]
fn fault_08_a_second_daemon_on_one_data_directory_is_exit_2() {
    let lab = Lab::up("second");
    lab.steady();
    let processes = lab.json(&["status"])["processes"].clone();
    let holder =
        processes.as_array().unwrap().iter().find(|p| p["member"] == "az-a" && p["process"] == "vipd");
    let pid = holder.unwrap()["pid"].to_string();
    let file = lab.dir.join("az-a/vipd.toml").display().to_string();
    let second =
        lab.run(&["ns", "az-a", "--", "timeout", "10", env!("CARGO_BIN_EXE_vipd"), "--config", &file]);
    let said = text(&second.stderr);
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains(&pid) && said.contains("data"), "names {pid}: {said}");
    lab.steady();
}
