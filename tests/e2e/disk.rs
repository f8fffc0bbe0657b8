//! An owner whose disk fails: the process ends, nothing that it acknowledged is lost.

use crate::lab::Lab;
use crate::status::others;

fn a_failing_disk_ends_the_owner(name: &str, action: &str, words: &str) {
    let lab = Lab::up_faulty(name);
    let first = lab.steady();
    let moves = |lab: &Lab, ask: &str| lab.vipctl_json(ask, &["history", "-n", "0"]).1;
    let before = moves(&lab, &first);
    lab.arm(&first, "store.fsync.before", action);
    // Something to save: the intent to put this right.
    lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", others(&first)[0]]);
    lab.hit(&first, "store.fsync.before", 1);
    assert_eq!(lab.ends(&first), 6, "SIGABRT");
    let log = lab.vipd_log(&first);
    assert!(log.contains("the data directory cannot be written") && log.contains(words), "{log}");
    assert_eq!(lab.hits(&first, "store.fsync.before").len(), 1, "no second attempt");
    let second = lab.taken_over_from(&first);
    lab.release(&first, "store.fsync.before");
    lab.ok(&["start", &first, "--only", "vipd"]);
    lab.address_goes(&first);
    assert_eq!(lab.steady(), second);
    // What was acknowledged before is still the oldest that everybody knows.
    let (before, after) = (before.as_array().unwrap().clone(), moves(&lab, &first));
    let after = after.as_array().unwrap();
    assert_eq!(after[after.len() - before.len()..], before[..]);
    lab.assert_fenced();
}

#[test]
fn fault_11_a_full_disk_ends_the_owner_and_another_takes_over() {
    a_failing_disk_ends_the_owner("full", "error:28", "No space left");
}

#[test]
fn fault_12_a_failed_fsync_ends_the_owner_and_another_takes_over() {
    a_failing_disk_ends_the_owner("eio", "error", "Input/output error");
}
