//! The same group on an EC2 that no one here wrote: moto, as the lab's own is checked by it.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::lab::{BOUND, Lab, MEMBERS, holds, text, until};
use crate::status::others;

/// On the router's loopback, beside the lab's own EC2 and reached from every zone as that is.
const PORT: &str = "5555";
const ENDPOINT: &str = "http://10.0.0.2:5555";

struct Moto<'a> {
    lab: &'a Lab,
    server: Child,
    python: PathBuf,
}

impl<'a> Moto<'a> {
    fn start(lab: &'a Lab) -> Self {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).unwrap();
        let bin = cache.join("vipd/moto/bin");
        let program = bin.join("moto_server");
        assert!(program.exists(), "{} is missing: ./cluster/setup.sh python3-venv moto", program.display());
        let log = std::fs::File::create(lab.dir.join("moto.log")).unwrap();
        let mut command = lab.command(&["ns", "router", "--"]);
        command.arg(&program).args(["-H", "10.0.0.2", "-p", PORT]);
        let server = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let moto = Self { lab, server, python: bin.join("python") };
        // Python takes its time.
        until("moto listens", BOUND + BOUND, || lab.get("router", "10.0.0.2:5555", "/moto-api/data.json"));
        moto
    }

    /// tests/e2e/moto.py, inside the router.
    fn python(&self, arguments: &[&str]) -> Value {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/moto.py");
        let mut command = self.lab.command(&["ns", "router", "--"]);
        let output = command.arg(&self.python).args([script, ENDPOINT]).args(arguments).output().unwrap();
        assert!(output.status.success(), "moto.py {arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until so many routes are there, and all name the ENI. `more`: a role, and the VIPs.
    fn routes_come_to(&self, eni: &Value, count: usize, more: &[&str]) {
        until(&format!("moto's routes name {eni}"), BOUND, || {
            let routes = self.python(&[&["routes"], more].concat());
            let all = routes.as_array().unwrap();
            holds(all.len() == count && all.iter().all(|r| r == eni), || routes.to_string())
        });
    }
}

/// Starts the members on what moto made, with further settings.
fn start(lab: &Lab, made: &Value, more: &[&str]) {
    let mut sets = vec![format!("aws.endpoint_url={ENDPOINT}"), "aws.region=eu-west-1".to_owned()];
    sets.extend(MEMBERS.iter().zip(0..).map(|(m, i)| format!("{m}:aws.eni={}", made["enis"][i])));
    sets.extend(more.iter().map(|set| (*set).to_owned()));
    let sets: Vec<_> = sets.iter().flat_map(|set| ["--set", set]).collect();
    lab.ok(&[&["config"], sets.as_slice()].concat());
    lab.ok(&["start", "all", "--only", "vipd"]);
}

fn tables(made: &Value) -> String {
    format!("aws.route_tables={}", made["tables"])
}

fn eni<'a>(made: &'a Value, member: &str) -> &'a Value {
    &made["enis"][MEMBERS.iter().position(|m| *m == member).unwrap()]
}

/// Asks for a switchover to a member that is not the owner; its name.
fn moved(lab: &Lab, owner: &str) -> &'static str {
    let to = others(owner)[0];
    let (code, moved) = lab.vipctl_json(owner, &["transfer-leader", "--to", to]);
    assert_eq!((code, &moved["to"]), (0, &to.into()), "{moved}");
    to
}

impl Drop for Moto<'_> {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn moto_shows_the_new_owner_in_every_table() {
    let lab = Lab::up_with("moto", &["--no-vipd"]);
    let moto = Moto::start(&lab);
    let made = moto.python(&["make"]);
    start(&lab, &made, &[&tables(&made)]);
    let first = lab.says("az-a", "steady", |s| s.state == "steady").owner.unwrap();
    moto.routes_come_to(eni(&made, &first), 3, &[]);
    lab.ok(&["kill", &first]);
    let ask = others(&first)[0];
    let taken = lab.says(ask, "another owner, in sync", |s| {
        s.owner.as_ref().is_some_and(|o| *o != first) && s.vips[0].routes.iter().all(|r| r.in_sync)
    });
    let second = taken.owner.unwrap();
    moto.routes_come_to(eni(&made, &second), 3, &[]);
    let to = others(&first).into_iter().find(|m| *m != second).unwrap();
    let (code, moved) = lab.vipctl_json(ask, &["transfer-leader", "--to", to]);
    assert_eq!((code, &moved["to"]), (0, &to.into()), "{moved}");
    moto.routes_come_to(eni(&made, to), 3, &[]);
}

