//! SIGHUP: what a running member takes over, and what it does with a bad file.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lab::{BOUND, Lab, MEMBERS, holds, until};
use crate::status::others;

/// What the log says of each reload, good or bad.
const READ: [&str; 2] = ["the configuration was read again", "the old configuration stays in force"];

impl Lab {
    pub fn pid(&self, member: &str) -> Pid {
        let status = self.json(&["status"]);
        let all = status["processes"].as_array().unwrap();
        let vipd = all.iter().find(|p| p["member"] == member && p["process"] == "vipd").unwrap();
        Pid::from_raw(i32::try_from(vipd["pid"].as_i64().unwrap()).unwrap()).unwrap()
    }

    fn reloads(&self, member: &str) -> usize {
        let log = self.vipd_log(member);
        READ.iter().map(|words| log.matches(words).count()).sum()
    }

    fn hang_up(&self, member: &str) {
        kill_process(self.pid(member), Signal::HUP).unwrap();
    }

    /// SIGHUP, and its end.
    pub fn reload(&self, member: &str) {
        let before = self.reloads(member);
        self.hang_up(member);
        until(&format!("{member} has reloaded"), BOUND, || {
            holds(self.reloads(member) == before + 1, || self.vipd_log(member))
        });
    }

    fn configure(&self, sets: &[&str]) {
        let sets = sets.iter().flat_map(|s| ["--set", s]);
        self.ok(&["config"].into_iter().chain(sets).collect::<Vec<_>>());
    }
}

