//! What the members say, by vipctl's JSON, and what EC2 shows.

use std::process::Output;

use serde::Deserialize;
use serde_json::Value;

use crate::lab::{BOUND, Lab, MEMBERS, holds, text, until};

/// `vipctl status -o json`, as far as the tests ask.
#[derive(Debug, Deserialize)]
pub struct Status {
    pub term: u64,
    pub epoch: u64,
    pub leader: Option<String>,
    pub owner: Option<String>,
    pub state: String,
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
    pub changing: bool,
    pub members: Vec<Member>,
    pub vips: Vec<Vip>,
    pub route_repairs: u64,
    pub paused: bool,
    pub last_move: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub struct Member {
    pub name: String,
    pub role: String,
    pub voter: bool,
    pub drained: bool,
    pub witness: bool,
    pub reachable: bool,
    pub priority: u32,
    pub lease_ms: u64,
    pub lag: u64,
    pub health: String,
    pub health_reason: String,
    pub quarantined: bool,
    pub vip_local: bool,
    pub incarnation: String,
}

#[derive(Debug, Deserialize)]
pub struct Vip {
    pub routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
pub struct Route {
    pub route_table: String,
    pub in_sync: bool,
    pub error: String,
}

impl Status {
    pub fn member(&self, name: &str) -> &Member {
        self.members.iter().find(|m| m.name == name).unwrap()
    }

    pub fn route(&self, table: &str) -> &Route {
        self.vips[0].routes.iter().find(|r| r.route_table == table).unwrap()
    }
}

/// The ENI of a member in the lab: `eni-0a`.
pub fn eni(member: &str) -> String {
    format!("eni-0{}", member.trim_start_matches("az-"))
}

impl Lab {
    /// vipctl against one member's socket, printing JSON.
    pub fn vipctl(&self, member: &str, arguments: &[&str]) -> Output {
        self.run(&[&["vipctl", member, "--", "-o", "json"], arguments].concat())
    }

    /// vipctl with its exit code and the JSON that it printed.
    pub fn vipctl_json(&self, member: &str, arguments: &[&str]) -> (i32, Value) {
        let output = self.vipctl(member, arguments);
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("vipctl {arguments:?}: {error} in {:?}, {}", text(&output.stdout), text(&output.stderr))
        });
        (output.status.code().unwrap(), json)
    }

    pub fn status(&self, member: &str) -> Result<Status, String> {
        let output = self.vipctl(member, &["status", "--timeout", "2s"]);
        serde_json::from_slice(&output.stdout).map_err(|_| text(&output.stdout))
    }

    /// Waits until `member` says so.
    pub fn says(&self, member: &str, what: &str, mut ready: impl FnMut(&Status) -> bool) -> Status {
        until(&format!("{member} says: {what}"), BOUND, || {
            let status = self.status(member)?;
            if ready(&status) { Ok(status) } else { Err(format!("{status:?}")) }
        })
    }

    /// Waits until all is well, and the routes are on the owner; the owner's name.
    pub fn steady(&self) -> String {
        let status = self.says("az-a", "steady", |s| s.state == "steady");
        let owner = status.owner.clone().unwrap();
        assert_eq!(status.leader.as_ref(), Some(&owner), "the leader owns: {status:?}");
        assert!(self.routes_are_on(&owner).is_ok(), "steady, but {:?}", self.routes());
        owner
    }

    /// Waits until another member than `old` owns, has the routes and serves the client; its name.
    pub fn taken_over_from(&self, old: &str) -> String {
        let ask = others(old)[0];
        // A member that has just started may still name the owner of before: the routes tell.
        let new = |o: &str| o != old && self.routes_are_on(o).is_ok();
        let moved = |s: &Status| s.state != "moving" && s.owner.as_deref().is_some_and(new);
        let owner = self.says(ask, "another member owns, and has the routes", moved).owner.unwrap();
        self.client_reaches(&owner);
        owner
    }

    /// Who has each table's route.
    pub fn routes(&self) -> Vec<(String, Option<String>)> {
        let routes = self.json(&["routes"]);
        let route =
            |r: &Value| (r["table"].as_str().unwrap().to_owned(), r["target"].as_str().map(str::to_owned));
        routes.as_array().unwrap().iter().map(route).collect()
    }

    pub fn routes_are_on(&self, member: &str) -> Result<(), String> {
        let routes = self.routes();
        let eni = eni(member);
        let all = routes.len() == 3 && routes.iter().all(|(_, target)| target.as_ref() == Some(&eni));
        holds(all, || format!("{routes:?}"))
    }

    pub fn routes_come_to(&self, member: &str) {
        until(&format!("every route table points at {member}"), BOUND, || self.routes_are_on(member));
    }

    /// Those that have the address now.
    pub fn with_address(&self) -> Vec<&'static str> {
        MEMBERS.into_iter().filter(|m| self.has_address(m)).collect()
    }
}

/// The two other members.
pub fn others(member: &str) -> Vec<&'static str> {
    MEMBERS.into_iter().filter(|m| *m != member).collect()
}
