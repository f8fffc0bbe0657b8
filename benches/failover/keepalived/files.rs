//! keepalived.conf, the check and the notify script of one member.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use vip_lab::spec::{EC2_ADDRESS, EC2_PORT, LINK, REGION, Spec, Zone};

use crate::plan::Tuning;

pub const CONFIG: &str = "keepalived.conf";
/// What the notify script was last told: master, backup or fault.
pub const STATE: &str = "keepalived.state";
/// What swaps the routes; also the name of its process.
pub const NOTIFY: &str = "notify.sh";
/// 1: this member is to be master no more.
pub const DRAIN: &str = "drain";
/// 1: HAProxy does not run.
pub const HAPROXY_DOWN: &str = "haproxy.down";

pub fn write(spec: &Spec, zone: &Zone, tuning: Tuning, aws: &Path) -> anyhow::Result<()> {
    let dir = spec.member_dir(zone);
    // keepalived takes a file that is not there for a failure.
    fs::write(dir.join(DRAIN), "0")?;
    fs::write(dir.join(HAPROXY_DOWN), "0")?;
    program(&dir.join("check.sh"), &check(tuning))?;
    program(&dir.join(NOTIFY), &notify(spec, zone, aws))?;
    Ok(fs::write(dir.join(CONFIG), config(spec, zone, tuning))?)
}

fn program(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Notices an HAProxy that runs and does not answer.
fn check(tuning: Tuning) -> String {
    let patience = match tuning {
        Tuning::Default => "1",
        Tuning::Tuned => "0.5",
    };
    format!("#!/bin/sh\nexec curl -fsS -o /dev/null -m {patience} http://127.0.0.1:8404/healthz\n")
}

/// As many calls at a time as there are cores, since a call is mostly the CLI's own start: more would delay the first
/// table and not speed up the last. The CLI finds its credentials at IMDS.
fn notify(spec: &Spec, zone: &Zone, aws: &Path) -> String {
    let tables: Vec<_> = spec.tables.iter().map(|table| table.id.as_str()).collect();
    let dir = spec.member_dir(zone);
    format!(
        r#"#!/bin/sh
echo "$1" >{dir}/{STATE}
[ "$1" = master ] || exit 0
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_DEFAULT_REGION={REGION}
printf '%s\n' {tables} | xargs -P "$(nproc)" -I '{{}}' {aws} ec2 replace-route --endpoint-url http://{EC2_ADDRESS}:{EC2_PORT} \
    --route-table-id '{{}}' --destination-cidr-block {vip} --network-interface-id {eni} >>{dir}/notify.log 2>&1
"#,
        dir = dir.display(),
        tables = tables.join(" "),
        aws = aws.display(),
        vip = spec.vips.join(" "),
        eni = zone.eni,
    )
}

/// High priorities, since the wait after a master's goodbye is (256 - priority)/256 of an interval; 20 apart, so that
/// two backups do not both become master.
fn config(spec: &Spec, zone: &Zone, tuning: Tuning) -> String {
    let dir = spec.member_dir(zone);
    let dir = dir.display();
    let place = spec.zones.iter().position(|z| z.member == zone.member).unwrap_or(0);
    let priority = 254 - 20 * place;
    let peers: String = spec
        .zones
        .iter()
        .filter(|z| z.member != zone.member)
        .map(|z| format!("        {}\n", z.ip))
        .collect();
    let (version, advert_int, fall) = match tuning {
        Tuning::Default => (2, "1", 2),
        Tuning::Tuned => (3, "0.1", 1),
    };
    format!(
        r#"global_defs {{
    script_user root
    enable_script_security
    vrrp_version {version}
}}

vrrp_script haproxy_answers {{
    script {dir}/check.sh
    interval 1
    timeout 2
    fall {fall}
    rise 2
}}

track_file drain {{
    file {dir}/{DRAIN}
    weight 0
}}

track_file haproxy_down {{
    file {dir}/{HAPROXY_DOWN}
    weight 0
}}

vrrp_instance vip {{
    state BACKUP
    nopreempt
    interface {LINK}
    virtual_router_id 51
    priority {priority}
    advert_int {advert_int}
    unicast_src_ip {ip}
    unicast_peer {{
{peers}    }}
    # The VIP is on every member's loopback; VRRP wants an address of its own.
    virtual_ipaddress {{
        192.0.2.51/32 dev lo
    }}
    track_script {{
        haproxy_answers
    }}
    track_file {{
        drain
        haproxy_down
    }}
    notify_master "{dir}/{NOTIFY} master"
    notify_backup "{dir}/{NOTIFY} backup"
    notify_fault "{dir}/{NOTIFY} fault"
}}
"#,
        ip = zone.ip,
    )
}