#[test]
fn fault_61_a_bad_file_leaves_the_old_one_in_force_and_status_says_so() {
    let lab = Lab::up("badfile");
    let owner = lab.steady();
    let other = others(&owner)[0];
    let epoch = lab.status(&owner).unwrap().epoch;
    let file = lab.dir.join(&owner).join("vipd.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let lines = good.lines().count();
    for (bad, place) in [
        (format!("{good}\nnonsense = 1\n"), format!("vipd.toml:{}:1: ", lines + 2)),
        (format!("{good}\n[log]\nfilter = \"vipd=loud\"\n"), format!("vipd.toml:{}:10: ", lines + 3)),
    ] {
        std::fs::write(&file, bad).unwrap();
        lab.reload(&owner);
        let status = lab.says(other, "the file is bad", |s| {
            let words = format!("{owner} goes on with its old configuration: ");
            s.problems.iter().any(|p| p.starts_with(&words) && p.contains(&place))
        });
        assert_eq!((status.state.as_str(), status.epoch), ("steady", epoch), "{status:?}");
    }
    lab.client_reaches(&owner);
    lab.gauge_is(&owner, "vipd_config_refused", Some("1"));

    // What was in force is in force: a route is still put right.
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", other]);
    lab.routes_come_to(&owner);
    std::fs::write(&file, good).unwrap();
    lab.reload(&owner);
    lab.says(other, "nothing is wrong", |s| s.problems.is_empty() && s.state == "steady");
    lab.gauge_is(&owner, "vipd_config_refused", Some("0"));
    assert_eq!(lab.steady(), owner);
    lab.assert_fenced();
}

#[test]
fn a_reload_takes_over_tables_health_and_log() {
    let lab = Lab::up_with("tables", &["--route-table", "rtb-0a", "--route-table", "rtb-0b"]);
    let all = |s: &crate::status::Status| s.state == "steady" && s.vips[0].routes.len() == 3;
    let owner = lab.says("az-a", "steady", |s| s.state == "steady").owner.unwrap();
    let other = others(&owner)[0];
    lab.ok(&["ec2", "set-route", "--table", "rtb-0c", "--eni", other]);

    // A new table is swapped at once; the log's filter, a check and what takes a restart beside it.
    lab.configure(&[
        "aws.route_tables=[\"rtb-0a\", \"rtb-0b\", \"rtb-0c\"]",
        "log.filter=\"info,vipd=debug\"",
        "health.http=\"http://127.0.0.1:8404/nothing\"",
        "raft.heartbeat_ms=190",
        "metrics.listen=127.0.0.1:9408",
    ]);
    assert!(!lab.vipd_log(&owner).contains("DEBUG"));
    let ill = |s: &crate::status::Status, m: &str| {
        s.problems.iter().any(|p| p.starts_with(&format!("{m} is unhealthy")))
    };
    // The owner last: it would move to one that is still healthy.
    others(&owner).into_iter().for_each(|m| lab.reload(m));
    lab.says(other, "a check that fails on the others", |s| others(&owner).into_iter().all(|m| ill(s, m)));
    lab.reload(&owner);
    lab.routes_come_to(&owner);
    lab.logs(&owner, "DEBUG");
    let unhealthy = lab.says(other, "a check that fails everywhere", |s| ill(s, &owner));
    assert_eq!(unhealthy.owner.as_ref(), Some(&owner), "and it stays");
    let restart = format!("{owner}: what its file says of raft, metrics.listen takes a restart");
    assert!(unhealthy.problems.contains(&restart), "{unhealthy:?}");
    assert!(lab.get(&owner, "127.0.0.1:9407", "/metrics").is_ok(), "as it was");

    lab.configure(&["health.http=", "raft.heartbeat_ms=200", "metrics.listen=127.0.0.1:9407"]);
    MEMBERS.into_iter().for_each(|m| lab.reload(m));
    let status = lab.says(other, "steady with three tables", all);
    assert_eq!((status.owner.as_ref(), &status.problems[..]), (Some(&owner), &[][..]));

    // A table that left is left alone.
    lab.configure(&["aws.route_tables=[\"rtb-0a\", \"rtb-0b\"]"]);
    MEMBERS.into_iter().for_each(|m| lab.reload(m));
    lab.says(other, "steady with two tables", |s| s.state == "steady" && s.vips[0].routes.len() == 2);
    let at =
        lab.json(&["ec2", "set-route", "--table", "rtb-0c", "--eni", other])["at_boot_ns"].as_u64().unwrap();
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", other]);
    until("what is managed is put right", BOUND + BOUND, || {
        let repaired = lab.swaps_since(at);
        holds(!repaired.is_empty(), || "nothing".into())
    });
    assert!(
        lab.swaps_since(at).iter().all(|c| c.table.as_deref() == Some("rtb-0b")),
        "{:?}",
        lab.swaps_since(at)
    );
    lab.assert_fenced();
}

#[test]
fn a_reload_in_the_middle_of_a_move_is_no_other_move() {
    let lab = Lab::up("midmove");
    let owner = lab.steady();
    let to = others(&owner)[0];
    let epoch = lab.status(&owner).unwrap().epoch;
    // Slow enough that both have reloaded before the route has moved.
    lab.ok(&["ec2", "delay", "900", "--action", "ReplaceRoute"]);
    lab.configure(&["aws.reconcile_s=5", "policy.min_hold_s=3"]);
    let pids: Vec<_> = MEMBERS.iter().map(|m| lab.pid(m)).collect();
    let before: Vec<_> = MEMBERS.iter().map(|m| lab.reloads(m)).collect();
    let moved = std::thread::scope(|scope| {
        let transfer = scope.spawn(|| lab.vipctl_json(&owner, &["transfer-leader", "--to", to]));
        until("the new owner's calls are under way", BOUND, || {
            let status = lab.status(to)?;
            holds(status.state == "moving", || status.state.clone())
        });
        pids.iter().for_each(|pid| kill_process(*pid, Signal::HUP).unwrap());
        until("all have reloaded", BOUND, || {
            let now: Vec<_> = MEMBERS.iter().map(|m| lab.reloads(m)).collect();
            holds(now.iter().zip(&before).all(|(n, b)| *n == b + 1), || format!("{before:?} {now:?}"))
        });
        assert!(!transfer.is_finished(), "the move was over before the reload");
        assert!(lab.has_address(&owner), "until the route is read back on the new one");
        transfer.join().unwrap()
    });
    assert_eq!((moved.0, &moved.1["to"]), (0, &Value::from(to)), "{moved:?}");
    lab.ok(&["ec2", "clear", "delay"]);
    lab.address_goes(&owner);
    assert_eq!(lab.steady(), to);
    let history = lab.vipctl_json(to, &["history"]).1;
    let since: Vec<_> =
        history.as_array().unwrap().iter().filter(|m| m["epoch"].as_u64() > Some(epoch)).collect();
    assert_eq!(since.len(), 1, "{history}");
    lab.assert_fenced();
}

/// The contract's damping: a sick owner does not give the VIP back to the one that lost it a moment ago. Whoever looks
/// is told so, and the policy is taken over by a reload.
#[test]
fn fault_28_a_move_that_waits_for_min_hold_is_said_and_a_reload_ends_it() {
    let lab = Lab::up_with("minhold", &["--set", "policy.min_hold_s=600"]);
    let first = lab.steady();
    let [second, third] = others(&first)[..] else { panic!() };
    let is_ill = |m: &str| format!("{m} is unhealthy");
    // The third is no target, so that only the first is left.
    lab.ok(&["kill", third, "--only", "haproxy"]);
    lab.says(&first, "the third is ill", |s| s.problems.iter().any(|p| p.starts_with(&is_ill(third))));
    let (code, moved) = lab.vipctl_json(&first, &["transfer-leader", "--to", second]);
    assert_eq!(code, 0, "{moved}");
    lab.address_goes(&first);
    lab.ok(&["kill", second, "--only", "haproxy"]);
    let because = format!("HAProxy on {second} is unhealthy: ");
    let words = format!(" s on {second} (policy.min_hold_s) before it goes back to {first}: {because}");
    let says = |s: &crate::status::Status, words: &str| s.problems.iter().any(|p| p.contains(words));
    let held = lab.says(third, "what the VIP waits for", |s| says(s, &words));
    assert_eq!((held.state.as_str(), held.owner.as_deref()), ("degraded", Some(second)), "{held:?}");
    let waiting = &lab.vipctl_json(third, &["status"]).1["waiting"];
    assert_eq!(waiting["to"], first.as_str(), "{waiting}");
    assert!(waiting["left_ms"].as_u64().is_some_and(|ms| (500_000..600_000).contains(&ms)), "{waiting}");
    let (_, found) = lab.vipctl_json(third, &["doctor"]);
    assert!(found.to_string().contains(&format!("s before it goes back to {first}: ")), "{found}");
    lab.logs(second, "a move waits for policy.min_hold_s");

    // The owner's file counts: until it has read it too, they differ and it waits.
    lab.configure(&["policy.min_hold_s=0"]);
    others(second).into_iter().for_each(|m| lab.reload(m));
    let differs = format!("the members' [policy] differs: min_hold_s = 600 on {second}");
    lab.says(third, "the files differ, and it waits still", |s| says(s, &differs) && says(s, &words));
    lab.reload(second);
    assert_eq!(lab.taken_over_from(second), first);
    let back = lab.status(&first).unwrap();
    let moved = back.last_move.as_ref().unwrap();
    assert!(moved["reason"].as_str().is_some_and(|r| r.starts_with(&because)), "{moved}");
    assert!(!says(&back, "policy"), "{back:?}");
    lab.assert_fenced();
}

/// It changes nothing yet, and neither is it lost.
#[test]
fn fault_61_a_reload_before_there_is_a_group_is_kept_and_said() {
    let lab = Lab::up_with("early", &["--no-vipd"]);
    lab.ok(&["start", "az-a", "--only", "vipd"]);
    lab.logs("az-a", "az-b (10.0.2.10:7400) does not answer");
    lab.hang_up("az-a");
    lab.logs("az-a", "SIGHUP: this member belongs to no running group yet");
    assert_eq!(lab.reloads("az-a"), 0);
    lab.ok(&["start", "all", "--only", "vipd"]);
    lab.steady();
    lab.logs("az-a", READ[0]);
}
