//! The operators' contract (DESIGN.md section 6), seen from outside: the real `vipctl` against a
//! member that answers what the test tells it to.

use std::net::SocketAddr;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tonic::Code;
use vipd::proto::{Member, Move, Right, Route, Status, TransferLeaderResponse};

#[path = "vipctl/certs.rs"]
mod certs;
#[path = "vipctl/doctor.rs"]
mod doctor;
#[path = "vipctl/fake.rs"]
mod fake;
#[path = "vipctl/members.rs"]
mod members;
#[path = "vipctl/orders.rs"]
mod orders;
#[path = "vipctl/terminal.rs"]
mod terminal;
#[path = "common/verbs.rs"]
mod verbs;

use fake::{Answer, Fake, failure, member, no_quorum, steady};
use verbs::TO_A_MEMBER;

/// No test waits longer for anything.
const BOUND: Duration = Duration::from_secs(10);

fn command(endpoints: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipctl"));
    for variable in ["VIPCTL_ENDPOINTS", "VIPCTL_CA", "VIPCTL_CERT", "VIPCTL_KEY"] {
        command.env_remove(variable);
    }
    command.kill_on_drop(true).stdin(Stdio::null());
    for endpoint in endpoints {
        command.args(["--endpoint", endpoint]);
    }
    command.args(arguments);
    command
}

async fn vipctl(endpoints: &[&str], arguments: &[&str]) -> Output {
    let run = command(endpoints, arguments).output();
    tokio::time::timeout(BOUND, run).await.expect("vipctl ends in time").unwrap()
}

fn code(status: ExitStatus) -> i32 {
    status.code().expect("ended by itself")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON value on standard output")
}

/// An address that nobody listens on.
async fn nobody() -> String {
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    format!("http://{address}")
}

/// An address where the kernel accepts and nobody answers, as with a frozen member.
async fn frozen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

#[tokio::test]
async fn status_for_people() {
    let endpoint = Fake::new().on_tcp().await;
    let output = vipctl(&[&endpoint], &["status"]).await;
    let bars =
        |before: usize, bar: &str, after: usize| format!("{}{bar}{}", " ".repeat(before), " ".repeat(after));
    let expected = format!(
        "\
edge  steady   owner az-b   leader az-b   term 7   epoch 93   seen by az-b

MEMBER  ZONE        ROLE      HEALTH   REACHED  VIP  LAG  PRIO  ENI     VERSION
az-a    eu-west-1a  follower  healthy  yes      -      0   100  eni-0a  0.1.0
az-b    eu-west-1b  leader    healthy  yes      yes    0   100  eni-0b  0.1.0
az-c    eu-west-1c  follower  healthy  yes      -      0   100  eni-0c  0.1.0

policy  failback false, min_hold_s 10, on_quorum_loss hold

VIP               ROUTE TABLE  TARGET  MEMBER  STATE   IN SYNC
192.168.77.10/32  rtb-0a       eni-0b  az-b    active  yes
192.168.77.10/32  rtb-0b       eni-0b  az-b    active  yes

last move  2026-11-22T10:00:00Z  failover az-a -> az-b in 212 ms, term 7: leader lost
  detect  {}    170 ms
  elect   {}    4.0 ms
  claim   {}    3.0 ms
  address {}    1.0 ms
  route   {}     30 ms
  verify  {}    4.0 ms
",
        bars(0, &"█".repeat(37), 9),
        bars(37, "█", 8),
        bars(38, "▏", 7),
        bars(38, "█", 7),
        bars(39, "██████", 1),
        bars(45, "█", 0),
    );
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(code(output.status), 0);
}

