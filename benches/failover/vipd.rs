//! vipd, by way of the lab and vipctl.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use vip_lab::control::{Program, Request, Target};

use crate::bed::{self, Bed, until};
use crate::daemons::Daemons;
use crate::plan::Fault;

/// A group that is not steady by then will not be.
const PATIENCE: Duration = Duration::from_secs(30);
/// SIGTERM on an owner waits 10 s at most.
const STOP_WAIT_MS: u64 = 15_000;

pub struct Vipd;

impl Daemons for Vipd {
    fn ready(&mut self, bed: &Bed) -> anyhow::Result<String> {
        let mut last = Value::Null;
        let waited = until("a steady group", PATIENCE, || {
            last = vipctl(bed, &["status"]).unwrap_or_else(|e| Value::String(format!("{e:#}")));
            Ok(is_ready(&last))
        });
        waited.with_context(|| last.to_string())?;
        let owner = last.get("owner").and_then(Value::as_str).context("nobody owns the VIP")?;
        ensure!(bed.routed_to()?.as_deref() == Some(owner), "the routes do not name the owner {owner}");
        Ok(owner.to_owned())
    }

    fn inflict(&mut self, bed: &Bed, fault: Fault, owner: &str) -> anyhow::Result<()> {
        match fault {
            Fault::OwnerKilled => {
                bed.ask(&Request::Kill(Target { member: owner.into(), only: None })).map(drop)
            }
            Fault::HaproxyKilled => bed.haproxy(owner, Request::Kill),
            Fault::HaproxyFrozen => bed.haproxy(owner, Request::Freeze),
            Fault::ZoneCut => bed.cut(owner),
            Fault::OwnerFrozen => bed.one(owner, Program::Vipd, Request::Freeze),
            Fault::Transfer => vipctl(bed, &["transfer-leader", "--wait", "10s"]).map(drop),
            Fault::Sigterm => {
                bed.one(owner, Program::Vipd, |target| Request::Stop { target, wait_ms: STOP_WAIT_MS })
            }
        }
    }

    fn bring_back(&mut self, bed: &Bed, fault: Fault, owner: &str) -> anyhow::Result<()> {
        match fault {
            Fault::OwnerKilled | Fault::Sigterm => bed.one(owner, Program::Vipd, Request::Start),
            Fault::OwnerFrozen => bed.one(owner, Program::Vipd, Request::Continue),
            Fault::HaproxyKilled | Fault::HaproxyFrozen | Fault::ZoneCut | Fault::Transfer => Ok(()),
        }
    }

    fn pids(&self, bed: &Bed, member: &str) -> anyhow::Result<Vec<i32>> {
        bed::pids(bed, member, "vipd")
    }

    fn phases_ms(&self, bed: &Bed, from: &str, to: &str) -> anyhow::Result<BTreeMap<String, f64>> {
        let status = vipctl(bed, &["status"])?;
        let end = |key: &str| status.pointer(key).and_then(Value::as_str);
        if (end("/last_move/from"), end("/last_move/to")) != (Some(from), Some(to)) {
            return Ok(BTreeMap::new());
        }
        let phases = status.pointer("/last_move/phases_ms").and_then(Value::as_object);
        let known = phases.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_f64()?)));
        Ok(known.collect())
    }

    fn mended(&self) -> usize {
        0
    }
}

/// Steady, every member there and healthy, every route right, and the last move written down.
fn is_ready(status: &Value) -> bool {
    let all = |path: &str, key: &str| {
        let list = status.pointer(path).and_then(Value::as_array);
        list.is_some_and(|l| {
            !l.is_empty() && l.iter().all(|item| item.get(key).and_then(Value::as_bool) == Some(true))
        })
    };
    status.get("state").and_then(Value::as_str) == Some("steady")
        && all("/members", "reachable")
        && all("/members", "voter")
        && status.pointer("/members").and_then(Value::as_array).is_some_and(|members| {
            members.iter().all(|m| m.get("health").and_then(Value::as_str) == Some("healthy"))
        })
        && all("/vips/0/routes", "in_sync")
        && status.pointer("/last_move/total_ms").is_some_and(Value::is_number)
}

/// Any member may answer.
fn vipctl(bed: &Bed, verb: &[&str]) -> anyhow::Result<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipctl"));
    for zone in &bed.spec.zones {
        let socket = bed.spec.member_dir(zone).join("admin.sock");
        command.arg("--endpoint").arg(format!("unix:{}", socket.display()));
    }
    let output = command.args(["-o", "json"]).args(verb).stdin(Stdio::null()).output()?;
    let told =
        || String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout });
    // Without a quorum `status` prints all the same, and exits 3.
    ensure!(output.status.success() || verb == ["status"], "vipctl {}: {}", verb.join(" "), told());
    serde_json::from_slice(&output.stdout).with_context(|| told().into_owned())
}
