//! The fault points themselves: there are many, in a build of their own alone.

use std::collections::BTreeSet;
use std::path::Path;

use crate::fault::vipd_faults;
use crate::lab::Lab;
use crate::status::others;

/// Every name in `fault!("...")` and `fault!(wait "...")` under src/.
fn names(path: &Path, found: &mut Vec<String>) {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| names(&entry.unwrap().path(), found));
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("fault!(") {
        let rest = code[at + "fault!(".len()..].trim_start().trim_start_matches("wait").trim_start();
        if let Some(name) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
            found.push(name.to_owned());
        }
    }
}

#[test]
fn fault_points_are_in_the_build_for_tests_and_in_no_other() {
    let mut found = Vec::new();
    names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let points: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(points.len(), found.len(), "a name names one place: {found:?}");
    assert!(points.len() >= 40, "{points:?}");
    let (shipped, faulty) = (Path::new(env!("CARGO_BIN_EXE_vipd")), vipd_faults());
    let (shipped_bytes, faulty_bytes) = (std::fs::read(shipped).unwrap(), std::fs::read(&faulty).unwrap());
    for point in &points {
        assert!(!memmem(&shipped_bytes, point.as_bytes()), "{point} is in {}", shipped.display());
        assert!(memmem(&faulty_bytes, point.as_bytes()), "{point} is not in {}", faulty.display());
    }
    assert!(!memmem(&shipped_bytes, b"VIPD_FAULTS") && memmem(&faulty_bytes, b"VIPD_FAULTS"));
    // What people read of them is whole.
    let table = include_str!("../../docs/FAULTS.md");
    let missing: Vec<_> = points.iter().filter(|p| !table.contains(&format!("`{p}`"))).collect();
    assert!(missing.is_empty(), "docs/FAULTS.md does not name {missing:?}");
}

fn memmem(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[test]
fn a_pause_stops_one_task_a_stall_the_process_and_a_mistake_ends_it() {
    let lab = Lab::up_faulty("actions");
    let owner = lab.steady();
    let before = lab.status(&owner).unwrap();
    // Paused for longer than any lease: heartbeats, leases and operators' questions go on.
    lab.arm(&owner, "loop.look", "pause@1");
    let paused = lab.hit(&owner, "loop.look", 1);
    let over_ns = paused.at_boot_ns + 3_000_000_000;
    crate::lab::until("it was paused for 3 s", crate::lab::BOUND, || {
        let status = lab.status(&owner)?;
        crate::lab::holds(lab.now_ns() >= over_ns, || format!("{status:?}"))
    });
    assert_eq!(lab.hits(&owner, "loop.look").len(), 1, "it stands there still");
    let after = lab.status(&owner).unwrap();
    assert_eq!((after.term, after.epoch), (before.term, before.epoch));
    lab.release(&owner, "loop.look");
    lab.hit(&owner, "loop.look", 2);

    // At its third hit, and no other.
    lab.arm(&owner, "report.send", "delay:1@3");
    lab.hit(&owner, "report.send", 2);
    assert_eq!(lab.hits(&owner, "report.send").len(), 2, "the hit and its end");

    let follower = others(&owner)[0];
    lab.arm(follower, "health.probe", "error");
    assert_eq!(lab.ends(follower), 6);
    let log = lab.vipd_log(follower);
    assert!(log.contains("fault point health.probe: it has no way to fail"), "{log}");
    lab.release(follower, "health.probe");
    lab.ok(&["start", follower, "--only", "vipd"]);
    lab.steady();

    lab.arm(&owner, "loop.event", "stall");
    lab.hit(&owner, "loop.event", 1);
    lab.taken_over_from(&owner);
    lab.release(&owner, "loop.event");
    lab.address_goes(&owner);
    lab.assert_fenced();
}
