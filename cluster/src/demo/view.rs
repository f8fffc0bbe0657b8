//! What the demo reads of `vipctl -o json`.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::spec::Spec;

/// Runs vipctl against whichever member answers.
pub struct Vipctl {
    /// It lies beside vipd.
    pub program: PathBuf,
    endpoints: Vec<String>,
}

impl Vipctl {
    /// Every member's socket is an endpoint.
    pub fn new(spec: &Spec) -> Self {
        let socket = |zone| format!("unix:{}", spec.member_dir(zone).join("admin.sock").display());
        Self {
            program: spec.vipd.path.with_file_name("vipctl"),
            endpoints: spec.zones.iter().map(socket).collect(),
        }
    }

    /// What the verb prints. vipctl has its own deadlines (`--timeout`, `--wait`).
    pub fn json(&self, verb: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.program);
        for endpoint in &self.endpoints {
            command.args(["--endpoint", endpoint]);
        }
        let output = command
            .args(["-o", "json"])
            .args(verb)
            .stdin(Stdio::null())
            .output()
            .context("cannot run vipctl")?;
        let text = String::from_utf8_lossy(&output.stdout);
        // Without a quorum `status` prints all the same, and exits 3.
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if value.get("error").is_none() => Ok(value),
            Ok(value) => {
                bail!("vipctl {}: {}", verb.join(" "), value.pointer("/error/cause").unwrap_or(&value))
            }
            Err(_) => bail!(
                "vipctl {} ({}): {}",
                verb.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }
    }
}

/// A string, or `-`.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

/// When an executed swap of the call log was executed, and its term.
pub fn swap(call: &Value) -> Option<(u64, u64)> {
    let swaps = matches!(text(call, "action"), "ReplaceRoute" | "CreateRoute");
    let real = call.get("dry_run").and_then(Value::as_bool) == Some(false);
    let number = |key: &str| call.get(key).and_then(Value::as_u64);
    if swaps && real { Some((number("executed_boot_ns")?, number("term")?)) } else { None }
}

/// The part of `status` that the demo looks at.
#[derive(Clone, Debug)]
pub struct Status {
    pub term: u64,
    pub owner: Option<String>,
    pub state: String,
    pub problems: String,
    pub last_move: Option<Move>,
    in_sync: Vec<bool>,
}

/// One move.
#[derive(Clone, Debug)]
pub struct Move {
    pub kind: String,
    pub to: String,
    pub reason: String,
    pub done: bool,
    /// Those that took place, in order, in milliseconds.
    pub phases: Vec<(&'static str, f64)>,
}

impl Status {
    /// What is absent is empty.
    pub fn read(value: &Value) -> Self {
        let array = |path: &str| value.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
        let routes = array("/vips")
            .into_iter()
            .flat_map(|vip| vip.get("routes").and_then(Value::as_array).cloned().unwrap_or_default());
        let problems: Vec<String> =
            array("/problems").iter().filter_map(|p| p.as_str().map(str::to_owned)).collect();
        Self {
            term: value.get("term").and_then(Value::as_u64).unwrap_or(0),
            owner: value.get("owner").and_then(Value::as_str).map(str::to_owned),
            state: text(value, "state").into(),
            problems: problems.join("; "),
            last_move: value.get("last_move").and_then(Move::read),
            in_sync: routes.map(|r| r.get("in_sync").and_then(Value::as_bool).unwrap_or(false)).collect(),
        }
    }

    /// The owner's own move is over.
    pub fn moved_here(&self) -> bool {
        self.last_move.as_ref().is_some_and(|m| m.done && Some(&m.to) == self.owner.as_ref())
    }

    /// Every route names the owner, as EC2 shows it.
    pub fn routes_agree(&self) -> bool {
        !self.in_sync.is_empty() && self.in_sync.iter().all(|in_sync| *in_sync)
    }

    /// Nothing is left to do.
    pub fn settled(&self) -> bool {
        self.state == "steady" && self.routes_agree()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.as_deref().unwrap_or("nobody");
        write!(f, "{}, owner {owner}, term {}", self.state, self.term)?;
        if self.problems.is_empty() { Ok(()) } else { write!(f, " ({})", self.problems) }
    }
}

impl Move {
    /// `None` where it names no new owner.
    pub fn read(value: &Value) -> Option<Self> {
        let phases = value.get("phases_ms");
        let phase = |name: &'static str| Some((name, phases?.get(name)?.as_f64()?));
        Some(Self {
            kind: text(value, "kind").into(),
            to: value.get("to")?.as_str()?.into(),
            reason: value.get("reason").and_then(Value::as_str).unwrap_or_default().into(),
            done: value.get("total_ms").is_some_and(Value::is_number),
            phases: ["detect", "elect", "claim", "address", "route", "verify"]
                .into_iter()
                .filter_map(phase)
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_a_status() {
        let status = Status::read(
            &json!({"cluster":"edge","term":7,"leader":"az-b","owner":"az-b","state":"steady",
            "vips":[{"address":"192.168.77.10/32","owner":"az-b","routes":[
                {"route_table":"rtb-0a","target":"eni-0b","state":"active","in_sync":true}]}],
            "last_move":{"kind":"failover","from":"az-a","to":"az-b","term":7,"reason":"leader lost","at":"2026-11-22T10:00:00Z",
                "total_ms":212,"phases_ms":{"detect":170,"elect":4,"claim":3,"address":null,"route":30,"verify":4}}}),
        );
        assert!(status.settled() && status.moved_here());
        let made = status.last_move.unwrap();
        let names: Vec<_> = made.phases.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["detect", "elect", "claim", "route", "verify"]);
        let nothing = Status::read(&json!({"state":"no-quorum","owner":null,"last_move":null}));
        assert!(!nothing.settled() && !nothing.moved_here());
        assert_eq!(nothing.to_string(), "no-quorum, owner nobody, term 0");
    }

    #[test]
    fn only_executed_swaps_count() {
        let call = |action: &str, dry: bool, at: Value| json!({"action":action,"dry_run":dry,"executed_boot_ns":at,"term":4});
        assert_eq!(swap(&call("ReplaceRoute", false, json!(9))), Some((9, 4)));
        assert_eq!(swap(&call("ReplaceRoute", true, json!(9))), None);
        assert_eq!(swap(&call("ReplaceRoute", false, Value::Null)), None);
        assert_eq!(swap(&call("DescribeRouteTables", false, json!(9))), None);
    }
}