#[tokio::test]
async fn status_names_what_is_wrong() {
    let fake = Fake::new();
    fake.script(|s| {
        let mut status = Status { state: "degraded".into(), ..steady() };
        status.problems = vec!["1 of 2 routes in sync\x1b[31m".into()];
        status.members[2] = Member {
            reachable: false,
            health: "unhealthy".into(),
            health_reason: "HAProxy's socket is closed".into(),
            drained: true,
            not_eligible: "drained".into(),
            ..member('c', "follower")
        };
        status.vips[0].routes[1] = Route {
            target: None,
            state: "missing".into(),
            in_sync: false,
            error: "UnauthorizedOperation: ec2:ReplaceRoute".into(),
            ..status.vips[0].routes[1].clone()
        };
        s.group = Answer::Is(status);
    });
    let output = vipctl(&[&fake.on_tcp().await], &["status"]).await;
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    for expected in [
        "  ! 1 of 2 routes in sync [31m",
        "az-c    eu-west-1c  follower  unhealthy  no       -      0   100  eni-0c  0.1.0",
        "  az-c: drained",
        "  az-c: HAProxy's socket is closed",
        "192.168.77.10/32  rtb-0b       -       -       missing  no",
        "  rtb-0b: UnauthorizedOperation: ec2:ReplaceRoute",
    ] {
        assert!(lines.contains(&expected), "{expected:?} in {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("may not own")), "drained says it already");
    assert_eq!(code(output.status), 0);
}

#[tokio::test]
async fn status_has_the_contracts_json() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = Fake::new().on_unix(&directory.path().join("admin.sock")).await;
    let output = vipctl(&[&endpoint], &["-o", "json", "status"]).await;
    assert_eq!(code(output.status), 0);
    let contract: Value = serde_json::from_str(
        r#"{"cluster":"edge","term":7,"leader":"az-b","owner":"az-b","state":"steady",
         "members":[{"name":"az-a","zone":"eu-west-1a","role":"follower","voter":true,
           "witness":false,"drained":false,"reachable":true,"health":"healthy","health_reason":"",
           "eni":"eni-0a","peer":"10.0.1.10:7400","admin":"10.0.1.10:7401","applied":93,"lag":0,
           "vip_local":false,"version":"0.1.0"}],
         "vips":[{"address":"192.168.77.10/32","owner":"az-b","routes":[{"route_table":"rtb-0a",
           "target":"eni-0b","state":"active","in_sync":true}]}],
         "last_move":{"kind":"failover","from":"az-a","to":"az-b","term":7,"reason":"leader lost",
           "at":"2026-11-22T10:00:00Z","total_ms":212.0,"phases_ms":{"detect":170.0,"elect":4.0,
           "claim":3.0,"address":1.0,"route":30.0,"verify":4.0}}}"#,
    )
    .unwrap();
    assert_within(&contract, &json(&output), "status");
}

/// All of `contract` stands in `answer`, which may hold more.
fn assert_within(contract: &Value, answer: &Value, at: &str) {
    match (contract, answer) {
        (Value::Object(contract), Value::Object(answer)) => {
            for (key, value) in contract {
                let found = answer.get(key).unwrap_or_else(|| panic!("{at}.{key} is not there"));
                assert_within(value, found, &format!("{at}.{key}"));
            }
        }
        (Value::Array(contract), Value::Array(answer)) => {
            for (index, value) in contract.iter().enumerate() {
                assert_within(value, &answer[index], &format!("{at}[{index}]"));
            }
        }
        (contract, answer) => assert_eq!(contract, answer, "{at}"),
    }
}

#[tokio::test]
async fn what_is_absent_is_null() {
    let fake = Fake::new();
    fake.script(|s| {
        let group = Status { owner: None, leader: None, last_move: None, ..steady() };
        s.group = Answer::Is(group);
    });
    let status = json(&vipctl(&[&fake.on_tcp().await], &["status", "-o", "json"]).await);
    for key in ["owner", "leader", "last_move"] {
        assert_eq!(status.get(key), Some(&Value::Null), "{key}");
    }
}

