//! member list, add, promote, remove, replace.

use vipd::proto::members_request::Change;
use vipd::proto::{Members, Move, Newcomer};

use super::*;

#[tokio::test]
async fn the_list_says_who_votes_and_where_each_lies() {
    let fake = Fake::new();
    fake.script(|s| {
        let mut members = steady().members;
        members[0].incarnation = "00000000000000aa".into();
        members[1].witness = true;
        (members[2].voter, members[2].reachable) = (false, false);
        let warnings = vec!["two voters only: the group survives no loss".to_owned()];
        s.members = Answer::Is(Members { members, changing: true, warnings, last_move: None });
    });
    let endpoint = fake.on_tcp().await;
    let output = vipctl(&[&endpoint], &["member", "list"]).await;
    assert_eq!(code(output.status), 0);
    let page = text(&output.stdout);
    let line = |name: &str| {
        page.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    let a =
        ["az-a", "voter", "100", "eu-west-1a", "10.0.1.10:7400", "10.0.1.10:7401", "0", "00000000000000aa"];
    assert_eq!(line("az-a"), a);
    assert_eq!(line("az-b")[1], "witness");
    assert_eq!((line("az-c")[1], line("az-c")[6]), ("learner", "silent"));
    assert!(page.contains("\n  ! a change of the voters is half done"), "{page}");
    assert!(page.ends_with("\nwarning: two voters only: the group survives no loss\n"), "{page}");
    let list = json(&vipctl(&[&endpoint], &["member", "list", "-o", "json"]).await);
    assert_eq!((&list["members"][2]["voter"], &list["changing"]), (&false.into(), &true.into()));
    assert_eq!(list["last_move"], Value::Null);
    assert!(fake.script(|s| s.changes.iter().all(|c| c.change() == Change::List)));
}

#[tokio::test]
async fn each_change_is_told_once_and_in_words() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    let peer = "10.0.4.10:7400";
    let add = [
        "member",
        "add",
        "az-d",
        "--peer",
        peer,
        "--admin",
        "10.0.4.10:7401",
        "--witness",
        "--priority",
        "50",
    ];
    for (arguments, words) in [
        (&add[..], "az-d gets the log, as a learner: vipctl member promote az-d makes it a voter\n"),
        (&["member", "promote", "az-d"], "az-d votes\n"),
        (&["member", "remove", "az-c"], "az-c is out of the group: stop its vipd\n"),
        (
            &["member", "replace", "az-c", "az-d", "--peer", peer, "--force", "--wait", "2s"],
            "az-d is in the place of az-c: stop the vipd of az-c\n",
        ),
        (&["member", "replace", "az-c", "--peer", peer], "az-c is at 10.0.4.10:7400\n"),
    ] {
        let output = vipctl(&[&endpoint], arguments).await;
        assert_eq!(code(output.status), 0, "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), words);
    }
    let told = fake.script(|s| s.changes.clone());
    let kinds: Vec<Change> = told.iter().map(|c| c.change()).collect();
    assert_eq!(kinds, [Change::Add, Change::Promote, Change::Remove, Change::Replace, Change::Replace]);
    let whom: Vec<&str> = told.iter().map(|c| c.member.as_str()).collect();
    assert_eq!(whom, ["", "az-d", "az-c", "az-c", "az-c"]);
    let newcomer = Newcomer {
        name: "az-d".into(),
        peer: peer.into(),
        admin: Some("10.0.4.10:7401".into()),
        priority: Some(50),
        witness: true,
    };
    assert_eq!(told[0].newcomer, Some(newcomer));
    let named: Vec<Option<&str>> =
        told.iter().map(|c| c.newcomer.as_ref().map(|n| n.name.as_str())).collect();
    assert_eq!(named, [Some("az-d"), None, None, Some("az-d"), Some("az-c")]);
    assert_eq!(told.iter().map(|c| c.wait_ms).collect::<Vec<_>>(), [30_000, 10_000, 10_000, 2_000, 30_000]);
    assert_eq!(told.iter().map(|c| c.force).collect::<Vec<_>>(), [false, false, false, true, false]);
}

#[tokio::test]
async fn the_removal_of_an_owner_prints_its_move_and_what_to_know() {
    let fake = Fake::new();
    fake.script(|s| {
        let last_move = Move {
            kind: "switchover".into(),
            from: Some("az-b".into()),
            to: "az-a".into(),
            term: 8,
            reason: "az-b leaves the group".into(),
            total_ms: Some(63.0),
            ..Move::default()
        };
        let members = steady().members.into_iter().filter(|m| m.name != "az-b").collect();
        let warnings = vec!["two voters only: the group survives no loss".to_owned()];
        s.members = Answer::Is(Members { members, changing: false, warnings, last_move: Some(last_move) });
    });
    let endpoint = fake.on_tcp().await;
    let output = vipctl(&[&endpoint], &["member", "remove", "az-b"]).await;
    let page = text(&output.stdout);
    assert!(
        page.starts_with("switchover az-b -> az-a in 63 ms, term 8: az-b leaves the group\n")
            && page.ends_with(
                "az-b is out of the group: stop its vipd\nwarning: two voters only: the group survives no loss\n"
            ),
        "{page}"
    );
    let answer = json(&vipctl(&[&endpoint], &["member", "remove", "az-b", "-o", "json"]).await);
    assert_eq!(
        (&answer["last_move"]["to"], answer["members"].as_array().unwrap().len()),
        (&"az-a".into(), 2)
    );
}

#[tokio::test]
async fn a_refused_change_has_its_exit_code_and_wrong_usage_too() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    let peer = ["--peer", "10.0.4.10:7400"];
    let verbs = [
        vec!["member", "list"],
        [&["member", "add", "az-d"], &peer[..]].concat(),
        vec!["member", "promote", "az-d"],
        vec!["member", "remove", "az-d"],
        [&["member", "replace", "az-c", "az-d"], &peer[..]].concat(),
    ];
    for verb in &verbs {
        for (kind, exit) in [("usage", 2), ("failed", 1), ("no-quorum", 3), ("refused", 4)] {
            fake.script(|s| s.members = Answer::Fails(failure(kind)));
            let output = vipctl(&[&endpoint], verb).await;
            assert_eq!(code(output.status), exit, "{verb:?} {kind}");
            let expected = format!("error: the {kind} cause\nnext: the {kind} next step\n");
            assert_eq!(text(&output.stderr), expected);
        }
    }
    for wrong in [
        &["member"][..],
        &["member", "add", "az-d"],
        &["member", "add", "az-d", "--peer", "x:1", "--priority", "1001"],
        &["member", "promote"],
        &["member", "replace", "az-c", "az-d"],
    ] {
        assert_eq!(code(vipctl(&[&endpoint], wrong).await.status), 2, "{wrong:?}");
    }
}

#[tokio::test]
async fn fault_69_a_change_told_to_a_dead_group_ends_within_its_time() {
    let fake = Fake::new();
    fake.script(|s| s.members = Answer::Never);
    let living = fake.on_tcp().await;
    let remove = ["--timeout", "300ms", "member", "remove", "az-c", "--wait", "200ms"];
    let output = vipctl(&[&living], &remove).await;
    assert_eq!(code(output.status), 3);
    assert!(text(&output.stderr).contains("the outcome is unknown"));
    assert_eq!(fake.script(|s| s.changes.len()), 1, "it was told once");
}