/// Two IPv4 and one IPv6 VIP, tables by tag alone, and no route at the start.
#[test]
fn moto_has_every_vip_in_every_table_that_has_the_tag() {
    let lab = Lab::up_with("motovips", &["--no-vipd"]);
    let moto = Moto::start(&lab);
    let vips = ["192.168.77.10/32", "192.168.77.11/32", "fd00:77::10/128"];
    let made = moto.python(&["bare"]);
    let addresses = format!("vip.addresses={vips:?}");
    let tag = "aws.route_table_tag=vipd:cluster=edge";
    start(&lab, &made, &["aws.route_tables=", tag, &addresses, "aws.create_missing=true"]);
    let first = lab.says("az-a", "steady", |s| s.state == "steady").owner.unwrap();
    moto.routes_come_to(eni(&made, &first), 9, &vips);
    let second = moved(&lab, &first);
    moto.routes_come_to(eni(&made, second), 9, &vips);
}

/// The tables are another account's: their role is assumed by moto's STS. The ENIs are there too, since moto knows no
/// VPC that two accounts share; so the members do not look at them with the instance's own credentials.
#[test]
fn moto_moves_routes_of_another_account_by_assume_role() {
    const ROLE: &str = "arn:aws:iam::210987654321:role/routes";
    let lab = Lab::up_with("motorole", &["--no-vipd"]);
    let moto = Moto::start(&lab);
    let other = ["--role", ROLE];
    let made = moto.python(&[&["make"], other.as_slice()].concat());
    for member in MEMBERS {
        let services =
            format!("[default]\nservices = lab\n[services lab]\nsts =\n  endpoint_url = {ENDPOINT}\n");
        std::fs::write(lab.dir.join(member).join("aws.config"), services).unwrap();
    }
    let role = format!("aws.assume_role_arn={ROLE}");
    start(&lab, &made, &[&tables(&made), &role, "aws.source_dest_check=ignore"]);
    let first = lab.says("az-a", "steady", |s| s.state == "steady").owner.unwrap();
    moto.routes_come_to(eni(&made, &first), 3, &other);
    let second = moved(&lab, &first);
    moto.routes_come_to(eni(&made, second), 3, &other);
    assert_eq!(moto.python(&["routes"]), serde_json::json!([]), "nothing in the instances' own account");
    let (code, policy) = lab.vipctl_json(second, &["iam-policy"]);
    assert_eq!((code, &policy["instance"]["Statement"][0]["Resource"][0]), (0, &ROLE.into()), "{policy}");
    let tables = policy["routes"]["Statement"][1]["Resource"].to_string();
    assert!(tables.contains("arn:aws:ec2:eu-west-1:210987654321:route-table/"), "{policy}");
}

/// moto carries a ReplaceRoute with DryRun out, which EC2 never does. Each member notices it once, asks no more, and
/// the owner puts the routes right.
#[test]
fn moto_ignores_dry_run_and_is_asked_once_by_each_member() {
    let lab = Lab::up_with("motodry", &["--no-vipd"]);
    let moto = Moto::start(&lab);
    let made = moto.python(&["make"]);
    start(&lab, &made, &[&tables(&made)]);
    let owner = lab.says("az-a", "steady", |s| s.state == "steady").owner.unwrap();
    // The first DryRun comes ten seconds after the first move.
    until("each member has noticed", BOUND + BOUND + BOUND, || {
        let not_yet = MEMBERS.iter().find(|m| !lab.vipd_log(m).contains("the endpoint ignores DryRun"));
        holds(not_yet.is_none(), || format!("{not_yet:?}"))
    });
    moto.routes_come_to(eni(&made, &owner), 3, &[]);
    let status = lab.says(&owner, "steady again", |s| s.state == "steady");
    assert_eq!(status.owner, Some(owner));
}
