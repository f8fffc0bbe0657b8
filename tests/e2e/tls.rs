//! The lab's own certificates: every other test runs on them; here they are looked at.

use serde_json::Value;

use crate::lab::{BOUND, Lab, MEMBERS, holds, text, until};
use crate::status::others;

/// vipctl over az-a's operators' port, from the client's network, with a certificate of the lab's CA.
fn ask(lab: &Lab, who: &str, verb: &[&str]) -> (i32, Value) {
    ask_at(lab, "az-a", who, verb)
}

fn ask_at(lab: &Lab, member: &str, who: &str, verb: &[&str]) -> (i32, Value) {
    let zone = MEMBERS.iter().position(|m| *m == member).unwrap() + 1;
    let endpoint = format!("https://10.0.{zone}.10:7401");
    let file = |name: &str| lab.dir.join(name).display().to_string();
    let (ca, cert, key) = (file("pki/ca.pem"), file(&format!("{who}.pem")), file(&format!("{who}.key")));
    let mut command = vec!["ns", "client", "--", env!("CARGO_BIN_EXE_vipctl"), "-o", "json"];
    command.extend(["--endpoint", &endpoint, "--ca", &ca, "--cert", &cert, "--key", &key]);
    command.extend(verb);
    let output = lab.run(&command);
    let json =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    (output.status.code().unwrap(), json)
}

#[test]
fn fault_64_operators_move_viewers_look_and_members_do_neither() {
    let lab = Lab::up("tls");
    let owner = lab.steady();
    let (code, status) = ask(&lab, "pki/viewer-lab", &["status"]);
    assert_eq!((code, &status["owner"]), (0, &owner.as_str().into()), "{status}");
    // Not az-a, which is asked: afterwards it has to pass orders on.
    let to = if owner == "az-b" { "az-c" } else { "az-b" };
    let (code, error) = ask(&lab, "pki/viewer-lab", &["transfer-leader", "--to", to]);
    assert_eq!((code, &error["error"]["kind"]), (4, &"refused".into()), "{error}");
    assert!(
        error["error"]["cause"].as_str().unwrap().contains("spiffe://edge/viewer/lab may not call"),
        "{error}"
    );
    // Nor by way of a follower: it refuses what it would have passed on.
    for order in [&["pause"][..], &["drain", to], &["transfer-leader"], &["member", "list"]] {
        let (code, error) = ask_at(&lab, others(&owner)[0], "pki/viewer-lab", order);
        assert_eq!((code, &error["error"]["kind"]), (4, &"refused".into()), "{order:?}: {error}");
    }
    for member in MEMBERS {
        assert!(!lab.vipd_log(member).contains("by way of another member"), "{}", lab.vipd_log(member));
    }
    // Its own program refuses a member's certificate; another's would be refused in the handshake.
    let (code, error) = ask(&lab, "az-b/az-b", &["status"]);
    assert_eq!(code, 2, "{error}");
    let (code, made) = ask(&lab, "pki/operator-lab", &["transfer-leader", "--to", to]);
    assert_eq!((code, &made["to"]), (0, &to.into()), "{made}");
    lab.logs("az-a", "who=spiffe://edge/operator/lab");
    // An order that az-a passes on is logged by who carries it out, with both names.
    for order in ["pause", "resume"] {
        assert_eq!(ask(&lab, "pki/operator-lab", &[order]).0, 0, "{order}");
    }
    let both = "who=\"spiffe://edge/operator/lab\" by=spiffe://edge/member/az-a what=\"Order\"";
    until("both orders are logged", BOUND, || {
        let log = lab.vipd_log(to);
        holds(log.matches(both).count() == 2, || log)
    });
    // How long the certificates last, by status and by metrics.
    let (_, status) = ask(&lab, "pki/operator-lab", &["status"]);
    for member in status["members"].as_array().unwrap() {
        assert_eq!(member["certificate_days"], 89, "{member}");
    }
    for member in MEMBERS {
        until("the metric", BOUND, || {
            let (_, metrics) = lab.get(member, "127.0.0.1:9407", "/metrics")?;
            let value = metrics.lines().find_map(|l| l.strip_prefix("vipd_certificate_expiry_seconds "));
            let seconds: f64 = value.ok_or("it is missing")?.parse().map_err(|e| format!("{e}"))?;
            holds((89.0 * 86_400.0..90.0 * 86_400.0).contains(&seconds), || format!("{seconds}"))
        });
    }
}

#[test]
fn in_the_clear_where_it_is_asked_for() {
    let lab = Lab::up_with("clear", &["--set", "tls.insecure=true"]);
    lab.steady();
    let (_, metrics) = lab.get("az-a", "127.0.0.1:9407", "/metrics").unwrap();
    assert!(!metrics.contains("vipd_certificate_expiry_seconds"));
}

#[test]
fn a_renewed_certificate_is_taken_by_a_reload_and_one_that_does_not_fit_is_not() {
    let lab = Lab::up("renew");
    let owner = lab.steady();
    let other = others(&owner)[0];
    let term = lab.status(&owner).unwrap().term;
    let (dir, new) = (lab.dir.join(&owner), lab.dir.join("new"));
    std::fs::create_dir(&new).unwrap();
    let issued = std::process::Command::new(env!("CARGO_BIN_EXE_vipctl"))
        .args(["certs", "issue", "member", &owner, "--days", "8", "--dir"])
        .arg(lab.dir.join("pki"))
        .arg("--out")
        .arg(&new)
        .output()
        .unwrap();
    assert!(issued.status.success(), "{}", text(&issued.stderr));
    let put = |end: &str| {
        let file = format!("{owner}.{end}");
        std::fs::copy(new.join(&file), dir.join(&file)).unwrap();
    };
    let said = |words: &str| lab.says(other, words, |s| s.problems.iter().any(|p| p.contains(words)));
    // The certificate without its key.
    put("pem");
    lab.reload(&owner);
    said("is not the key of the certificate");
    put("key");
    lab.reload(&owner);
    let status = said(&format!("the certificate of {owner} ends in 7 days"));
    assert_eq!((status.state.as_str(), status.term), ("steady", term), "{status:?}");
    assert!(!status.problems.iter().any(|p| p.contains("old configuration")), "{status:?}");
    // What connects from now on shows it, and is let in.
    lab.ok(&["kill", other, "--only", "vipd"]);
    lab.ok(&["start", other]);
    assert_eq!(lab.steady(), owner);
}

#[test]
fn fault_64_who_is_revoked_is_refused_after_a_reload() {
    let lab = Lab::up("revoke");
    let owner = lab.steady();
    assert_eq!(ask(&lab, "pki/viewer-lab", &["status"]).0, 0);
    let revoked = std::process::Command::new(env!("CARGO_BIN_EXE_vipctl"))
        .args(["certs", "revoke"])
        .arg(lab.dir.join("pki/viewer-lab.pem"))
        .arg("--dir")
        .arg(lab.dir.join("pki"))
        .output()
        .unwrap();
    assert!(revoked.status.success(), "{}", text(&revoked.stderr));
    assert_eq!(ask(&lab, "pki/viewer-lab", &["status"]).0, 0, "the list is read by a reload");
    for member in MEMBERS {
        lab.reload(member);
        let (code, error) = ask_at(&lab, member, "pki/viewer-lab", &["status"]);
        assert_eq!(code, 5, "{member}: {error}");
        lab.logs(member, "it is revoked");
        assert_eq!(ask_at(&lab, member, "pki/operator-lab", &["status"]).0, 0, "{member}: others are let in");
    }
    assert_eq!(lab.steady(), owner);
}
