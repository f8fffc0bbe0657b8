//! drain, undrain, pause, resume, and `--force`.

use vipd::proto::order_request::Order;
use vipd::proto::{Move, StandingOrders};

use super::*;

fn moved() -> Move {
    Move {
        kind: "switchover".into(),
        from: Some("az-b".into()),
        to: "az-a".into(),
        term: 8,
        reason: "az-b is drained".into(),
        total_ms: Some(63.0),
        ..Move::default()
    }
}

#[tokio::test]
async fn each_order_is_told_once_and_in_words() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    for (arguments, words) in [
        (&["drain", "az-c"][..], "az-c is drained: it owns nothing until vipctl undrain az-c\n"),
        (&["undrain", "az-c"], "az-c may own the VIP\n"),
        (
            &["pause"],
            "the group is paused: the VIP stays, unless its owner dies or stops, until vipctl resume\n",
        ),
        (&["resume"], "the group is not paused: the VIP moves when it has to\n"),
    ] {
        let output = vipctl(&[&endpoint], arguments).await;
        assert_eq!(code(output.status), 0, "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), words);
    }
    let orders = fake.script(|s| s.orders.clone());
    let kinds: Vec<Order> = orders.iter().map(|o| o.order()).collect();
    assert_eq!(kinds, [Order::Drain, Order::Undrain, Order::Pause, Order::Resume]);
    let members: Vec<&str> = orders.iter().map(|o| o.member.as_str()).collect();
    assert_eq!(members, ["az-c", "az-c", "", ""]);
    let waits: Vec<u64> = orders.iter().map(|o| o.wait_ms).collect();
    assert_eq!(waits, [10_000, 2_500, 2_500, 2_500], "the member's own answer comes first");
    assert!(orders.iter().all(|o| !o.force));
}

#[tokio::test]
async fn a_drain_of_the_owner_prints_the_move() {
    let fake = Fake::new();
    fake.script(|s| {
        s.order = Answer::Is(StandingOrders {
            drained: vec!["az-b".into()],
            last_move: Some(moved()),
            ..StandingOrders::default()
        });
    });
    let endpoint = fake.on_tcp().await;
    let output = vipctl(&[&endpoint], &["drain", "az-b", "--wait", "3s", "--force"]).await;
    let page = text(&output.stdout);
    assert!(
        page.starts_with("switchover az-b -> az-a in 63 ms, term 8: az-b is drained\n")
            && page.ends_with("az-b is drained: it owns nothing until vipctl undrain az-b\n"),
        "{page}"
    );
    let asked = fake.script(|s| s.orders[0].clone());
    assert_eq!((asked.wait_ms, asked.force), (3_000, true));

    let answer = json(&vipctl(&[&endpoint], &["drain", "az-b", "-o", "json"]).await);
    assert_eq!(answer["drained"], serde_json::json!(["az-b"]));
    assert_eq!(answer["last_move"]["to"], "az-a");
    assert_eq!((&answer["paused"], &answer["paused_since"]), (&false.into(), &Value::Null));
}

#[tokio::test]
async fn an_order_without_a_move_has_null_for_it() {
    let fake = Fake::new();
    fake.script(|s| {
        let paused_since = Some("2026-11-22T10:00:00Z".to_owned());
        s.order = Answer::Is(StandingOrders { paused: true, paused_since, ..StandingOrders::default() });
    });
    let answer = json(&vipctl(&[&fake.on_tcp().await], &["-o", "json", "pause"]).await);
    let expected = serde_json::json!({
        "drained": [], "paused": true, "paused_since": "2026-11-22T10:00:00Z", "last_move": null,
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_refused_order_has_its_exit_code() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    for verb in [&["drain", "az-b"][..], &["undrain", "az-b"], &["pause"], &["resume"]] {
        for (kind, exit) in [("failed", 1), ("no-quorum", 3), ("refused", 4)] {
            fake.script(|s| s.order = Answer::Fails(failure(kind)));
            let output = vipctl(&[&endpoint], verb).await;
            assert_eq!(code(output.status), exit, "{verb:?} {kind}");
            let expected = format!("error: the {kind} cause\nnext: the {kind} next step\n");
            assert_eq!(text(&output.stderr), expected);
        }
    }
}

#[tokio::test]
async fn fault_69_an_order_to_a_dead_group_ends_within_its_time() {
    let fake = Fake::new();
    fake.script(|s| s.order = Answer::Never);
    let living = fake.on_tcp().await;
    let closed = nobody().await;
    for verb in [&["drain", "az-b", "--wait", "200ms"][..], &["undrain", "az-b"], &["pause"], &["resume"]] {
        let arguments = [&["--timeout", "300ms"], verb].concat();
        let output = vipctl(&[&living], &arguments).await;
        assert_eq!(code(output.status), 3, "{verb:?}");
        assert!(text(&output.stderr).contains("the outcome is unknown"), "{verb:?}");
        let output = vipctl(&[&closed], &arguments).await;
        assert_eq!(code(output.status), 5, "{verb:?}");
    }
    assert_eq!(fake.script(|s| s.orders.len()), 4, "each was told once");
}

#[tokio::test]
async fn transfer_can_be_forced() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    vipctl(&[&endpoint], &["transfer-leader"]).await;
    vipctl(&[&endpoint], &["transfer-leader", "--force"]).await;
    let forced: Vec<bool> = fake.script(|s| s.transfers.iter().map(|t| t.force).collect());
    assert_eq!(forced, [false, true]);
}

#[tokio::test]
async fn status_shows_who_is_drained_and_that_it_is_paused() {
    let fake = Fake::new();
    fake.script(|s| {
        let mut status = Status {
            state: "paused".into(),
            paused: true,
            paused_since: Some("2026-11-22T10:00:00Z".into()),
            problems: vec!["paused since 2026-11-22T10:00:00Z".into()],
            ..steady()
        };
        status.members[2].drained = true;
        s.group = Answer::Is(status);
    });
    let endpoint = fake.on_tcp().await;
    let output = vipctl(&[&endpoint], &["status"]).await;
    let page = text(&output.stdout);
    assert!(page.starts_with("edge  paused   owner az-b"), "{page}");
    assert!(page.contains("\n  ! paused since 2026-11-22T10:00:00Z\n"), "{page}");
    assert!(page.contains("\n  az-c: drained\n"), "{page}");
    assert_eq!(code(output.status), 0, "a pause is no failure");
    let status = json(&vipctl(&[&endpoint], &["status", "-o", "json"]).await);
    assert_eq!((&status["state"], &status["paused"]), (&"paused".into(), &true.into()));
    assert_eq!(status["members"][2]["drained"], true);

    let mut watch = Watch::start(&endpoint, &[]);
    let line = "paused owner=az-b leader=az-b term=7 epoch=93 members=3/3 routes=2/2 drained=az-c; \
                paused since 2026-11-22T10:00:00Z";
    assert_eq!(watch.line().await, line);
    assert_eq!(watch.interrupt().await, 0);
}
