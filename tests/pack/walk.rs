//! From the README to a group that serves, by the steps of docs/OPERATIONS.md (Installing, Certificates) alone: three hosts,
//! each a booted systemd with the package's own unit and example, in the lab's VPC.
//!
//! What is not real: the hosts share this machine's kernel, and boot without a firmware or a network setup of their own. EC2 and
//! IMDS are the lab's, so that the example has one line more (`endpoint_url`), the role's credentials are the lab's, and what
//! an administrator does by `aws ec2` is done by `vip-lab ec2`. The package comes by dpkg, since there is no network for apt.
//! HAProxy's maxconn is smaller, as in package.rs. Nothing else of unit, example or HAProxy's file is changed but what each user
//! has to: route tables, application servers, and the operators' port, which is off by default.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::booted::Booted;
use crate::package::package;
use crate::tools::{BOUND, holds, ok, run, text, until};

const MEMBERS: [&str; 3] = ["az-a", "az-b", "az-c"];
const TABLES: [&str; 3] = ["rtb-0a", "rtb-0b", "rtb-0c"];
/// What clients know of it.
const SERVICE: &str = "192.168.77.10:80";
/// Where the application runs: no member.
const APPLICATION: &str = "10.0.9.10:8080";

fn letter(member: &str) -> char {
    member.chars().last().unwrap()
}

fn ip(member: &str) -> String {
    format!("10.0.{}.10", 1 + u32::from(letter(member)) - u32::from('a'))
}

/// The VPC: subnets, route tables, EC2, IMDS; taken down whatever happens.
struct Vpc {
    name: String,
    dir: PathBuf,
}

impl Vpc {
    fn up() -> Self {
        let name = format!("walk{}", std::process::id() % 100_000);
        let dir = std::env::temp_dir().join(format!("vipd-{name}"));
        let vpc = Self { name, dir };
        vpc.ok(&["up", "--no-vipd", "--initial-route", "none"]);
        // The hosts bring HAProxy with them.
        vpc.ok(&["kill", "all", "--only", "haproxy"]);
        vpc
    }

    fn run(&self, verb: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_vipd")).with_file_name("vip-lab");
        run(Command::new(program).args(["--name", &self.name, "--dir"]).arg(&self.dir).args(verb))
    }

