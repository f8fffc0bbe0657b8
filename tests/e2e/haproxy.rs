//! What becomes of the VIP when HAProxy is frozen, cannot be asked, or reloads.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::lab::{BOUND, Lab, holds, text, until};
use crate::status::others;

#[test]
fn fault_80_the_owner_whose_haproxy_is_frozen_hands_over() {
    let lab = Lab::up("hapfrozen");
    let first = lab.steady();
    lab.ok(&["freeze", &first, "--only", "haproxy"]);
    let second = lab.taken_over_from(&first);
    let moved = lab.status(&second).unwrap().last_move.unwrap();
    let reason = moved["reason"].as_str().unwrap();
    assert_eq!(moved["kind"], "switchover", "vipd lives: {moved}");
    assert!(reason.starts_with(&format!("HAProxy on {first} is unhealthy: ")), "{moved}");
    assert!(reason.contains("no answer within 500 ms"), "{moved}");
    lab.address_goes(&first);
    lab.ok(&["continue", &first, "--only", "haproxy"]);
    assert_eq!(lab.steady(), second, "it does not go back");
    lab.assert_fenced();
}

/// az-a has no socket, az-b a file in its place, az-c one who talks nonsense: nobody's health is known.
#[test]
fn fault_81_members_that_cannot_ask_haproxy_say_so_and_the_vip_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (absent, file, nonsense) =
        (dir.path().join("absent"), dir.path().join("file"), dir.path().join("nonsense"));
    std::fs::write(&file, "").unwrap();
    let listener = UnixListener::bind(&nonsense).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(&[0xff, 0xfe, 0, b'\n']);
        }
    });
    let sets: Vec<_> = [("a", &absent), ("b", &file), ("c", &nonsense)]
        .iter()
        .map(|(m, path)| format!("{m}:health.haproxy_socket={}", path.display()))
        .chain(["health.http=".to_owned()])
        .collect();
    let options: Vec<_> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
    let lab = Lab::up_with("hapunknown", &options);
    let words = [("az-a", "connecting failed"), ("az-b", "connecting failed"), ("az-c", "not HAProxy")];
    let unknown = |s: &crate::status::Status| {
        let says = |(m, words): &(&str, &str)| {
            s.members.iter().any(|x| x.name == *m && x.health == "unknown" && x.health_reason.contains(words))
        };
        s.owner.is_some() && s.state != "moving" && words.iter().all(says)
    };
    let status = lab.says("az-a", "nobody knows, and somebody owns", unknown);
    let first = status.owner.unwrap();
    lab.client_reaches(&first);
    lab.gauge_is(&first, "vipd_haproxy_known", Some("0"));
    lab.gauge_is(&first, "vipd_haproxy_healthy", Some("1"));
    // It moves as at other times: by order, and from a dead owner.
    let to = others(&first)[0];
    let (code, moved) = lab.vipctl_json(&first, &["transfer-leader", "--to", to]);
    assert_eq!((code, &moved["to"]), (0, &to.into()), "{moved}");
    lab.client_reaches(to);
    lab.says(to, "no quarantine", |s| s.members.iter().all(|m| !m.quarantined));
    lab.ok(&["kill", to]);
    lab.taken_over_from(to);
    for member in others(to) {
        assert!(!lab.vipd_log(member).contains("panicked"), "{}", lab.vipd_log(member));
    }
    lab.assert_fenced();
}

/// HAProxy with a master, as its unit runs it.
struct Mastered<'a> {
    lab: &'a Lab,
    member: &'a str,
    master: String,
}

impl<'a> Mastered<'a> {
    /// In place of the lab's own.
    fn start(lab: &'a Lab, member: &'a str) -> Self {
        let dir = lab.dir.join(member);
        let (cfg, pid) = (dir.join("haproxy.cfg"), dir.join("master.pid"));
        lab.ok(&["kill", member, "--only", "haproxy"]);
        let (cfg, pid_file) = (cfg.to_str().unwrap(), pid.to_str().unwrap());
        let started = lab.run(&["ns", member, "--", "haproxy", "-W", "-D", "-f", cfg, "-p", pid_file]);
        assert!(started.status.success(), "{}", text(&started.stderr));
        let master =
            until("its pid file", BOUND, || std::fs::read_to_string(&pid).map_err(|e| e.to_string()));
        Self { lab, member, master: master.trim().to_owned() }
    }

    fn workers(&self) -> Vec<String> {
        let children = format!("/proc/{0}/task/{0}/children", self.master);
        std::fs::read_to_string(children).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    /// Until another worker answers, and the old one is gone.
    fn reload(&self) {
        let before = self.workers();
        self.lab.inside(self.member, &["kill", "-USR2", &self.master]);
        until("a new worker alone", BOUND, || {
            let now = self.workers();
            holds(now.len() == 1 && !before.contains(&now[0]), || format!("{before:?}, {now:?}"))
        });
    }
}

impl Drop for Mastered<'_> {
    fn drop(&mut self) {
        let _ = self.lab.run(&["ns", self.member, "--", "kill", &self.master]);
    }
}

#[test]
fn fault_82_reloads_of_the_owners_haproxy_one_a_second_move_nothing() {
    // Slow machines answer late; that is not what is tested.
    let lab = Lab::up_with("hapreload", &["--set", "health.timeout_ms=5000"]);
    let first = lab.steady();
    let owner = others(&first)[0];
    let haproxy = Mastered::start(&lab, owner);
    until("it is well again", BOUND, || {
        let (code, json) = lab.vipctl_json(&first, &["transfer-leader", "--to", owner, "--dry-run"]);
        let well = lab.status(&first)?.member(owner).health == "healthy";
        holds(code == 0 && well, || json.to_string())
    });
    let (code, moved) = lab.vipctl_json(&first, &["transfer-leader", "--to", owner]);
    assert_eq!(code, 0, "{moved}");
    assert_eq!(lab.steady(), owner);
    let before = lab.status(owner).unwrap();
    for n in 1..=5 {
        let begun = Instant::now();
        haproxy.reload();
        lab.client_reaches(owner);
        until(&format!("a second after the {n}th"), BOUND, || {
            let status = lab.status(owner)?;
            assert_eq!((status.epoch, status.term), (before.epoch, before.term), "the {n}th: {status:?}");
            assert_eq!(status.member(owner).health, "healthy", "the {n}th: {status:?}");
            holds(begun.elapsed() >= Duration::from_secs(1), || "not yet".into())
        });
    }
    assert_eq!(lab.steady(), owner);
    drop(haproxy);
    lab.assert_fenced();
}
