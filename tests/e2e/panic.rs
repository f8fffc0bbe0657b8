//! A panic in any task ends the process.

use crate::lab::{BOUND, Lab, holds, until};
use crate::status::others;

#[test]
fn fault_05_a_panic_in_any_task_ends_the_process() {
    let lab = Lab::up_faulty("panic");
    let owner = lab.steady();
    let follower = others(&owner)[1];
    // The loop, a task of Raft's transport, one of its servers, a check, the flusher's own thread.
    for point in ["loop.event", "report.send", "serve.append", "health.probe", "store.fsync.after"] {
        lab.arm(follower, point, "panic");
        if point == "store.fsync.after" {
            // Something for it to save.
            lab.ok(&["ec2", "set-route", "--table", "rtb-0b", "--eni", follower]);
        }
        lab.hit(follower, point, 1);
        assert_eq!(lab.ends(follower), 6, "SIGABRT after {point}");
        lab.logs(follower, &format!("fault point {point}"));
        lab.release(follower, point);
        lab.ok(&["start", follower, "--only", "vipd"]);
        until("it is back", BOUND, || {
            holds(lab.status(&owner)?.state == "steady", || format!("{:?}", lab.status(&owner)))
        });
    }
    lab.arm(&owner, "loop.event", "panic");
    assert_eq!(lab.ends(&owner), 6);
    lab.hit(&owner, "loop.event", 1);
    lab.taken_over_from(&owner);
    lab.assert_fenced();
}