    fn ok(&self, verb: &[&str]) -> String {
        let output = self.run(verb);
        assert!(output.status.success(), "vip-lab {verb:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, verb: &[&str]) -> Value {
        serde_json::from_str(&self.ok(verb)).unwrap()
    }

    /// On a thread of its own on the host `client`, which is no member.
    fn on_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let ns = format!("/run/netns/{}-client", self.name);
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let file = std::fs::File::open(&ns).unwrap();
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    fn host(&self, member: &str) -> Booted {
        Booted::up_in(&format!("{}-{}", self.name, letter(member)), member)
    }

    fn routes_are_on(&self, member: &str) -> Result<(), String> {
        let routes = self.json(&["routes"]);
        let eni = format!("eni-0{}", letter(member));
        let all = routes.as_array().unwrap();
        holds(all.len() == 3 && all.iter().all(|r| r["target"] == eni.as_str()), || routes.to_string())
    }
}

impl Drop for Vpc {
    fn drop(&mut self) {
        let down = self.run(&["down"]);
        if !std::thread::panicking() {
            assert!(down.status.success(), "{}", text(&down.stderr));
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// The service behind HAProxy: it answers with the address that asked, which is the HAProxy's that passed it on.
fn application(listener: &TcpListener, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Ok((mut stream, from)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        std::thread::spawn(move || {
            let mut request = [0; 4096];
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            if stream.read(&mut request).is_ok() {
                let body = from.ip().to_string();
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
    }
}

/// Which host's HAProxy answers the client at the VIP.
fn asks() -> Result<String, Failed> {
    let address: SocketAddr = SERVICE.parse().unwrap();
    let wait = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, wait)?;
    stream.set_read_timeout(Some(wait))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: service\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| Failed::Other("no head".to_owned()))?;
    holds(head.contains(" 200 "), || head.to_owned()).map_err(Failed::Other)?;
    Ok(body.to_owned())
}

/// One request of the client: from when to when (CLOCK_BOOTTIME), and who answered.
struct Request {
    from_ns: u64,
    to_ns: u64,
    answer: Result<String, Failed>,
    /// Of one that was reset: what an immediate second try brought.
    retry: Option<Result<String, Failed>>,
}

/// Why the client had no answer.
#[derive(PartialEq, Eq, Debug)]
enum Failed {
    /// A connection that was open was reset.
    Reset,
    Other(String),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::ConnectionReset => Self::Reset,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// A new connection every 10 ms.
fn client(over: &AtomicBool, seen: &Mutex<Vec<Request>>) {
    while !over.load(Ordering::Relaxed) {
        let from_ns = boot_ns();
        let answer = asks();
        let to_ns = boot_ns();
        let retry = (answer == Err(Failed::Reset)).then(asks);
        seen.lock().unwrap().push(Request { from_ns, to_ns, answer, retry });
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Until the client has been answered so often more by this member.
fn goes_on(seen: &Mutex<Vec<Request>>, member: &str) {
    let before = seen.lock().unwrap().len();
    until(&format!("the client goes on with {member}"), BOUND, || {
        let seen = seen.lock().unwrap();
        let answered = seen[before..].iter().filter(|r| r.answer.as_ref() == Ok(&ip(member))).count();
        holds(answered >= 50, || format!("{answered} of {}", seen.len() - before))
    });
}

/// The administrator's machine: on the host `client`, with the package's own vipctl.
struct Admin<'a> {
    vpc: &'a Vpc,
    dir: PathBuf,
}

impl<'a> Admin<'a> {
    fn new(vpc: &'a Vpc) -> Self {
        let dir = vpc.dir.join("admin");
        ok(Command::new("dpkg-deb").arg("--extract").arg(package()).arg(&dir));
        Self { vpc, dir }
    }

    fn vipctl(&self, arguments: &[&str]) -> Output {
        let program = self.dir.join("usr/bin/vipctl").display().to_string();
        let shell = "cd \"$0\" && exec \"$@\"";
        let dir = self.dir.display().to_string();
        self.vpc.run(&[&["ns", "client", "--", "sh", "-c", shell, &dir, &program], arguments].concat())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.vipctl(arguments);
        assert!(output.status.success(), "vipctl {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// A verb over the network, with alice's certificate: exit code and JSON.
    fn asks(&self, member: &str, verb: &[&str]) -> (Option<i32>, Value) {
        let endpoint = format!("https://{}:7401", ip(member));
        let who =
            ["--ca", "pki/ca.pem", "--cert", "pki/operator-alice.pem", "--key", "pki/operator-alice.key"];
        let output = self.vipctl(&[&["-o", "json", "--endpoint", &endpoint], &who[..], verb].concat());
        let page = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{verb:?}: {e}: {}{}", text(&output.stdout), text(&output.stderr)));
        (output.status.code(), page)
    }

    fn copy(&self, file: &str, host: &Booted, to: &str) {
        host.put(to, &std::fs::read(self.dir.join("pki").join(file)).unwrap());
    }
}

/// HAProxy of the package's example, with the user's application.
fn install_haproxy(host: &Booted) {
    let script = format!(
        "sed -e 's|10.0.[123].20:8080|{APPLICATION}|' -e 's|maxconn 20000|maxconn 200|' \
         /usr/share/doc/vipd/examples/haproxy.cfg >/etc/haproxy/haproxy.cfg"
    );
    host.ok(&["sh", "-ec", &script]);
    host.ok(&["systemctl", "enable", "--now", "haproxy.service"]);
}

/// docs/OPERATIONS.md: Installing, and the right half of Certificates.
fn install(admin: &Admin<'_>, host: &Booted, member: &str) {
    host.put("/root/vipd_0.1.0-1_amd64.deb", &std::fs::read(package()).unwrap());
    host.ok(&["dpkg", "--install", "/root/vipd_0.1.0-1_amd64.deb"]);
    install_haproxy(host);
    host.ok(&["cp", &format!("/usr/share/doc/vipd/examples/{member}.toml"), "/etc/vipd/vipd.toml"]);
    // editor: the route tables, the operators' port; and the lab's EC2.
    let edit = format!(
        "sed -i -e 's|^route_tables.*|route_tables = [\"{}\"]\\nendpoint_url = \"http://10.0.0.2:5000\"|' \
         -e 's|^# listen|listen|' /etc/vipd/vipd.toml",
        TABLES.join("\", \"")
    );
    host.ok(&["sh", "-ec", &edit]);
    for file in ["ca.pem", &format!("{member}.pem"), &format!("{member}.key")] {
        admin.copy(file, host, &format!("/root/{file}"));
    }
    host.ok(&["install", "-m", "0644", "/root/ca.pem", "/etc/vipd/ca.pem"]);
    host.ok(&["install", "-m", "0644", &format!("/root/{member}.pem"), "/etc/vipd/member.pem"]);
    let key = format!("/root/{member}.key");
    host.ok(&["install", "-m", "0640", "-g", "vipd-tls", &key, "/etc/vipd/member.key"]);
    host.ok(&["rm", &key]);
    assert!(host.ok(&["vipd", "--check"]).contains(member));
    let policy = host.ok(&["vipctl", "iam-policy", "--config", "/etc/vipd/vipd.toml"]);
    assert!(policy.contains("ec2:ReplaceRoute") && policy.contains("route-table/rtb-0b"), "{policy}");
}

/// Others do not read the key; and with one of root's alone it does not start, and systemd does not try again.
fn key_is_the_units(host: &Booted) {
    let key = "/etc/vipd/member.key";
    let refused = host.run(&["setpriv", "--reuid", "65534", "--clear-groups", "cat", key]);
    assert!(!refused.status.success(), "others read the key");
    host.ok(&["chgrp", "root", key]);
    assert!(!host.run(&["systemctl", "start", "vipd"]).status.success());
    let shown = (host.show("vipd", "ExecMainStatus"), host.show("vipd", "NRestarts"));
    assert_eq!(shown, ("2".into(), "0".into()));
    host.ok(&["chgrp", "vipd-tls", key]);
}

/// Certificates, renew: the pair is read again by a reload.
fn renew(admin: &Admin<'_>, host: &Booted, member: &str) {
    admin.ok(&["certs", "issue", "member", member, "--dir", "pki", "--out", "pki/new"]);
    admin.copy(&format!("new/{member}.pem"), host, "/root/new.pem");
    admin.copy(&format!("new/{member}.key"), host, "/root/new.key");
    host.ok(&["install", "-m", "0644", "/root/new.pem", "/etc/vipd/member.pem"]);
    host.ok(&["install", "-m", "0640", "-g", "vipd-tls", "/root/new.key", "/etc/vipd/member.key"]);
    host.ok(&["systemctl", "reload", "vipd"]);
    until("the certificate was read again", BOUND, || {
        holds(host.journal().contains("the configuration was read again"), || host.journal())
    });
}

fn fails(page: &Value) -> Vec<&Value> {
    page["findings"].as_array().unwrap().iter().filter(|f| f["level"] == "fail").collect()
}

/// What an administrator does by `aws ec2 modify-network-interface-attribute` and `create-route`.
fn prepare_aws(vpc: &Vpc) {
    for member in MEMBERS {
        vpc.ok(&["ec2", "eni", member, "--source-dest-check", "off"]);
    }
    for table in TABLES {
        vpc.ok(&["ec2", "set-route", "--table", table, "--eni", "eni-0a"]);
    }
}

fn start_all(hosts: &[Booted]) {
    hosts[0].ok(&["systemctl", "enable", "--now", "vipd"]);
    // At once: it is alone so far, and says what it waits for. All of its own is well.
    until("doctor says who is missing", BOUND, || {
        let output = hosts[0].run(&["vipctl", "-o", "json", "doctor"]);
        let page: Value = serde_json::from_slice(&output.stdout).map_err(|_| text(&output.stderr))?;
        let failing = fails(&page);
        let named =
            |f: &&Value| f["finding"].as_str().unwrap().contains("az-b (10.0.2.10:7400) does not answer");
        holds(output.status.code() == Some(1) && failing.len() == 1 && failing.iter().all(named), || {
            page.to_string()
        })
    });
    for host in &hosts[1..] {
        host.ok(&["systemctl", "enable", "--now", "vipd"]);
    }
}

/// A connection that was open across a swap may be reset, and one immediate retry succeeds; nothing else may fail.
fn assert_served(vpc: &Vpc, requests: &[Request]) {
    let calls = vpc.json(&["calls"]);
    let swaps =
        calls.as_array().unwrap().iter().filter(|c| c["action"] == "ReplaceRoute" && c["dry_run"] != true);
    // The client's own table, between the call and the moment that EC2 notes when it has done it.
    let swaps: Vec<(u64, u64)> = swaps
        .filter(|c| c["table"] == "rtb-0a")
        .filter_map(|c| Some((c["received_boot_ns"].as_u64()?, c["executed_boot_ns"].as_u64()?)))
        .collect();
    assert!(!swaps.is_empty(), "{calls}");
    let straddles = |r: &Request| swaps.iter().any(|(from, to)| r.from_ns <= *to && *from <= r.to_ns);
    let is_served = |r: &Request| match (&r.answer, &r.retry) {
        (Ok(_), _) => true,
        (Err(Failed::Reset), Some(Ok(_))) => straddles(r),
        (Err(_), _) => false,
    };
    let failed: Vec<_> = requests.iter().filter(|r| !is_served(r)).collect();
    let words: Vec<_> = failed.iter().map(|r| (r.from_ns, &r.answer, &r.retry)).collect();
    assert!(requests.len() > 100 && failed.is_empty(), "of {}: {words:?}; swaps {swaps:?}", requests.len());
}

fn served_by(member: &str) {
    until(&format!("the client is served by {member}"), BOUND, || {
        let answer = asks().map_err(|error| format!("{error:?}"))?;
        holds(answer == ip(member), || answer)
    });
}

#[test]
fn a_new_user_comes_to_a_group_of_three_that_serves() {
    let vpc = Vpc::up();
    prepare_aws(&vpc);
    let mut hosts: Vec<_> = std::thread::scope(|scope| {
        let vpc = &vpc;
        let boot = |member| scope.spawn(move || vpc.host(member));
        MEMBERS.map(boot).into_iter().map(|host| host.join().unwrap()).collect()
    });
    let admin = Admin::new(&vpc);
    admin.ok(&["certs", "init", "--cluster", "edge", "--dir", "pki"]);
    for member in MEMBERS {
        admin.ok(&["certs", "issue", "member", member, "--dir", "pki"]);
    }
    admin.ok(&["certs", "issue", "operator", "alice", "--dir", "pki"]);

    let (app_over, client_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let listener = vpc.on_client(|| TcpListener::bind(APPLICATION).unwrap());
    listener.set_nonblocking(true).unwrap();
    std::thread::scope(|scope| {
        let _ends = Ends([&app_over, &client_over]);
        scope.spawn(|| application(&listener, &app_over));
        for (host, member) in hosts.iter().zip(MEMBERS) {
            install(&admin, host, member);
        }
        key_is_the_units(&hosts[0]);
        start_all(&hosts);
        let first = is_well(&vpc, &admin);
        vpc.on_client(|| served_by(&first));

        let mut second = String::new();
        // An operator moves it over the network, while the client goes on.
        let seen = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let _ends = Ends([&client_over, &client_over]);
            scope.spawn(|| vpc.on_client(|| client(&client_over, &seen)));
            goes_on(&seen, &first);
            second = transfer(&vpc, &admin, &first);
            goes_on(&seen, &second);
        });
        assert_served(&vpc, &seen.into_inner().unwrap());

        let place = |member: &str| MEMBERS.iter().position(|m| *m == member).unwrap();
        renew(&admin, &hosts[place(&second)], &second);
        // The unit stops, hands over first, and comes back.
        hosts[place(&second)].ok(&["systemctl", "stop", "vipd"]);
        let third = owned_by_another(&vpc, &admin, &second, "switchover");
        hosts[place(&second)].ok(&["systemctl", "start", "vipd"]);
        assert_eq!(is_well(&vpc, &admin), third);
        // The owner's host loses its power.
        drop(hosts.remove(place(&third)));
        owned_by_another(&vpc, &admin, &third, "failover");
    });
}

/// Both flags are up when this goes, so that a test that failed does not wait for its own threads.
struct Ends<'a>([&'a AtomicBool; 2]);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|over| over.store(true, Ordering::Relaxed));
    }
}

/// Waits until another member than `old` owns by such a move, has the routes and serves the client; its name.
fn owned_by_another(vpc: &Vpc, admin: &Admin<'_>, old: &str, kind: &str) -> String {
    let ask = MEMBERS.into_iter().find(|m| *m != old).unwrap();
    let owner = until("another host owns", BOUND + BOUND, || {
        let status = admin.asks(ask, &["status"]).1;
        let moved = &status["last_move"];
        let owner = status["owner"].as_str().unwrap_or_default().to_owned();
        let all = moved["from"] == old && moved["to"] == owner.as_str() && moved["kind"] == kind;
        holds(all, || status.to_string())?;
        vpc.routes_are_on(&owner).map(|()| owner)
    });
    vpc.on_client(|| served_by(&owner));
    owner
}

/// Steady, every route on the owner, and no check of doctor fails; the owner.
fn is_well(vpc: &Vpc, admin: &Admin<'_>) -> String {
    let owner = until("the group is steady", BOUND + BOUND, || {
        let (code, status) = admin.asks("az-b", &["status"]);
        let well = code == Some(0) && status["state"] == "steady";
        holds(well, || status.to_string()).map(|()| status["owner"].as_str().unwrap().to_owned())
    });
    vpc.routes_are_on(&owner).unwrap();
    let (code, routes) = admin.asks("az-c", &["routes"]);
    let in_sync = |r: &Value| r["in_sync"] == true && r["target"] == format!("eni-0{}", letter(&owner));
    assert!(code == Some(0) && routes[0]["routes"].as_array().unwrap().iter().all(in_sync), "{routes}");
    // The roles' permissions are asked for one table a minute and not near a move; here doctor asks for all.
    let page = until("doctor knows of every table", BOUND * 4, || {
        let (code, page) = admin.asks("az-c", &["doctor"]);
        let open = |f: &Value| f["check"] == "permission" && f["level"] != "ok";
        let known = !page["findings"].as_array().unwrap().iter().any(open);
        holds(code == Some(0) && known, || page.to_string()).map(|()| page)
    });
    assert_eq!((fails(&page), &page["verdict"] == "fail"), (vec![], false));
    owner
}

fn transfer(vpc: &Vpc, admin: &Admin<'_>, first: &str) -> String {
    let second = MEMBERS.into_iter().find(|m| *m != first).unwrap();
    // Asked of neither: it is forwarded.
    let ask = MEMBERS.into_iter().find(|m| *m != first && *m != second).unwrap();
    let (code, moved) = admin.asks(ask, &["transfer-leader", "--to", second]);
    assert_eq!((code, &moved["kind"]), (Some(0), &"switchover".into()), "{moved}");
    assert_eq!((&moved["from"], &moved["to"]), (&first.into(), &second.into()), "{moved}");
    vpc.routes_are_on(second).unwrap();
    second.to_owned()
}
