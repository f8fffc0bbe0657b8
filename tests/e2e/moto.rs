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
    fn python(&self, verb: &str) -> Value {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/moto.py");
        let mut command = self.lab.command(&["ns", "router", "--"]);
        let output = command.arg(&self.python).args([script, ENDPOINT, verb]).output().unwrap();
        assert!(output.status.success(), "moto.py {verb}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until every table's VIP route names the ENI.
    fn routes_come_to(&self, eni: &Value) {
        until(&format!("moto's routes name {eni}"), BOUND, || {
            let routes = self.python("routes");
            let all = routes.as_array().unwrap();
            holds(all.len() == 3 && all.iter().all(|r| r == eni), || routes.to_string())
        });
    }
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
    let made = moto.python("make");
    let mut sets = vec![
        format!("aws.route_tables={}", made["tables"]),
        format!("aws.endpoint_url={ENDPOINT}"),
        "aws.region=eu-west-1".to_owned(),
    ];
    sets.extend(MEMBERS.iter().zip(0..).map(|(m, i)| format!("{m}:aws.eni={}", made["enis"][i])));
    let sets: Vec<_> = sets.iter().flat_map(|set| ["--set", set]).collect();
    lab.ok(&[&["config"], sets.as_slice()].concat());
    lab.ok(&["start", "all", "--only", "vipd"]);
    let eni = |member: &str| &made["enis"][MEMBERS.iter().position(|m| *m == member).unwrap()];

    let first = lab.says("az-a", "steady", |s| s.state == "steady").owner.unwrap();
    moto.routes_come_to(eni(&first));
    lab.ok(&["kill", &first]);
    let ask = others(&first)[0];
    let taken = lab.says(ask, "another owner, in sync", |s| {
        s.owner.as_ref().is_some_and(|o| *o != first) && s.vips[0].routes.iter().all(|r| r.in_sync)
    });
    let second = taken.owner.unwrap();
    moto.routes_come_to(eni(&second));
    let to = others(&first).into_iter().find(|m| *m != second).unwrap();
    let (code, moved) = lab.vipctl_json(ask, &["transfer-leader", "--to", to]);
    assert_eq!((code, &moved["to"]), (0, &to.into()), "{moved}");
    moto.routes_come_to(eni(to));
}