#[tokio::test]
async fn status_without_a_quorum_is_printed_and_exits_3() {
    let fake = Fake::new();
    fake.script(|s| s.group = Answer::Is(no_quorum()));
    let endpoint = fake.on_tcp().await;

    let output = vipctl(&[&endpoint], &["status"]).await;
    assert_eq!(code(output.status), 3);
    let page = text(&output.stdout);
    assert!(page.starts_with("edge  no-quorum   owner az-b   leader none"), "{page}");
    assert!(page.contains("  ! no leader since 12 s\n") && page.contains("rtb-0a"), "{page}");
    let words = text(&output.stderr);
    assert!(words.starts_with("error: edge has no quorum\nnext: "), "{words}");

    let output = vipctl(&[&endpoint], &["status", "-o", "json"]).await;
    assert_eq!(code(output.status), 3);
    assert_eq!(json(&output)["state"], "no-quorum");
    assert_eq!(text(&output.stderr), "");
}

#[tokio::test]
async fn status_falls_back_on_the_members_own_view() {
    let fake = Fake::new();
    fake.script(|s| s.local = Status { seen_by: "az-a".into(), ..no_quorum() });
    let endpoint = fake.on_tcp().await;
    for answer in [Answer::Never, Answer::Fails(failure("no-quorum"))] {
        fake.script(|s| s.group = answer);
        let output = vipctl(&[&endpoint], &["--timeout", "500ms", "status"]).await;
        assert_eq!(code(output.status), 3);
        let page = text(&output.stdout);
        assert!(page.contains("seen by az-a\n"), "{page}");
        assert!(page.contains("  ! only az-a's own view: "), "{page}");
        assert!(text(&output.stderr).starts_with("error: "));
    }
}

