//! Certificates that the CA has taken back: `tls.crl`.

use std::fs;
use std::sync::Arc;

use vipd::tls::{Credentials, Files, LoadError, Port, Whom};

use crate::handshake::{meet, member, member_a, name};
use crate::pki::{Kind, Pki};

fn numbered(pki: &Pki, who: &str, serial: u64) -> Files {
    pki.issue_as(who, who, &Kind { serial: Some(serial), ..Kind::default() })
}

fn with_list(pki: &Pki, files: Files) -> Files {
    Files { crl: Some(pki.path("crl.pem")), ..files }
}

#[tokio::test]
async fn fault_64_who_was_taken_back_is_refused_after_a_reload_as_client_and_as_server() {
    let pki = Pki::new();
    pki.revoke(&[1], 30);
    let a = member(&with_list(&pki, numbered(&pki, "member/az-a", 10)), "az-a");
    let b = member(&with_list(&pki, numbered(&pki, "member/az-b", 11)), "az-b");
    let c = member(&numbered(&pki, "member/az-c", 12), "az-c");
    let alice = Arc::new(Credentials::of_person(numbered(&pki, "operator/alice", 13)).unwrap());
    let eve = Arc::new(Credentials::of_person(numbered(&pki, "viewer/eve", 14)).unwrap());
    let everybody = async |a: &Arc<Credentials>| {
        let mut told = Vec::new();
        for (port, client) in
            [(Port::Peer, &b), (Port::Peer, &c), (Port::Operators, &alice), (Port::Operators, &eve)]
        {
            told.push(meet(a, port, Arc::clone(client), member_a()).await);
        }
        told.into_iter().map(|(speaker, told)| (speaker.is_ok(), told)).collect::<Vec<_>>()
    };
    assert!(everybody(&a).await.iter().all(|(in_, told)| *in_ && told.is_ok()));
    // Two are taken back. Until the reload nothing changes; then they are out, by that word.
    pki.revoke(&[1, 12, 13], 30);
    assert!(everybody(&a).await.iter().all(|(in_, _)| *in_));
    a.reload().unwrap();
    b.reload().unwrap();
    let out = (false, Err("refused by them: it is revoked".to_owned()));
    let fine = (true, Ok(()));
    assert_eq!(everybody(&a).await, [fine.clone(), out.clone(), out, fine]);
    // As a server: az-b speaks to az-c no more, and says why.
    let (_, told) = meet(&c, Port::Peer, Arc::clone(&b), Whom::Member(name("az-c"))).await;
    assert_eq!(told, Err("refused by me: it is revoked".to_owned()));
}

#[tokio::test]
async fn a_list_that_should_have_been_renewed_still_counts_and_stops_nobody_else() {
    let pki = Pki::new();
    pki.revoke(&[12], -1);
    let a = member(&with_list(&pki, numbered(&pki, "member/az-a", 10)), "az-a");
    assert!(a.warnings()[0].starts_with("tls.crl should have been renewed"));
    let (b, c) = (numbered(&pki, "member/az-b", 11), numbered(&pki, "member/az-c", 12));
    assert!(meet(&a, Port::Peer, member(&b, "az-b"), member_a()).await.0.is_ok());
    assert!(meet(&a, Port::Peer, member(&c, "az-c"), member_a()).await.0.is_err());
    pki.revoke(&[12], 1);
    a.reload().unwrap();
    assert!(a.warnings().is_empty());
}

#[tokio::test]
async fn a_list_of_one_ca_says_nothing_of_anothers_certificates() {
    // While CAs are exchanged: both are trusted, one has a list.
    let (old, new) = (Pki::new(), Pki::named("the next one"));
    old.revoke(&[11], 30);
    let both = [fs::read(old.path("ca.pem")).unwrap(), fs::read(new.path("ca.pem")).unwrap()].concat();
    for pki in [&old, &new] {
        fs::write(pki.path("both.pem"), &both).unwrap();
    }
    let trusts_both = |pki: &Pki, files: Files| Files { ca: pki.path("both.pem"), ..files };
    let a = trusts_both(&old, with_list(&old, numbered(&old, "member/az-a", 10)));
    let a = member(&a, "az-a");
    // The same number by the other CA is another certificate.
    for (pki, welcome) in [(&old, false), (&new, true)] {
        let b = member(&trusts_both(pki, numbered(pki, "member/az-b", 11)), "az-b");
        let (speaker, told) = meet(&a, Port::Peer, b, member_a()).await;
        assert_eq!((speaker.is_ok(), told.is_ok()), (welcome, welcome), "{told:?}");
    }
}

#[test]
fn fault_63_a_list_that_is_none_or_a_forged_one_is_refused_and_the_old_one_stays() {
    let pki = Pki::new();
    let list = pki.revoke(&[12], 30);
    let files = with_list(&pki, numbered(&pki, "member/az-a", 10));
    let load = || Credentials::of_member(files.clone(), &name("edge"), &name("az-a"));
    let credentials = load().unwrap();
    let refused = |words: &str| {
        for error in [load().map(drop), credentials.reload()].map(|r| r.expect_err("is refused")) {
            assert!(error.to_string().contains(words), "no {words:?} in: {error}");
            assert!(!error.next().is_empty());
        }
    };
    let good = fs::read(&list).unwrap();
    fs::write(&list, "").unwrap();
    refused("tls.crl");
    fs::write(&list, fs::read(&files.cert).unwrap()).unwrap();
    refused("no revocation list in PEM");
    let garbled = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    fs::write(&list, garbled).unwrap();
    refused("no revocation list that can be used");
    // By a CA of the same name: taken, it would keep everybody out.
    fs::copy(Pki::new().revoke(&[12], 30), &list).unwrap();
    refused("was not issued by the CA");
    fs::remove_file(&list).unwrap();
    refused("cannot be read");
    // Whoever is taken back himself learns it at the start.
    pki.revoke(&[10], 30);
    refused("it is revoked");
    assert!(matches!(load(), Err(LoadError::NotOfTheCa { .. })));
    fs::write(&list, good).unwrap();
    credentials.reload().unwrap();
}
