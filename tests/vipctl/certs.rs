//! `vipctl certs`: what it makes is what vipd takes, and nothing is written over.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use vipd::tls::{Credentials, Files};

use crate::{code, json, text, vipctl};

async fn certs(dir: &Path, arguments: &[&str]) -> Output {
    let dir = dir.to_str().unwrap();
    vipctl(&[], &[&["certs"], arguments, &["--dir", dir]].concat()).await
}

async fn made(dir: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = certs(dir, &[arguments, &["-o", "json"]].concat()).await;
    assert_eq!(code(output.status), 0, "{arguments:?}: {}", text(&output.stdout));
    json(&output)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn files(dir: &Path, stem: &str) -> Files {
    let file = |end: &str| dir.join(format!("{stem}.{end}"));
    Files { ca: dir.join("ca.pem"), cert: file("pem"), key: file("key"), crl: None }
}

#[tokio::test]
async fn a_ca_and_certificates_that_vipd_takes() {
    let temp = tempfile::tempdir().unwrap();
    let dir = &temp.path().join("pki");
    let ca = made(dir, &["init", "--cluster", "edge"]).await;
    assert_eq!((&ca["cluster"], &ca["days"]), (&"edge".into(), &3649.into()), "{ca}");
    assert_eq!((mode(dir), mode(&dir.join("ca.key")), mode(&dir.join("ca.pem"))), (0o700, 0o600, 0o644));

    let issued = made(dir, &["issue", "member", "az-a"]).await;
    assert_eq!(issued["identity"], "spiffe://edge/member/az-a", "{issued}");
    assert_eq!((&issued["role"], &issued["days"]), (&"member".into(), &89.into()), "{issued}");
    assert_eq!((mode(&dir.join("az-a.key")), mode(&dir.join("az-a.pem"))), (0o600, 0o644));
    let (edge, az_a) = ("edge".parse().unwrap(), "az-a".parse().unwrap());
    assert!(Credentials::of_member(files(dir, "az-a"), &edge, &az_a).is_ok());

    for role in ["operator", "viewer"] {
        made(dir, &["issue", role, "alice", "--days", "7"]).await;
        let person = Credentials::of_person(files(dir, &format!("{role}-alice"))).unwrap();
        assert_eq!(person.identity().to_string(), format!("spiffe://edge/{role}/alice"));
    }
    // No longer than the CA.
    let issued = made(dir, &["issue", "member", "az-b", "--days", "3650"]).await;
    assert_eq!(issued["days"], 3649, "{issued}");

    let show = ["ca.pem", "az-a.pem", "operator-alice.pem"].map(|f| dir.join(f).display().to_string());
    let show: Vec<&str> = show.iter().map(String::as_str).collect();
    let output = vipctl(&[], &[&["certs", "show", "-o", "json"], show.as_slice()].concat()).await;
    let all = json(&output);
    assert_eq!(
        (&all[0]["ca"], &all[0]["cluster"], &all[0]["identity"]),
        (&true.into(), &"edge".into(), &().into())
    );
    assert_eq!(
        (&all[1]["name"], &all[1]["role"], &all[1]["days"]),
        (&"az-a".into(), &"member".into(), &89.into())
    );
    assert!(all[2]["issuer"].as_str().unwrap().starts_with("CN=vipd CA of edge (20"), "{all}");
    let output = vipctl(&[], &[&["certs", "show"], show.as_slice()].concat()).await;
    let words = text(&output.stdout);
    for expected in ["the CA of edge", "spiffe://edge/member/az-a", "spiffe://edge/operator/alice", "89"] {
        assert!(words.contains(expected), "{expected} in {words}");
    }
}

#[tokio::test]
async fn nothing_is_written_over_and_every_error_has_a_next_step() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let refused = |output: Output, exit: i32, word: &str| {
        assert_eq!(code(output.status), exit, "{word}");
        let error = json(&output)["error"].clone();
        assert!(error["cause"].as_str().unwrap().contains(word), "{word} in {error}");
        assert!(!error["next"].as_str().unwrap().is_empty());
    };
    let run = async |arguments: &[&str]| certs(dir, &[arguments, &["-o", "json"]].concat()).await;
    refused(run(&["issue", "member", "az-a"]).await, 2, "ca.pem");
    made(dir, &["init", "--cluster", "edge"]).await;
    let key = std::fs::read(dir.join("ca.key")).unwrap();
    refused(run(&["init", "--cluster", "edge"]).await, 4, "is there already");
    assert_eq!(std::fs::read(dir.join("ca.key")).unwrap(), key);

    made(dir, &["issue", "member", "az-a"]).await;
    let before = std::fs::read(dir.join("az-a.pem")).unwrap();
    refused(run(&["issue", "member", "az-a"]).await, 4, "is there already");
    // One of the two is enough.
    std::fs::remove_file(dir.join("az-a.key")).unwrap();
    refused(run(&["issue", "member", "az-a"]).await, 4, "az-a.pem is there already");
    assert!(!dir.join("az-a.key").exists());
    assert_eq!(std::fs::read(dir.join("az-a.pem")).unwrap(), before);
    // Not even what a link points at.
    std::os::unix::fs::symlink(dir.join("nowhere"), dir.join("az-b.key")).unwrap();
    refused(run(&["issue", "member", "az-b"]).await, 4, "az-b.key is there already");

    refused(run(&["issue", "member", "az-c", "--cluster", "other"]).await, 4, "is the CA of edge");
    // A folder that is missing is made; one below a file cannot be.
    let (new, below) =
        (dir.join("new").display().to_string(), dir.join("az-a.pem/new").display().to_string());
    made(dir, &["issue", "member", "az-a", "--out", &new]).await;
    assert!(dir.join("new/az-a.key").exists());
    refused(run(&["issue", "member", "az-c", "--out", &below]).await, 1, "az-a.pem/new cannot be made");
    refused(run(&["issue", "member", "AZ C"]).await, 2, "is not a name");
    refused(run(&["issue", "king", "az-c"]).await, 2, "king");
    std::fs::remove_file(dir.join("ca.key")).unwrap();
    refused(run(&["issue", "member", "az-c"]).await, 2, "ca.key");
    let missing = dir.join("none.pem").display().to_string();
    refused(vipctl(&[], &["certs", "show", "-o", "json", &missing]).await, 2, "none.pem");
    let other = dir.join("az-b.key").display().to_string();
    std::fs::write(dir.join("nowhere"), "no PEM").unwrap();
    refused(vipctl(&[], &["certs", "show", "-o", "json", &other]).await, 1, "no certificate");
}