#[tokio::test]
async fn routes_in_both_forms() {
    let endpoint = Fake::new().on_tcp().await;
    let output = vipctl(&[&endpoint], &["routes"]).await;
    assert_eq!(
        text(&output.stdout),
        "\
VIP               ROUTE TABLE  TARGET  MEMBER  STATE   IN SYNC
192.168.77.10/32  rtb-0a       eni-0b  az-b    active  yes
192.168.77.10/32  rtb-0b       eni-0b  az-b    active  yes
"
    );
    let vips = json(&vipctl(&[&endpoint], &["routes", "-o", "json"]).await);
    assert_eq!(vips[0]["routes"][1]["route_table"], "rtb-0b");
    assert_eq!(vips.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn transfer_prints_the_one_move() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    let arguments = ["transfer-leader", "--to", "az-a", "--wait", "3s"];
    let output = vipctl(&[&endpoint], &arguments).await;
    assert_eq!(code(output.status), 0, "{}", text(&output.stderr));
    let page = text(&output.stdout);
    let first = "switchover az-b -> az-a in 63 ms, term 8: asked for\n";
    assert!(page.starts_with(first), "{page}");
    assert!(page.contains("  claim   ██") && page.contains("60 ms"), "{page}");
    assert!(!page.contains("detect"), "a phase that did not take place: {page}");

    let output = vipctl(&[&endpoint], &["transfer-leader", "-o", "json"]).await;
    let made = json(&output);
    assert_eq!((&made["from"], &made["to"]), (&"az-b".into(), &"az-a".into()));
    assert_eq!(made["phases_ms"]["route"], 60.0);
    assert_eq!(made["phases_ms"]["detect"], Value::Null);

    let asked = fake.script(|s| s.transfers.clone());
    let waits: Vec<u64> = asked.iter().map(|request| request.wait_ms).collect();
    assert_eq!(waits, [3_000, 10_000]);
    let targets: Vec<Option<&str>> = asked.iter().map(|request| request.to.as_deref()).collect();
    assert_eq!(targets, [Some("az-a"), None]);
    assert!(asked.iter().all(|request| !request.dry_run));
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen() {
    let fake = Fake::new();
    let would = Move {
        kind: "switchover".into(),
        from: Some("az-b".into()),
        to: "az-c".into(),
        reason: "asked by an operator".into(),
        ..Move::default()
    };
    fake.script(|s| {
        let right =
            Right { route_table: "rtb-0a".into(), allowed: true, age_ms: 12_300, error: String::new() };
        let answer = TransferLeaderResponse {
            last_move: Some(would),
            dry_run: true,
            rights: vec![right],
            not_asked: vec!["rtb-0b".into()],
        };
        s.transfer = Answer::Is(answer);
    });
    let output = vipctl(&[&fake.on_tcp().await], &["transfer-leader", "--dry-run"]).await;
    let expected = "would move: switchover az-b -> az-c: asked by an operator\n  \
                    rtb-0a  az-c may change it, EC2 said 12 s ago (DryRun)\n  \
                    rtb-0b  EC2 was not asked yet\nnothing was changed\n";
    assert_eq!(text(&output.stdout), expected);
    let output = vipctl(&[&fake.on_tcp().await], &["transfer-leader", "--dry-run", "-o", "json"]).await;
    let would = json(&output);
    assert_eq!((&would["to"], &would["rights"][0]["age_ms"]), (&"az-c".into(), &12_300.into()));
    assert_eq!((&would["not_asked"][0], &would["dry_run"]), (&"rtb-0b".into(), &true.into()));
    assert!(fake.script(|s| s.transfers[0].dry_run));
}

#[tokio::test]
async fn a_transfer_without_an_answer_is_unknown_and_not_repeated() {
    let (first, second) = (Fake::new(), Fake::new());
    first.script(|s| s.transfer = Answer::Never);
    let endpoints = [first.on_tcp().await, second.on_tcp().await];
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let arguments = ["--timeout", "300ms", "transfer-leader", "--wait", "300ms"];
    let output = vipctl(&endpoints, &arguments).await;
    assert_eq!(code(output.status), 3);
    let words = text(&output.stderr);
    assert!(words.contains("the outcome is unknown") && words.contains("next: see vipctl history"));
    assert_eq!(first.script(|s| s.transfers.len()), 1);
    assert_eq!(second.script(|s| s.transfers.len()), 0);
}

#[tokio::test]
async fn history_newest_first_with_a_waterfall_each() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    let output = vipctl(&[&endpoint], &["history", "-n", "2"]).await;
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    let table = [
        "edge   seen by az-b",
        "",
        "WHEN                  KIND        FROM  TO    TERM   TOTAL  REASON",
        "2026-11-22T10:00:00Z  switchover  az-b  az-a     8   63 ms  asked for",
        "2026-11-22T10:00:00Z  failover    az-a  az-b     7  212 ms  leader lost",
    ];
    assert_eq!(lines[..5], table);
    assert_eq!(lines.iter().filter(|line| line.starts_with("  route ")).count(), 2);
    assert_eq!(lines.iter().filter(|line| **line == "  EC2 requests req-1 req-2").count(), 1);
    let left_out = "  EC2 requests 3 left out: the new owner's log has them";
    assert_eq!(lines.iter().filter(|line| **line == left_out).count(), 1);
    assert_eq!(fake.script(|s| s.history_limit), Some(2));

    let moves = json(&vipctl(&[&endpoint], &["history", "-o", "json"]).await);
    let kinds: Vec<&Value> = moves.as_array().unwrap().iter().map(|m| &m["kind"]).collect();
    assert_eq!(kinds, ["switchover", "failover"]);
    assert_eq!(moves[1]["request_ids"], serde_json::json!(["req-1", "req-2"]));
    assert_eq!(
        (&moves[0]["request_ids_left_out"], &moves[1]["request_ids_left_out"]),
        (&3.into(), &0.into())
    );
}

#[tokio::test]
async fn a_history_of_one_that_is_cut_off_says_so() {
    let fake = Fake::new();
    fake.script(|s| s.local = no_quorum());
    let output = vipctl(&[&fake.on_tcp().await], &["history"]).await;
    let lines: Vec<&str> = text(&output.stdout).lines().take(3).collect();
    let says = "  ! it has no quorum: newer moves may be missing; ask another member: --endpoint URL";
    assert_eq!((code(output.status), lines), (0, vec!["edge   seen by az-b", says, ""]));
}

#[tokio::test]
async fn each_failure_has_its_exit_code() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    for (kind, exit) in [("failed", 1), ("usage", 2), ("no-quorum", 3), ("refused", 4)] {
        fake.script(|s| s.transfer = Answer::Fails(failure(kind)));
        let output = vipctl(&[&endpoint], &["transfer-leader"]).await;
        assert_eq!(code(output.status), exit, "{kind}");
        assert_eq!(text(&output.stdout), "");
        let expected = format!("error: the {kind} cause\nnext: the {kind} next step\n");
        assert_eq!(text(&output.stderr), expected);

        let output = vipctl(&[&endpoint], &["transfer-leader", "-o", "json"]).await;
        assert_eq!(code(output.status), exit, "{kind}");
        let expected = serde_json::json!({"error": {
            "kind": kind,
            "cause": format!("the {kind} cause"),
            "next": format!("the {kind} next step"),
        }});
        assert_eq!(json(&output), expected);
        assert_eq!(text(&output.stderr), "");
    }
}

