//! vipd's own words about its three files, at `--check` and at the start.

use std::process::Command;

use vipd::tls::{Files, warning};

use crate::pki::{Kind, Pki, chmod, expired};

const FILE: &str = r#"
cluster = "edge"
member = "az-a"
peer.listen = "127.0.0.1:7400"
vip.addresses = ["192.168.77.10/32"]
aws.route_tables = ["rtb-0a"]
[[members]]
name = "az-a"
peer = "127.0.0.1:7400"
[tls]
"#;

/// Exit code, standard output and standard error of `vipd --check`, and of `vipd`.
fn run(files: &Files) -> [(i32, String); 2] {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vipd.toml");
    let Files { ca, cert, key, .. } = files;
    let data = dir.path().join("data");
    // A data directory that cannot be made: whoever gets so far has taken the certificates.
    std::fs::write(&data, "").unwrap();
    let text = format!("data_dir = {data:?}\n{FILE}ca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n");
    std::fs::write(&path, text).unwrap();
    [&["--check"][..], &[]].map(|arguments| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vipd"));
        let output = command.arg("--config").arg(&path).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
        (output.status.code().unwrap(), said.concat())
    })
}

#[test]
fn fault_63_vipd_does_not_start_and_says_why() {
    let pki = Pki::new();
    let (mine, other) = (pki.issue("member/az-a"), pki.issue("member/az-b"));
    let another = Pki::named("another");
    let exposed = pki.issue_as("exposed", "member/az-a", &Kind::default());
    chmod(&exposed.key, 0o604);
    for (files, words) in [
        (Files { key: other.key.clone(), ..mine.clone() }, "is not the key of the certificate"),
        (pki.issue_as("old", "member/az-a", &expired()), "has been over for"),
        (other, "is spiffe://edge/member/az-b, and this is spiffe://edge/member/az-a"),
        (Files { ca: another.path("ca.pem"), ..mine.clone() }, "was not issued by the CA"),
        (exposed, "mode 0604: everybody on this host can read it"),
    ] {
        for (code, said) in run(&files) {
            assert_eq!(code, 2, "{said}");
            assert!(said.contains(words), "no {words:?} in {said}");
            assert!(said.contains("next:") || said.contains("help:"), "{said}");
        }
    }
}

#[test]
fn fault_63_a_certificate_that_ends_soon_is_warned_of() {
    let pki = Pki::new();
    for (days, words) in [
        (200, None),
        (25, Some("ends in 24 days")),
        (3, Some("ends in 2 days")),
        (1, Some("ends within a day")),
    ] {
        let kind = Kind { days: (-1, days), ..Kind::default() };
        let [(code, said), _] = run(&pki.issue_as(&format!("in-{days}"), "member/az-a", &kind));
        assert_eq!(code, 0, "{said}");
        match words {
            Some(words) => {
                assert!(said.contains(words) && said.contains("vipctl certs issue"), "{words}: {said}");
            }
            None => assert!(!said.contains("certificate"), "{said}"),
        }
    }
    let day = 86_400;
    let bands = [30 * day, 30 * day - 1, 7 * day, 7 * day - 1, day, day - 1, -1];
    assert_eq!(bands.map(warning), [None, Some(30), Some(30), Some(7), Some(7), Some(1), Some(1)]);
}
