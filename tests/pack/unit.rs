//! The systemd unit by systemd's own judgement, and its numbers against the program's.

use std::process::Command;

use crate::tool::tool;
use crate::tools::{ok, read, repo};

const UNIT: &str = "cluster/systemd/vipd.service";

/// The value of a key that the unit sets once.
fn value(key: &str) -> String {
    let text = read(UNIT);
    let values: Vec<_> = text.lines().filter_map(|l| l.strip_prefix(&format!("{key}="))).collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0].to_owned()
}

fn number(key: &str) -> u64 {
    value(key).parse().unwrap()
}

#[test]
fn its_exposure_is_at_most_2() {
    let mut command = Command::new(tool("systemd-analyze"));
    let said = ok(command.args(["security", "--offline=true", "--no-pager"]).arg(repo(UNIT)));
    let line = said.lines().find(|l| l.contains("Overall exposure level")).unwrap();
    let exposure: f64 =
        line.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    assert!(exposure > 0.0 && exposure <= 2.0, "{said}");
}

#[test]
fn a_stop_has_time_to_hand_over() {
    let handover_s = vipd::driver::STOP_DEADLINE.as_secs();
    assert!(number("TimeoutStopSec") >= handover_s + 5, "the handover may take {handover_s} s");
}

#[test]
fn it_may_change_addresses_and_nothing_else() {
    assert_eq!(value("AmbientCapabilities"), "CAP_NET_ADMIN");
    assert_eq!(value("CapabilityBoundingSet"), "CAP_NET_ADMIN");
    assert_eq!(value("DynamicUser"), "yes");
    assert_eq!(value("StateDirectoryMode"), "0700");
    assert_eq!((value("LimitCORE"), value("LimitMEMLOCK")), ("0".into(), "infinity".into()));
}

/// A crash loop is over before the limit's interval is: else it would go on for ever.
#[test]
fn fault_07_the_start_limit_can_be_reached() {
    let seconds_of_a_loop = number("StartLimitBurst") * (number("RestartSec") + number("WatchdogSec"));
    assert!(seconds_of_a_loop < number("StartLimitIntervalSec"), "{seconds_of_a_loop}");
    assert_eq!(value("RestartPreventExitStatus"), "2");
}