#[tokio::test]
async fn a_status_without_details_has_an_exit_code_too() {
    let fake = Fake::new();
    let endpoint = fake.on_tcp().await;
    for (status, exit) in [
        (Code::Unavailable, 5),
        (Code::DeadlineExceeded, 3),
        (Code::Unimplemented, 1),
        (Code::PermissionDenied, 1),
    ] {
        fake.script(|s| s.history = Answer::Fails(tonic::Status::new(status, "no details")));
        let output = vipctl(&[&endpoint], &["history"]).await;
        assert_eq!(code(output.status), exit, "{status:?}");
        let words = text(&output.stderr);
        assert!(words.contains(&format!("error: {endpoint}: no details\nnext: ")), "{words}");
    }
}

#[tokio::test]
async fn endpoints_that_cannot_be_reached_are_all_named() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/none.sock", directory.path().display());
    let (_listener, hangs) = frozen().await;
    let closed = nobody().await;
    let endpoints = [closed.as_str(), hangs.as_str(), socket.as_str()];
    for verb in TO_A_MEMBER {
        let output = vipctl(&endpoints, &[&["--timeout", "400ms"], verb].concat()).await;
        assert_eq!(code(output.status), 5, "{verb:?}");
        let words = text(&output.stderr);
        for expected in [
            format!("{closed}: tcp connect error: Connection refused"),
            format!("{hangs}: no answer within 100 ms"),
            format!("{socket}: No such file or directory"),
            "\nnext: check that vipd runs there".into(),
        ] {
            assert!(words.contains(&expected), "{expected:?} in {words}");
        }
    }
    let output = vipctl(&[&closed], &["status", "-o", "json"]).await;
    assert_eq!(code(output.status), 5);
    assert_eq!(json(&output)["error"]["kind"], "unreachable");
}

#[tokio::test]
async fn the_next_endpoint_answers_for_one_that_does_not() {
    let (_listener, hangs) = frozen().await;
    let closed = nobody().await;
    let fake = Fake::new();
    let living = fake.on_tcp().await;
    let output = vipctl(&[&closed, &hangs, &living], &["--timeout", "2s", "routes"]).await;
    assert_eq!(code(output.status), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("rtb-0b"));

    let both = format!("{closed},{living}");
    let by_environment = command(&[], &["routes"]).env("VIPCTL_ENDPOINTS", both).output();
    let output = tokio::time::timeout(BOUND, by_environment).await.unwrap().unwrap();
    assert_eq!(code(output.status), 0, "{}", text(&output.stderr));
}