#[tokio::test]
async fn what_is_taken_back_stands_in_one_list_that_vipd_takes() {
    let temp = tempfile::tempdir().unwrap();
    let dir = &temp.path().join("pki");
    made(dir, &["init", "--cluster", "edge"]).await;
    for (role, name) in [("member", "az-a"), ("member", "az-b"), ("member", "az-c"), ("operator", "alice")] {
        made(dir, &["issue", role, name]).await;
    }
    let file = |name: &str| dir.join(name).display().to_string();
    assert_eq!(made(dir, &["revoke"]).await["certificates"], 0, "a list to begin with");
    let list = made(dir, &["revoke", &file("operator-alice.pem")]).await;
    assert_eq!(list["revoked"], serde_json::json!(["spiffe://edge/operator/alice"]), "{list}");
    assert_eq!((&list["certificates"], mode(&dir.join("crl.pem"))), (&1.into(), 0o644));
    // Again, and another: the list keeps what it has, once.
    let list = made(dir, &["revoke", &file("operator-alice.pem"), &file("az-b.pem")]).await;
    assert_eq!(list["certificates"], 2, "{list}");
    let revoked = vipd::tls::revoked(&std::fs::read(dir.join("crl.pem")).unwrap()).unwrap();
    let serial = |name: &str| {
        vipd::tls::describe(&std::fs::read(dir.join(name)).unwrap()).unwrap().remove(0).serial_bytes
    };
    let serials: Vec<_> = revoked.iter().map(|one| one.serial.clone()).collect();
    assert_eq!(serials, [serial("operator-alice.pem"), serial("az-b.pem")]);

    let load = |name: &str| {
        let files = Files { crl: Some(dir.join("crl.pem")), ..files(dir, name) };
        Credentials::of_member(files, &"edge".parse().unwrap(), &name.parse().unwrap())
    };
    assert!(load("az-a").is_ok() && load("az-c").is_ok());
    assert!(load("az-b").unwrap_err().to_string().contains("it is revoked"));

    let refused = async |arguments: &[&str], exit: i32, word: &str| {
        let output = certs(dir, &[arguments, &["-o", "json"]].concat()).await;
        assert_eq!(code(output.status), exit, "{word}");
        assert!(json(&output)["error"]["cause"].as_str().unwrap().contains(word), "{word}");
    };
    refused(&["revoke", &file("ca.pem")], 2, "was issued by").await;
    refused(&["revoke", &file("none.pem")], 2, "none.pem").await;
    // What the list has may not be lost by a list that cannot be read.
    std::fs::write(dir.join("crl.pem"), "x").unwrap();
    refused(&["revoke", &file("az-c.pem")], 4, "crl.pem").await;
    assert_eq!(std::fs::read(dir.join("crl.pem")).unwrap(), b"x");
}
