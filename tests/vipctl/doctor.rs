//! `vipctl doctor` and `vipctl iam-policy`.

use vipd::proto::{Diagnosis, Finding, IamPolicies};

use super::fake::Fake;
use super::{code, json, text, vipctl};

fn finding(member: &str, level: &str, words: &str) -> Finding {
    let bad = |text: &str| if level == "ok" { String::new() } else { text.to_owned() };
    Finding {
        member: member.into(),
        check: "quorum".into(),
        level: level.into(),
        finding: words.into(),
        why: bad("it matters"),
        mend: bad("do this"),
    }
}

fn diagnosis(levels: &[&str]) -> Diagnosis {
    let findings =
        levels.iter().map(|level| finding("az-a", level, &format!("it is {level}\x1b[2J"))).collect();
    Diagnosis { cluster: "edge".into(), findings }
}

#[tokio::test]
async fn doctor_exits_1_where_the_next_failover_would_fail() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    for (levels, exit, verdict) in
        [(&["ok"][..], 0, "ok"), (&["ok", "warn"], 0, "warn"), (&["warn", "fail", "ok"], 1, "fail")]
    {
        fake.script(|s| s.diagnosis = diagnosis(levels));
        let output = vipctl(&[&endpoint], &["doctor", "-o", "json"]).await;
        assert_eq!(code(output.status), exit, "{levels:?}");
        let page = json(&output);
        assert_eq!((&page["cluster"], &page["verdict"]), (&"edge".into(), &verdict.into()));
        assert_eq!(page["findings"].as_array().unwrap().len(), levels.len());
        assert_eq!(page["findings"][0]["member"], "az-a");
        let output = vipctl(&[&endpoint], &["doctor"]).await;
        assert_eq!(code(output.status), exit, "{levels:?}");
    }
}

#[tokio::test]
async fn doctor_for_people_begins_with_the_worst() {
    let fake = Fake::new();
    fake.script(|s| s.diagnosis = diagnosis(&["ok", "warn", "fail"]));
    fake.script(|s| {
        s.diagnosis.findings.push(finding("", "warn", "all of it"));
        s.diagnosis.findings.push(finding("az-b", "warn", "it is warn\x1b[2J"));
    });
    let output = vipctl(&[&fake.on_tcp().await], &["doctor"]).await;
    let expected = "\
edge  1 fail, 3 warn, 1 ok

fail  az-a  quorum: it is fail [2J
      why  it matters
      mend do this

warn  az-a, az-b  quorum: it is warn [2J
      why  it matters
      mend do this

warn  the group  quorum: all of it
      why  it matters
      mend do this

    MEMBER  CHECK   FINDING
ok  az-a    quorum  it is ok [2J
";
    assert_eq!(text(&output.stdout), expected);
}

#[tokio::test]
async fn iam_policy_prints_what_the_member_says() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    let instance = "{\n  \"Version\": \"1\"\n}".to_owned();
    fake.script(|s| s.policies = IamPolicies { instance: instance.clone(), routes: None });
    let output = vipctl(&[&endpoint], &["iam-policy"]).await;
    assert_eq!(text(&output.stdout), format!("{instance}\n"));
    let output = vipctl(&[&endpoint], &["-o", "json", "iam-policy", "--role", "routes"]).await;
    assert_eq!((code(output.status), &json(&output)["error"]["kind"]), (4, &"refused".into()));
    fake.script(|s| s.policies.routes = Some("{\n  \"Version\": \"2\"\n}".to_owned()));
    let output = vipctl(&[&endpoint], &["iam-policy"]).await;
    let both = json(&output);
    assert_eq!((&both["instance"]["Version"], &both["routes"]["Version"]), (&"1".into(), &"2".into()));
    let output = vipctl(&[&endpoint], &["iam-policy", "--role", "routes"]).await;
    assert_eq!(json(&output)["Version"], "2");
}

/// The file alone will do, and nobody is asked.
#[tokio::test]
async fn iam_policy_of_a_file_is_the_one_that_ships() {
    let root = env!("CARGO_MANIFEST_DIR");
    let file = format!("{root}/cluster/examples/az-a.toml");
    let arguments = ["iam-policy", "--config", &file, "--region", "eu-west-1", "--account", "123456789012"];
    let output = vipctl(&["unix:/nowhere"], &arguments).await;
    let ships = std::fs::read_to_string(format!("{root}/cluster/iam/policy.json")).unwrap();
    assert_eq!(text(&output.stdout), ships, "{}", text(&output.stderr));
    let output = vipctl(&["unix:/nowhere"], &["iam-policy", "--config", "/no/such/file"]).await;
    assert_eq!(code(output.status), 2);
    let output = vipctl(&["unix:/nowhere"], &["iam-policy", "--account", "1"]).await;
    assert_eq!(code(output.status), 2, "an account goes with a file");
}