#[tokio::test]
async fn wrong_usage_exits_2_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("ca.pem");
    let missing = missing.to_str().unwrap();
    let of = |file| ["--endpoint", "https://a:1", "--ca", file, "--cert", file, "--key", file, "status"];
    let (none, no_pem) = (of(missing), of(file!()));
    let cases: &[(&[&str], &str)] = &[
        (&["status", "--nonsense"], "--nonsense"),
        (&["nonsense"], "nonsense"),
        (&["--timeout", "5", "status"], "no unit: write 5s or 5ms"),
        (&["--timeout", "0s", "status"], "must be more than 0"),
        (&["transfer-leader", "--wait", "1h"], "not a time"),
        (&["--endpoint", "10.0.1.10:7401", "status"], "write http://HOST:PORT"),
        (&["--endpoint", "https://10.0.1.10:7401", "status"], "https needs a CA"),
        (&["--endpoint", "https://a:1", "--ca", missing, "status"], "https needs your certificate"),
        (&["--endpoint", "https://a", "--ca", missing, "status"], "it has no port"),
        (&none, "--ca: "),
        (&no_pem, "has no certificate in PEM"),
        (&["--cert", missing, "status"], "--key"),
        (&["drain"], "<NAME>"),
        (&["undrain"], "<NAME>"),
        (&["member", "replace", "az-c"], "--peer <HOST:PORT>"),
        (&["certs", "issue"], "<ROLE>"),
        (&["member", "add"], "<NAME>"),
        (&["pause", "az-a"], "az-a"),
        (&["certs"], "see vipctl certs --help"),
        (&["member"], "see vipctl member --help"),
        (&["--timeout", "5s"], "a verb is missing"),
        (&[], "a verb is missing"),
    ];
    for (arguments, expected) in cases {
        let output = vipctl(&[], arguments).await;
        assert_eq!(code(output.status), 2, "{arguments:?}");
        let words = text(&output.stderr);
        assert!(words.contains(expected), "{expected:?} in {words}");
        assert!(!words.contains("manual"), "it is for the package: {words}");

        let with_json: Vec<&str> = ["-o", "json"].iter().chain(*arguments).copied().collect();
        let output = vipctl(&[], &with_json).await;
        assert_eq!(code(output.status), 2, "{arguments:?}");
        let error = &json(&output)["error"];
        assert_eq!(error["kind"], "usage", "{arguments:?}");
        let cause = error["cause"].as_str().unwrap();
        let next = error["next"].as_str().unwrap();
        assert!(format!("{cause} {next}").contains(expected), "{expected:?} in {error}");
        assert!(!cause.contains("Usage:") && !cause.contains("manual"), "{cause}");
        assert_eq!(
            next.contains("certs --help") || next.contains("member --help"),
            cause == "a verb is missing" && arguments.len() == 1,
            "{error}"
        );
        assert!(!cause.contains('\n') && !cause.starts_with("error: "), "{cause}");
    }
}

#[tokio::test]
async fn every_verb_has_an_example_and_says_what_its_arguments_are() {
    let verbs = [
        "status",
        "routes",
        "transfer-leader",
        "drain",
        "undrain",
        "pause",
        "resume",
        "history",
        "doctor",
        "iam-policy",
        "member list",
        "member add",
        "member promote",
        "member remove",
        "member replace",
        "certs init",
        "certs issue",
        "certs revoke",
        "certs show",
        "completion",
    ];
    // What reaches a member is tested against one that does not answer, verb by verb.
    let alone = |verb: &&&str| verb.starts_with("certs") || **verb == "completion";
    let to_a_member: Vec<&str> = verbs.iter().filter(|verb| !alone(verb)).copied().collect();
    let tested = TO_A_MEMBER.map(|words| words[..if words[0] == "member" { 2 } else { 1 }].join(" "));
    assert_eq!(tested.to_vec(), to_a_member);
    for verb in verbs {
        let arguments: Vec<_> = verb.split(' ').chain(["--help"]).collect();
        let output = vipctl(&[], &arguments).await;
        assert_eq!(code(output.status), 0, "{verb}");
        let help = text(&output.stdout);
        let examples = help.split_once("\nExample").map(|(_, after)| after).unwrap_or_default();
        assert!(examples.contains(&format!("vipctl {verb}")), "{verb}: {help}");
        // And says what each of its arguments is: with -h, one a line.
        let short: Vec<_> = verb.split(' ').chain(["-h"]).collect();
        let output = vipctl(&[], &short).await;
        let help = text(&output.stdout);
        let positional = help.split_once("\nArguments:\n").map(|(_, after)| after).unwrap_or_default();
        let named = |line: &&str| line.trim_start().starts_with(['<', '[']);
        for line in positional.lines().take_while(|line| !line.is_empty()).filter(named) {
            let (name, words) = line.trim_start().split_once("  ").unwrap_or((line, ""));
            assert!(
                words.trim_start().starts_with(char::is_alphabetic),
                "{verb}: {name} has no text: {help}"
            );
        }
    }
    // None is left out: the list is what vipctl itself says of its verbs.
    let output = vipctl(&[], &["--help"]).await;
    let help = text(&output.stdout);
    let listed = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let listed: std::collections::BTreeSet<_> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|verb| !verb.is_empty())
        .collect();
    let covered = verbs.iter().map(|verb| verb.split(' ').next().unwrap()).chain(["help"]).collect();
    assert_eq!(listed, covered);
}

