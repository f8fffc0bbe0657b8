//! A whole lab without vipd: the routes, the faults and the metadata service do what they say.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A lab that is taken down whatever happens.
struct Lab {
    name: String,
    dir: PathBuf,
}

impl Lab {
    fn up(name: &str, more: &[&str]) -> Self {
        let name = format!("{name}{}", std::process::id() % 10_000);
        let dir = std::env::temp_dir().join(format!("vip-lab-{name}"));
        let lab = Self { name, dir };
        lab.ok(&[&["up", "--no-vipd"], more].concat());
        for member in ["a", "b", "c"] {
            lab.ok(&["ns", member, "--", "ip", "address", "add", "192.168.77.10/32", "dev", "lo"]);
        }
        lab
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vip-lab"));
        command.args(["--name", &self.name, "--dir"]).arg(&self.dir).args(args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// One second of requests: who answered, and how often nobody did.
    fn load(&self) -> (Vec<String>, u64) {
        let report = self.json(&["load", "--seconds", "1", "--every-ms", "20", "--json"]);
        let owners = report["owners"].as_array().unwrap();
        (
            owners.iter().map(|o| o["member"].as_str().unwrap().into()).collect(),
            report["failed"].as_u64().unwrap(),
        )
    }

    /// A request over bash's /dev/tcp, since the lab needs no curl.
    fn http(&self, who: &str, ip: &str, port: u16, request: &str) -> String {
        let script = format!("exec 3<>/dev/tcp/{ip}/{port}; printf '{request}' >&3; timeout 2 cat <&3");
        let output = self.run(&["ns", who, "--", "timeout", "3", "bash", "-c", &script]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn owner(&self) -> String {
        let answer = self.http("client", "192.168.77.10", 8080, r"GET / HTTP/1.0\r\n\r\n");
        answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim().into()
    }

    /// An EC2 call from a member.
    fn ec2(&self, who: &str, form: &str) -> String {
        let head =
            r"User-Agent: test vipd/0.1.0 (cluster=edge; member=az-b; term=7; epoch=93)\r\nConnection: close";
        let form = form.replace('%', "%%");
        let length = form.replace("%%", "%").len();
        self.http(
            who,
            "10.0.0.2",
            5000,
            &format!(r"POST / HTTP/1.1\r\nHost: ec2\r\n{head}\r\nContent-Length: {length}\r\n\r\n{form}"),
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.run(&["down"]);
        let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
        let _ = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert!(output.status.success(), "down: {}", String::from_utf8_lossy(&output.stderr));
            let left = String::from_utf8_lossy(&left.stdout).into_owned();
            assert!(!left.contains(&format!("{}-", self.name)), "{left}");
        }
    }
}

const SWAP: &str = "Action=ReplaceRoute&RouteTableId=rtb-0a&DestinationCidrBlock=192.168.77.10%2F32&NetworkInterfaceId=eni-0";

#[test]
fn traffic_follows_the_route_table() {
    let lab = Lab::up("lta", &[]);
    assert_eq!(lab.owner(), "az-a");
    lab.ok(&["ec2", "set-route", "--table", "rtb-0a", "--eni", "b"]);
    assert_eq!(lab.owner(), "az-b");
    let answer = lab.ec2("c", &format!("{SWAP}c"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("<return>true</return>"), "{answer}");
    assert_eq!(lab.owner(), "az-c");
    let calls = lab.json(&["calls"]);
    assert_eq!((&calls[0]["source"], &calls[0]["member"]), (&"hand".into(), &Value::Null));
    let swap = &calls[1];
    assert_eq!(
        (&swap["member"], &swap["claims_member"], &swap["term"]),
        (&"az-c".into(), &"az-b".into(), &7.into())
    );
    assert!(swap["executed_boot_ns"].as_u64() >= swap["received_boot_ns"].as_u64());
    // The other tables, and with them the zones' own traffic, stay where they were.
    let others = lab.json(&["routes"]);
    assert_eq!((&others[1]["target"], &others[2]["target"]), (&"eni-0a".into(), &"eni-0a".into()));
    lab.ok(&["ec2", "delete-route", "--table", "rtb-0a"]);
    assert_eq!(lab.load().0, [""; 0]);
    assert!(lab.ec2("c", &format!("{SWAP}c")).contains("There is no route defined"));
}

#[test]
fn faults_happen_and_end() {
    let lab = Lab::up("ltb", &[]);
    assert_eq!(lab.load(), (vec!["az-a".into()], 0));
    // Loss of a zone, both ways, and its return.
    lab.ok(&["cut", "a"]);
    let (owners, failed) = lab.load();
    assert!(owners.is_empty() && failed > 0);
    lab.ok(&["heal", "a"]);
    assert_eq!(lab.load(), (vec!["az-a".into()], 0));
    // HAProxy alone.
    lab.ok(&["kill", "a", "--only", "haproxy"]);
    let refused = lab.json(&["load", "--seconds", "1", "--json"]);
    assert!(refused["ok"] == 0 && refused["failed_by_kind"]["refused"].as_u64().unwrap() > 10, "{refused}");
    assert!(
        !lab.run(&["kill", "a", "--only", "haproxy"]).status.success(),
        "a kill that hits nothing must fail"
    );
    lab.ok(&["start", "a", "--only", "haproxy"]);
    wait("az-a answers", || lab.owner() == "az-a");
    // A frozen one accepts and does not answer.
    lab.ok(&["freeze", "a", "--only", "haproxy"]);
    let frozen = lab.json(&["load", "--seconds", "1", "--every-ms", "100", "--json"]);
    assert!(frozen["failed_by_kind"]["answer-timeout"].as_u64().unwrap() > 2, "{frozen}");
    lab.ok(&["continue", "a"]);
    assert_eq!(lab.owner(), "az-a");
    let stopped = lab.json(&["stop", "a", "--only", "haproxy"]);
    assert!(stopped[0]["ms"].as_u64().unwrap() < 10_000, "{stopped}");
    // An ENI that drops foreign addresses.
    lab.ok(&["ec2", "set-route", "--table", "rtb-0a", "--eni", "b"]);
    assert_eq!(lab.owner(), "az-b");
    lab.ok(&["ec2", "eni", "b", "--source-dest-check", "on"]);
    assert_eq!(lab.owner(), "");
    assert!(
        lab.ec2("b", "Action=DescribeNetworkInterfaces&NetworkInterfaceId.1=eni-0b")
            .contains("<sourceDestCheck>true<")
    );
    lab.ec2(
        "b",
        "Action=ModifyNetworkInterfaceAttribute&NetworkInterfaceId=eni-0b&SourceDestCheck.Value=false",
    );
    wait("az-b answers", || lab.owner() == "az-b");
    lab.ok(&["ec2", "eni", "b", "--gone", "on"]);
    assert_eq!(lab.owner(), "");
    assert_eq!(lab.json(&["routes"])[0]["state"], "blackhole");
}

#[test]
fn ec2_goes_wrong_on_demand() {
    let lab = Lab::up("ltc", &["--initial-route", "b"]);
    lab.ok(&["ec2", "error", "InternalError", "--action", "ReplaceRoute", "--times", "1"]);
    assert!(lab.ec2("b", &format!("{SWAP}c")).starts_with("HTTP/1.1 500"));
    assert_eq!(lab.json(&["ec2", "faults"])["rules"][0]["hits"], 1);
    lab.ok(&["ec2", "late", "300", "--action", "ReplaceRoute", "--times", "1"]);
    // The call is answered by nothing, the caller gives up, and it happens all the same.
    let begun = Instant::now();
    assert_eq!(lab.ec2("b", &format!("{SWAP}c")), "");
    wait("the late call", || lab.owner() == "az-c");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let late = &lab.json(&["calls"])[1];
    assert_eq!((&late["outcome"], &late["answered_boot_ns"]), (&"ok".into(), &Value::Null));
    lab.ok(&["ec2", "clear"]);
    lab.ok(&["ec2", "deny", "ReplaceRoute"]);
    let denied = lab.ec2("b", &format!("{SWAP}a&DryRun=true"));
    assert!(denied.starts_with("HTTP/1.1 403") && denied.contains("route-table/rtb-0a"), "{denied}");
    lab.ok(&["ec2", "clear"]);
    lab.ok(&["ec2", "unreachable", "b"]);
    assert_eq!(lab.ec2("b", "Action=DescribeVpcs"), "");
    assert!(lab.ec2("c", "Action=DescribeVpcs").contains("10.0.0.0/16"));
    lab.ok(&["heal", "all"]);
    assert!(lab.ec2("b", "Action=DescribeVpcs").contains("10.0.0.0/16"));
}

#[test]
fn imds_wants_a_token() {
    let lab = Lab::up("ltd", &[]);
    let get = |token: &str, path: &str| {
        let path = format!("/latest/{path}");
        lab.http(
            "b",
            "169.254.169.254",
            80,
            &format!(r"GET {path} HTTP/1.0\r\nX-aws-ec2-metadata-token: {token}\r\n\r\n"),
        )
    };
    assert!(get("none", "meta-data/mac").contains("401"));
    let put = r"PUT /latest/api/token HTTP/1.0\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n";
    let answer = lab.http("b", "169.254.169.254", 80, put);
    let token = answer.rsplit("\r\n\r\n").next().unwrap();
    assert!(get(token, "meta-data/placement/availability-zone").ends_with("eu-west-1b"));
    assert!(
        get(token, "meta-data/network/interfaces/macs/02:00:0a:00:02:0a/interface-id").ends_with("eni-0b")
    );
    assert!(get(token, "meta-data/iam/security-credentials/vipd").contains("\"Code\":\"Success\""));
    let stolen = format!(r"GET /latest/meta-data/mac HTTP/1.0\r\nX-aws-ec2-metadata-token: {token}\r\n\r\n");
    assert!(lab.http("c", "169.254.169.254", 80, &stolen).contains("401"));
    lab.ok(&["imds", "off"]);
    assert!(get(token, "meta-data/mac").contains("503"));
}

/// A bounded wait for a condition.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
