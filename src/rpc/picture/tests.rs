//! How long an answer gets, whatever others have said.

use std::collections::BTreeMap;

use super::*;
use crate::decide::{Event, Now, Peer, RaftView, Settings};
use crate::ledger::{Claim, Kind, Ledger, MOVES_KEPT, REQUEST_IDS_KEPT};
use crate::model::route::{CloudError, ROUTES_MAX, Sight};
use crate::model::{Epoch, OnQuorumLoss, Term};
use crate::raft::REPORT_MAX_BYTES;
use crate::raft::fuzz::{Said, peer};

const FILE: &str = r#"
cluster = "edge"
member = "az-a"
data_dir = "/nonexistent"
[peer]
listen = "127.0.0.1:7400"
[[members]]
name = "az-a"
peer = "127.0.0.1:7400"
[[members]]
name = "az-b"
peer = "127.0.0.1:1"
[[members]]
name = "az-c"
peer = "127.0.0.1:2"
[vip]
addresses = ["192.168.77.10/32"]
[aws]
route_tables = ["rtb-0a"]
[tls]
insecure = true
"#;

/// Whether another member takes it.
fn is_taken(report: &proto::Member) -> bool {
    let (envelope, member) = (Some(proto::Envelope::default()), Some(report.clone()));
    let message = proto::ReportRequest { envelope, member, membership: 0 }.encode_to_vec();
    matches!(peer(&[&[13], &message[..]].concat()), Some(Said::Report(_)))
}

/// az-a leads, and may not own.
struct Scene {
    myself: Myself,
    config: Config,
    decide: Decide,
    now: Time,
    heard: Heard,
}

impl Scene {
    fn new() -> Self {
        let config = Config::parse(FILE.as_bytes(), "test", None).unwrap();
        let settings = Settings {
            me: config.member.clone(),
            my_incarnation: Incarnation(1),
            own: config.own().clone(),
            vips: config.vip.addresses.clone(),
            tables: config.aws.route_tables.clone(),
            eni: None,
            create_missing: false,
            margin: config.timing.margin(),
            election_max: config.timing.election_max,
            attempt_timeout: Duration::from_secs(1),
            reconcile: Duration::from_secs(10),
            on_quorum_loss: OnQuorumLoss::Hold,
            failback: false,
            min_hold: Duration::ZERO,
            refresh_address: None,
        };
        let now = Time::from_millis(100_000);
        let decide = Decide::new(settings, Now { time: now, wall: WallMs(0) });
        let myself = Myself { zone: String::new(), eni: None };
        let mut scene = Self { myself, config, decide, now, heard: Heard::new() };
        let ids = || (1..).map(Incarnation).zip(&scene.config.members);
        let view = RaftView {
            role: Role::Leader,
            term: Term(1),
            leader: Some(Incarnation(1)),
            configs: vec![ids().map(|(id, _)| id).collect()],
            nodes: ids().map(|(id, m)| (id, m.clone())).collect(),
            membership: 1,
            ..RaftView::default()
        };
        scene.step(Event::Raft(view));
        scene
    }

    fn step(&mut self, event: Event) {
        self.decide.step(Now { time: self.now, wall: WallMs(0) }, event);
    }

    /// What the others say of themselves.
    fn say(&mut self, name: &str, says: proto::Member) {
        let peer = Peer {
            reachable: true,
            health: read_health(&says),
            applied: 0,
            quarantined: false,
            barred: None,
            reached: None,
            cut_off: None,
            allowed: BTreeMap::new(),
            denied: BTreeMap::new(),
            says: None,
        };
        let name: Name = name.parse().unwrap();
        self.step(Event::Peer(name.clone(), peer));
        self.heard.insert(name, (self.now, says));
    }

    fn view(&self) -> View<'_> {
        View {
            config: &self.config,
            refused: None,
            restart: &[],
            myself: &self.myself,
            decide: &self.decide,
            heard: &self.heard,
            leader_heard: None,
            quarantined: false,
            now: self.now,
            certificate: None,
        }
    }
}

/// Of a group of three, of which one lies.
const STATUS_MAX_BYTES: usize = 32 * 1024;