#[tokio::test]
async fn completion_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = vipctl(&[], &["completion", shell]).await;
        assert_eq!(code(output.status), 0, "{shell}");
        assert!(text(&output.stdout).contains("transfer-leader"), "{shell}");
    }
}

#[tokio::test]
async fn no_colours_into_a_pipe() {
    let endpoint = Fake::new().on_tcp().await;
    for verb in ["status", "routes", "history", "transfer-leader"] {
        let output = vipctl(&[&endpoint], &[verb]).await;
        assert!(!output.stdout.contains(&0x1b), "{verb}");
    }
}

struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(endpoint: &str, arguments: &[&str]) -> Self {
        let mut child = command(&[endpoint], &["--timeout", "500ms", "status", "--watch"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(BOUND, self.lines.next_line()).await;
        line.expect("a line in time").unwrap().expect("a line before the end")
    }

    async fn interrupt(mut self) -> i32 {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap().try_into().unwrap());
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::INT).unwrap();
        let ended = tokio::time::timeout(BOUND, self.child.wait()).await;
        code(ended.expect("ends in time").unwrap())
    }
}

#[tokio::test]
async fn watch_prints_a_line_for_each_change() {
    let fake = Fake::new();
    let mut watch = Watch::start(&fake.on_tcp().await, &[]);
    let first = "steady owner=az-b leader=az-b term=7 epoch=93 members=3/3 routes=2/2";
    assert_eq!(watch.line().await, first);
    // What ticks by itself is no change: the next line is the move.
    fake.script(|s| {
        s.group = Answer::Is(Status {
            state: "moving".into(),
            owner: Some("az-a".into()),
            lease_remaining_ms: Some(17),
            epoch: 95,
            ..steady()
        });
    });
    let second = "moving owner=az-a leader=az-b term=7 epoch=95 members=3/3 routes=2/2";
    assert_eq!(watch.line().await, second);
    assert_eq!(watch.interrupt().await, 0);
}

#[tokio::test]
async fn watch_survives_the_loss_of_its_endpoint() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let mut watch = Watch::start(&format!("unix:{}", socket.display()), &["-o", "json"]);
    let lost: Value = serde_json::from_str(&watch.line().await).unwrap();
    assert_eq!(lost["error"]["kind"], "unreachable");

    let fake = Fake::new();
    fake.on_unix(&socket).await;
    let found: Value = serde_json::from_str(&watch.line().await).unwrap();
    assert_eq!(found["state"], "steady");

    fake.script(|s| s.group = Answer::Is(no_quorum()));
    let changed: Value = serde_json::from_str(&watch.line().await).unwrap();
    assert_eq!(changed["state"], "no-quorum");
    assert_eq!(watch.interrupt().await, 0);
}
