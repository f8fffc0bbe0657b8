//! The three files: what is wrong with them is said before anything of them is used.

use std::fs;

use rcgen::ExtendedKeyUsagePurpose;
use vipd::model::Name;
use vipd::tls::{Credentials, Files, Identity, LoadError, Role};

use crate::pki::{Kind, Pki, chmod, expired};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn load(files: &Files) -> Result<Credentials, LoadError> {
    Credentials::of_member(files.clone(), &name("edge"), &name("az-a"))
}

/// Refused with these words, and a next step.
#[track_caller]
fn refused(files: &Files, words: &[&str]) {
    let error = load(files).expect_err("is refused");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
    assert!(!error.next().is_empty());
}

#[test]
fn an_identity_is_one_uri_of_three_parts() {
    let good: Identity = "spiffe://edge/member/az-a".parse().unwrap();
    assert_eq!(good, Identity { cluster: name("edge"), role: Role::Member, name: name("az-a") });
    assert_eq!(good.to_string(), "spiffe://edge/member/az-a");
    for bad in [
        "",
        "spiffe://edge/member",
        "spiffe://edge/member/",
        "spiffe://edge/member/az-a/",
        "spiffe://edge/member/az-a/b",
        "spiffe://edge/member/az-a?x",
        "spiffe://edge/member/az-a#x",
        "spiffe://edge/member/AZ-A",
        "spiffe://edge/member/az%2da",
        "spiffe://edge/root/az-a",
        "spiffe://edge/Member/az-a",
        "spiffe:///member/az-a",
        "spiffe://edge:1/member/az-a",
        "SPIFFE://edge/member/az-a",
        "https://edge/member/az-a",
        " spiffe://edge/member/az-a",
        "spiffe://edge/member/az-a\n",
    ] {
        assert!(bad.parse::<Identity>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_pair_that_fits_is_taken() {
    let pki = Pki::new();
    let files = pki.issue("member/az-a");
    let credentials = load(&files).unwrap();
    assert_eq!(credentials.identity().to_string(), "spiffe://edge/member/az-a");
    let (from, until) = credentials.validity();
    assert_eq!((until.0 - from.0) / 86_400_000, 91);
    // A group may read it, as systemd's credentials and many a PKI have it.
    chmod(&files.key, 0o640);
    assert!(load(&files).is_ok());
    // Not valid yet: the clock may be behind. The others refuse it until it is.
    let early = pki.issue_as("early", "member/az-a", &Kind { days: (1, 90), ..Kind::default() });
    assert!(load(&early).is_ok());
}

#[test]
fn fault_63_a_key_that_does_not_fit_or_others_can_read() {
    let pki = Pki::new();
    let (mine, other) = (pki.issue("member/az-a"), pki.issue("member/az-b"));
    refused(&Files { key: other.key.clone(), ..mine.clone() }, &["is not the key of the certificate"]);
    chmod(&mine.key, 0o644);
    refused(&mine, &["mode 0644", "everybody on this host can read it"]);
    chmod(&mine.key, 0o600);
    assert!(load(&mine).is_ok());
    for (field, path) in [("tls.cert", &mine.cert), ("tls.key", &mine.key)] {
        let before = fs::read(path).unwrap();
        fs::write(path, "-----BEGIN").unwrap();
        refused(&mine, &[field, path.to_str().unwrap()]);
        fs::write(path, vec![b'x'; 2 << 20]).unwrap();
        refused(&mine, &[field, "over 1 MiB"]);
        fs::write(path, before).unwrap();
    }
    refused(&Files { ca: pki.path("none.pem"), ..mine.clone() }, &["tls.ca", "cannot be read"]);
    refused(&Files { ca: mine.key.clone(), ..mine }, &["tls.ca", "no certificate in PEM"]);
}

#[test]
fn fault_63_an_expired_certificate_and_one_of_somebody_else() {
    let pki = Pki::new();
    refused(&pki.issue_as("old", "member/az-a", &expired()), &["has been over for", "since 20"]);
    refused(
        &pki.issue("member/az-b"),
        &["is spiffe://edge/member/az-b, and this is spiffe://edge/member/az-a"],
    );
    refused(&pki.issue("operator/az-a"), &["spiffe://edge/operator/az-a"]);
    let uris =
        |uris: &[&str]| Kind { uris: uris.iter().map(|u| (*u).to_owned()).collect(), ..Kind::default() };
    for (kind, word) in [
        (uris(&["spiffe://other/member/az-a"]), "spiffe://other/member/az-a"),
        (uris(&["https://edge/member/az-a"]), "is not spiffe://CLUSTER/ROLE/NAME"),
        (uris(&["spiffe://edge/member/az-a", "spiffe://edge/member/az-b"]), "2 URIs"),
    ] {
        refused(&pki.issue_as("odd", "", &kind), &[word]);
    }
    let client_only = Kind { uses: vec![ExtendedKeyUsagePurpose::ClientAuth], ..Kind::default() };
    refused(&pki.issue_as("client", "member/az-a", &client_only), &["for another purpose"]);
    let mine = pki.issue("member/az-a");
    for (other, word) in [(Pki::named("another"), "it is of another CA"), (Pki::new(), "of the same name")] {
        let files = Files { ca: other.path("ca.pem"), ..mine.clone() };
        refused(&files, &["was not issued by the CA", files.ca.to_str().unwrap(), word]);
    }
}

#[test]
fn a_reload_takes_a_pair_that_fits_and_keeps_the_old_one_otherwise() {
    let pki = Pki::new();
    let files = pki.issue("member/az-a");
    let credentials = load(&files).unwrap();
    let before = credentials.validity();
    let longer = pki.issue_as("longer", "member/az-a", &Kind { days: (-1, 200), ..Kind::default() });
    // Half of it: the certificate is the new one, the key still the old one.
    fs::copy(&longer.cert, &files.cert).unwrap();
    assert!(matches!(credentials.reload(), Err(LoadError::Mismatch { .. })));
    assert_eq!(credentials.validity(), before);
    fs::copy(&longer.key, &files.key).unwrap();
    credentials.reload().unwrap();
    assert_eq!((credentials.validity().1.0 - before.1.0) / 86_400_000, 110);
    fs::copy(pki.issue("member/az-b").cert, &files.cert).unwrap();
    assert!(matches!(credentials.reload(), Err(LoadError::Other { .. } | LoadError::Mismatch { .. })));
    assert_eq!(credentials.identity().to_string(), "spiffe://edge/member/az-a");
}