#[test]
fn fault_66_whatever_one_member_says_a_status_has_a_bound() {
    let text = |bytes: usize| "x".repeat(bytes);
    let list = |n: usize| (0..n).map(|i| format!("{i:011}")).collect::<Vec<_>>();
    let base = || proto::Member {
        name: "az-b".into(),
        health: "unhealthy".into(),
        certificate_days: Some(1),
        configured_vips: vec!["v".into()],
        ..proto::Member::default()
    };
    let most = REPORT_MAX_BYTES - 100;
    let with = |change: &dyn Fn(&mut proto::Member)| {
        let mut member = base();
        change(&mut member);
        assert!(is_taken(&member), "{} bytes", member.encoded_len());
        assert!(member.encoded_len() > REPORT_MAX_BYTES * 3 / 4, "as long as may be");
        member
    };
    let all = [
        ("VIPs", with(&|m| m.configured_vips = list(1020))),
        ("route tables", with(&|m| m.configured_tables = list(1020))),
        (
            "a few long tables",
            with(&|m| m.configured_tables = (0..16).map(|i| format!("{i:0990}")).collect()),
        ),
        ("timings", with(&|m| m.timings = text(most))),
        ("a policy", with(&|m| (m.on_quorum_loss, m.min_hold_s) = (text(most), Some(1)))),
        ("its health", with(&|m| m.health_reason = text(most))),
        ("its word for that", with(&|m| m.health = text(most))),
        (
            "a denial",
            with(&|m| {
                m.health = HEALTHY.into();
                m.rights = vec![proto::Right { error: text(most), ..proto::Right::default() }];
            }),
        ),
        ("its file", with(&|m| m.config_refused = text(most))),
        ("what takes a restart", with(&|m| m.restart_for = list(1020))),
        ("a certificate's end", with(&|m| m.certificate_expires = Some(text(most)))),
        (
            "some of each",
            with(&|m| {
                m.health_reason = "\u{1f980}".repeat(400);
                m.config_refused = "\u{1f980}".repeat(400);
                m.certificate_expires = Some("\u{1f980}".repeat(400));
                m.timings = "\u{1f980}".repeat(400);
                m.restart_for = vec!["\u{1f980}".repeat(400)];
                m.configured_tables = (0..8).map(|i| format!("{i}{}", text(900))).collect();
            }),
        ),
    ];
    for (what, lies) in all {
        let mut scene = Scene::new();
        scene.say("az-c", proto::Member { configured_vips: vec!["w".into()], min_hold_s: Some(0), ..base() });
        scene.say("az-b", lies);
        let status = scene.view().status();
        let (bytes, problems) = (status.encoded_len(), status.problems.len());
        println!("{what}: a status of {bytes} bytes, {problems} problems");
        assert!(problems > 3, "{:#?}", status.problems);
        assert!(bytes <= STATUS_MAX_BYTES, "{what}: {bytes} bytes, {problems} problems");
    }
}

/// Of each of them in sync; out of it; and with as long a denial as is kept, which a problem repeats.
const ROUTE_MAX_BYTES: [usize; 3] = [96, 192, 1792];

