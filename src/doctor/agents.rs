//! Network agents that take foreign addresses away (FAULTS 78). vipd puts the VIP back within a second, each time.
//!
//! They are found by their units and control groups, not by their processes: the unit of vipd hides those
//! (`ProtectProc=invisible`).

use super::finding::{Finding, Level};
use super::host::{Root, runs};

const CHECK: &str = "network-agent";

const WHY: &str = "it takes addresses away that it does not know: the VIP comes and goes";

/// Whether a unit is enabled, for any target.
fn enabled(root: &Root, unit: &str) -> bool {
    let wants = root.names("etc/systemd/system");
    wants
        .iter()
        .any(|dir| dir.ends_with(".wants") && root.exists(&format!("etc/systemd/system/{dir}/{unit}")))
}

/// One that works on the ENI by EC2's or its own idea of what belongs there.
struct Agent {
    name: &'static str,
    units: &'static [&'static str],
    files: &'static [&'static str],
    mend: &'static str,
}

const AGENTS: [Agent; 3] = [
    Agent {
        name: "nm-cloud-setup",
        units: &["nm-cloud-setup.timer", "nm-cloud-setup.service"],
        files: &[],
        mend: "systemctl disable --now nm-cloud-setup.timer nm-cloud-setup.service",
    },
    Agent {
        name: "cloud-netconfig",
        units: &["cloud-netconfig.timer", "cloud-netconfig.service"],
        files: &[],
        mend: "CLOUD_NETCONFIG_MANAGE='no' in /etc/sysconfig/network/ifcfg-eth0",
    },
    Agent {
        name: "amazon-ec2-net-utils",
        units: &[],
        files: &[
            "usr/lib/systemd/system/policy-routes@.service",
            "usr/lib/udev/rules.d/99-vpc-policy-routes.rules",
        ],
        mend: "set vip.interface = \"lo\", which it leaves alone",
    },
];

/// The agents on this host, and what each means for a VIP on `interface`.
pub fn agents(root: &Root, interface: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for agent in &AGENTS {
        let is_here = agent.units.iter().any(|unit| enabled(root, unit) || root.exists(&running(unit)))
            || agent.files.iter().any(|file| root.exists(file));
        if is_here {
            found.push(match (interface, agent.name) {
                // It touches ENIs only, and leaves what systemd-networkd does not manage.
                ("lo", "amazon-ec2-net-utils") => Finding::ok(
                    CHECK,
                    "amazon-ec2-net-utils is here; the VIP is on lo, which it leaves alone",
                ),
                _ => Finding::new(Level::Warn, CHECK, format!("{} is here", agent.name), WHY, agent.mend),
            });
        }
    }
    for (name, mend) in [
        ("NetworkManager", format!("nmcli device set {interface} managed no")),
        (
            "systemd-networkd",
            format!("KeepConfiguration=yes in the [Network] section of {interface}'s .network file"),
        ),
    ] {
        if !runs(root, name) {
            continue;
        }
        found.push(if interface == "lo" {
            Finding::ok(CHECK, format!("{name} runs; the VIP is on lo, which it leaves alone"))
        } else {
            Finding::new(Level::Warn, CHECK, format!("{name} runs, and may manage {interface}"), WHY, mend)
        });
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "none that is known to take addresses away"));
    }
    found
}

fn running(unit: &str) -> String {
    format!("sys/fs/cgroup/system.slice/{unit}")
}
