//! Short words for the nouns of every test.

use std::time::Duration;

use crate::decide::*;
use crate::ledger::Command;
use crate::model::route::{CloudError, Outcome};
use crate::model::*;

pub const ME: Incarnation = Incarnation(1);
pub const B: Incarnation = Incarnation(2);
pub const C: Incarnation = Incarnation(3);

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub fn table(text: &str) -> RouteTableId {
    text.parse().expect("a table")
}

pub fn eni(text: &str) -> EniId {
    text.parse().expect("an eni")
}

pub fn vip() -> Vip {
    "192.168.77.10/32".parse().expect("a vip")
}

pub fn route(text: &str) -> RouteKey {
    RouteKey { table: table(text), vip: vip() }
}

pub fn at(eni_id: &str) -> Observed {
    Observed::Active(Some(eni(eni_id)))
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn done() -> Outcome {
    Outcome::Done { request_id: Some("req".into()) }
}

pub fn timeout() -> CloudError {
    CloudError::Timeout { action: "ReplaceRoute", ms: 1000 }
}

pub fn unreachable() -> CloudError {
    let (endpoint, message) = ("http://ec2".to_owned(), "connection refused".to_owned());
    CloudError::Unreachable { action: "DescribeRouteTables", endpoint, message }
}

pub fn unauthorized(table: &RouteTableId) -> CloudError {
    CloudError::Unauthorized {
        action: "ReplaceRoute",
        resource: format!("arn:aws:ec2:eu-west-1:123456789012:route-table/{table}"),
        message: "no".into(),
    }
}

pub fn healthy() -> Peer {
    Peer {
        reachable: true,
        health: Health::Healthy,
        applied: 0,
        quarantined: false,
        barred: None,
        reached: None,
        cut_off: None,
        allowed: Default::default(),
        denied: Default::default(),
        says: None,
    }
}

pub fn member(n: &str, priority: u32) -> Member {
    let peer = format!("{n}:7400");
    Member { name: name(n), peer, admin: None, zone: None, priority, witness: false }
}

/// A member's settings, and the group that it is in.
#[derive(Clone)]
pub struct Setup {
    pub settings: Settings,
    pub members: Vec<Member>,
}

impl std::ops::Deref for Setup {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl std::ops::DerefMut for Setup {
    fn deref_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }
}

pub fn setup() -> Setup {
    Setup { settings: settings(), members: vec![member("a", 100), member("b", 90), member("c", 80)] }
}

fn settings() -> Settings {
    Settings {
        me: name("a"),
        my_incarnation: ME,
        own: member("a", 100),
        vips: vec![vip()],
        tables: vec![table("rtb-1"), table("rtb-2")],
        eni: Some(eni("eni-a")),
        create_missing: false,
        margin: ms(10),
        election_max: ms(200),
        attempt_timeout: ms(1000),
        reconcile: secs(10),
        on_quorum_loss: OnQuorumLoss::Hold,
        failback: false,
        min_hold: secs(10),
        refresh_address: None,
    }
}

pub fn swapped(effects: &[Effect]) -> Vec<&str> {
    let of = |e| match e {
        &Effect::Swap(ref swap, _) => Some(swap.route.table.as_str()),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

pub fn proposed(effects: &[Effect]) -> Vec<&Command> {
    let of = |e| match e {
        &Effect::Propose(ref command) => Some(command),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

pub fn is_swap(effect: &Effect) -> bool {
    matches!(effect, Effect::Swap(..))
}

pub fn is_rehearsal(effect: &Effect) -> bool {
    matches!(effect, Effect::Rehearse(_))
}

pub fn is_look(effect: &Effect) -> bool {
    matches!(effect, Effect::Look)
}