#[test]
fn fault_66_each_route_adds_to_a_status_and_no_more_than_its_bound() {
    let own: EniId = "eni-0123456789abcdef0".parse().unwrap();
    let other: EniId = "eni-0123456789abcdef1".parse().unwrap();
    let tables = |n: usize| (0..n).map(|i| format!("rtb-{i:017x}").parse::<RouteTableId>().unwrap());
    // EC2's text is cut at 400 characters, and an ARN in it repeated (`vpc/errors.rs`).
    let resource = format!("arn:aws:ec2:ap-southeast-1:123456789012:route-table/rtb-{:017x}", 0);
    let denied = CloudError::Unauthorized { action: "ReplaceRoute", resource, message: "m".repeat(400) };
    assert!(denied.to_string().len() <= DENIAL_MAX, "the line to add to the policy is its end");
    let status = |n: usize, eni: &EniId, then: Option<&CloudError>| {
        let mut scene = Scene::new();
        scene.myself.eni = Some(own.clone());
        scene.config.aws.route_tables = tables(n).collect();
        let claim = Claim {
            member: scene.config.member.clone(),
            term: Term(1),
            epoch: Epoch(1),
            at: WallMs(0),
            previous: None,
            kind: Kind::First,
            serial: 0,
            done: true,
        };
        let ledger = std::sync::Arc::new(Ledger { claim: Some(claim), ..Ledger::default() });
        scene.step(Event::Applied { ledger, index: 1 });
        let vip = scene.config.vip.addresses[0];
        let routes =
            tables(n).map(|table| (RouteKey { table, vip }, Observed::Active(Some(eni.clone())))).collect();
        let sight = Sight { routes, tables: tables(n).collect(), ..Sight::default() };
        for result in [Ok(sight)].into_iter().chain(then.map(|error| Err(error.clone()))) {
            scene.now = scene.now + Duration::from_secs(60);
            scene.step(Event::Tick);
            let asked = scene.decide.look_asked().expect("a look");
            scene.step(Event::Looked { asked, result });
        }
        scene.view().status()
    };
    for ((eni, then), most) in
        [(&own, None), (&other, None), (&other, Some(&denied))].into_iter().zip(ROUTE_MAX_BYTES)
    {
        let (one, all) = (status(1, eni, then), status(ROUTES_MAX, eni, then));
        let (bytes, each) =
            (all.encoded_len(), (all.encoded_len() - one.encoded_len()).div_ceil(ROUTES_MAX - 1));
        println!("{ROUTES_MAX} routes: a status of {bytes} bytes, {each} bytes each");
        let routes = &all.vips[0].routes;
        assert!(routes.len() == ROUTES_MAX && routes.iter().all(|r| r.in_sync == (*eni == own)));
        assert!(routes.iter().all(|r| then.is_none_or(|error| r.error == error.to_string())));
        let named = |r: &proto::Route| all.problems.iter().any(|p| p.contains(&r.route_table));
        assert!(routes.iter().all(|r| named(r) != r.in_sync), "{:#?}", all.problems);
        assert!(each <= most, "{each} bytes each");
    }
}

#[test]
fn fault_66_a_history_has_a_bound_and_leaves_out_the_oldest_request_ids_first() {
    let a_move = |i: u64, ids: usize, reason: usize| Move {
        kind: Kind::Switchover,
        from: Some("az-a".parse().unwrap()),
        to: "az-b".parse().unwrap(),
        term: Term(i),
        epoch: Epoch(i),
        reason: "r".repeat(reason),
        at: WallMs(1_764_000_000_000),
        total_us: Some(352_123),
        in_sync: true,
        phases: Phases {
            detect: Some(1),
            elect: Some(1),
            claim: Some(1),
            address: Some(1),
            ..Phases::default()
        },
        request_ids: vec!["59dbff89-35bd-4eac-99ed-be587EXAMPLE".to_owned(); ids],
    };
    let shown = |ids: usize, reason: usize| {
        let mut scene = Scene::new();
        let moves = (0..MOVES_KEPT as u64).map(|i| a_move(i, ids, reason)).collect();
        let ledger = std::sync::Arc::new(Ledger { moves, ..Ledger::default() });
        scene.step(Event::Applied { ledger, index: 1 });
        let history = scene.view().history(0);
        println!("{ids} request ids: {} moves, {} bytes", history.moves.len(), history.encoded_len());
        assert!(history.encoded_len() <= HISTORY_MAX_BYTES, "{} bytes", history.encoded_len());
        assert_eq!(history.moves[0].epoch, MOVES_KEPT as u64 - 1, "the newest first");
        history.moves
    };
    // Of two route tables, nothing is left out.
    let two = shown(4, 40);
    assert!(two.len() == MOVES_KEPT && two.iter().all(|m| m.request_ids.len() == 4));
    assert!(two.iter().all(|m| m.request_ids_left_out == 0));
    let full = shown(REQUEST_IDS_KEPT, 100);
    let with = full.iter().filter(|m| m.request_ids.len() == REQUEST_IDS_KEPT).count();
    assert_eq!(full.len(), MOVES_KEPT, "every move is there");
    assert!(with > 20 && full[..with].iter().all(|m| !m.request_ids.is_empty()), "{with} with request ids");
    assert!(full[with..].iter().all(|m| m.request_ids.is_empty()));
    let left_out = |m: &proto::Move| m.request_ids_left_out as usize;
    assert!(full.iter().all(|m| m.request_ids.len() + left_out(m) == REQUEST_IDS_KEPT), "and it says so");
    // As long as a forged one may be.
    let forged = shown(REQUEST_IDS_KEPT, 8_000);
    assert!(forged.len() < 20);
}
