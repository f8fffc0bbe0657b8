//! The checks against a real HAProxy, and against servers that are none.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::time::timeout;
use vipd::config::{Config, HealthConfig, InForce};
use vipd::health::{follow, spawn};
use vipd::model::Health;

const BOUND: Duration = Duration::from_secs(10);
/// So long that within the bound no second probe comes by itself.
const NEVER: Duration = Duration::from_secs(600);

type Shown = watch::Receiver<Health>;

/// An HAProxy with its runtime socket and one HTTP frontend, in a directory of its own.
struct Haproxy {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    flags: &'static [&'static str],
}

impl Haproxy {
    fn start(flags: &'static [&'static str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut haproxy = Self { dir: tempfile::tempdir().unwrap(), port, child: None, flags };
        let config = format!(
            "global\n  stats socket {} mode 600 level user\ndefaults\n  mode http\n  timeout client 5s\n  \
             timeout server 5s\n  timeout connect 1s\nfrontend f\n  bind 127.0.0.1:{port}\n  \
             http-request return status 200 if {{ path /healthz }}\n  http-request return status 503\n",
            haproxy.socket().display()
        );
        std::fs::write(haproxy.dir.path().join("haproxy.cfg"), config).unwrap();
        haproxy.run();
        haproxy
    }

    fn run(&mut self) {
        let child = Command::new("haproxy")
            .args(self.flags)
            .args(["-db", "-f"])
            .arg(self.dir.path().join("haproxy.cfg"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.dir.path().join("log")).unwrap())
            .spawn()
            .expect("these tests need haproxy");
        self.child = Some(child);
        until("haproxy answers", || self.worker().is_some());
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// So that a master ends its workers too.
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            child.wait().unwrap();
        }
    }

    /// The pid of the process that answers on the runtime socket.
    fn worker(&self) -> Option<String> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.write_all(b"show info\n").ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said.lines().find_map(|line| line.strip_prefix("Pid: "))?.to_owned())
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
        if self.flags.is_empty() { self.kill() } else { self.end() }
    }
}

/// Waits for what has no watch to wait on.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < BOUND, "not within {BOUND:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn config(socket: Option<&Path>, http: Option<String>) -> HealthConfig {
    HealthConfig {
        haproxy_socket: socket.map(Path::to_owned),
        http,
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(500),
        fall: 2,
        rise: 2,
    }
}

/// Waits for a verdict and returns its reason.
async fn becomes(shown: &mut Shown, what: &str, is: impl Fn(&Health) -> bool) -> String {
    let seen = timeout(BOUND, shown.wait_for(|health| is(health))).await.map(|seen| seen.unwrap().clone());
    match seen {
        Ok(Health::Unhealthy(why) | Health::Unknown(why)) => why,
        Ok(Health::Healthy | Health::NotChecked) => String::new(),
        Err(_) => panic!("wanted {what}, shown {:?}", *shown.borrow()),
    }
}

async fn healthy(shown: &mut Shown) {
    becomes(shown, "healthy", |health| *health == Health::Healthy).await;
}

async fn unhealthy(shown: &mut Shown) -> String {
    becomes(shown, "unhealthy", Health::is_unhealthy).await
}

/// Waits for an Unknown that comes from a probe.
async fn unknown(shown: &mut Shown) -> String {
    becomes(shown, "unknown", |health| matches!(health, Health::Unknown(why) if why != "not checked yet"))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_check_nothing_is_checked() {
    let mut shown = spawn(&config(None, None));
    assert_eq!(*shown.borrow_and_update(), Health::NotChecked);
    // Nor does it look changed to one who waits.
    assert!(timeout(Duration::from_millis(50), shown.changed()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_79_a_killed_haproxy_is_unhealthy_at_once_and_healthy_when_it_is_back() {
    let mut haproxy = Haproxy::start(&[]);
    // Only the closed connection can tell: the next probe is ten minutes away.
    let patient = HealthConfig { interval: NEVER, ..config(Some(&haproxy.socket()), None) };
    let mut shown = spawn(&patient);
    healthy(&mut shown).await;
    let mut brisk = spawn(&config(Some(&haproxy.socket()), Some(haproxy.url("/healthz"))));
    healthy(&mut brisk).await;
    let killed = Instant::now();
    haproxy.kill();
    let why = unhealthy(&mut shown).await;
    eprintln!("kill -9 to unhealthy: {} ms: {why}", killed.elapsed().as_millis());
    assert!(why.contains("runtime socket") && why.contains("closed, and connecting again failed"), "{why}");
    unhealthy(&mut brisk).await;
    haproxy.run();
    healthy(&mut brisk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_80_a_frozen_haproxy_is_found_by_each_check() {
    let haproxy = Haproxy::start(&[]);
    let checks = [
        ("runtime socket", config(Some(&haproxy.socket()), None)),
        ("http check", config(None, Some(haproxy.url("/healthz")))),
    ];
    for (check, config) in checks {
        let mut shown = spawn(&config);
        healthy(&mut shown).await;
        haproxy.signal(Signal::STOP);
        let frozen = Instant::now();
        let why = unhealthy(&mut shown).await;
        eprintln!("{check}: frozen to unhealthy: {} ms: {why}", frozen.elapsed().as_millis());
        assert!(why.contains(check) && why.contains("no answer within 500 ms"), "{why}");
        haproxy.signal(Signal::CONT);
        healthy(&mut shown).await;
    }
}

/// For what this machine adds by itself; less than what is told apart.
const SLACK: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_80_a_frozen_haproxy_is_found_within_an_interval_and_fall_timeouts() {
    let haproxy = Haproxy::start(&[]);
    let (interval, timeout, fall) = (Duration::from_secs(2), Duration::from_millis(200), 4);
    let seldom = |config| HealthConfig { interval, timeout, fall, ..config };
    for config in
        [config(Some(&haproxy.socket()), None), config(None, Some(haproxy.url("/healthz")))].map(seldom)
    {
        let mut shown = spawn(&config);
        // As late as can be: the next probe comes a whole interval after the one that passed.
        healthy(&mut shown).await;
        haproxy.signal(Signal::STOP);
        let frozen = Instant::now();
        let why = unhealthy(&mut shown).await;
        let took = frozen.elapsed();
        eprintln!("frozen to unhealthy: {} ms: {why}", took.as_millis());
        assert!(why.contains("no answer within 200 ms"), "{why}");
        // With one probe an interval it would be 6.2 s at least.
        assert!(took <= interval + timeout * fall + SLACK, "{took:?}");
        haproxy.signal(Signal::CONT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_82_reloads_move_nothing_and_no_old_process_is_kept() {
    let haproxy = Haproxy::start(&["-W"]);
    let mut shown = spawn(&HealthConfig {
        // Slow machines answer late; that is not what is tested.
        timeout: Duration::from_secs(5),
        ..config(Some(&haproxy.socket()), Some(haproxy.url("/healthz")))
    });
    healthy(&mut shown).await;
    let mut all = shown.clone();
    let history = Arc::new(Mutex::new(Vec::new()));
    let book = history.clone();
    tokio::spawn(async move {
        while all.changed().await.is_ok() {
            book.lock().unwrap().push(all.borrow_and_update().clone());
        }
    });
    for _ in 0..5 {
        let before = haproxy.worker().unwrap();
        let gone = format!("/proc/{before}");
        let mut asked = None;
        until("a new worker answers", || {
            // A master that is still starting loses the signal.
            if asked.is_none_or(|at: Instant| at.elapsed() > Duration::from_secs(2)) {
                haproxy.signal(Signal::USR2);
                asked = Some(Instant::now());
            }
            haproxy.worker().is_some_and(|now| now != before)
        });
        until("the old worker ends, no check holds it", || !Path::new(&gone).exists());
    }
    assert_eq!(*shown.borrow(), Health::Healthy);
    assert_eq!(*history.lock().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_haproxy_that_stops_softly_is_unhealthy_though_it_still_answers_old_connections() {
    let haproxy = Haproxy::start(&[]);
    let mut shown = spawn(&config(Some(&haproxy.socket()), None));
    healthy(&mut shown).await;
    // Keeps the process from ending.
    let mut open = std::net::TcpStream::connect(("127.0.0.1", haproxy.port)).unwrap();
    open.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    haproxy.signal(Signal::USR1);
    unhealthy(&mut shown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_81_a_socket_that_is_absent_or_no_socket_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [dir.path().join("absent.sock"), file.clone(), dir.path().to_owned(), file.join("below")] {
        let mut shown = spawn(&config(Some(&path), None));
        let why = unknown(&mut shown).await;
        assert!(why.contains(&path.display().to_string()) && why.contains("connecting failed"), "{why}");
    }
}

/// Serves each connection to `path` with `serve`, which gets it after the first question was read.
fn imposter(path: &Path, serve: fn(UnixStream)) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 512]);
                serve(stream);
            });
        }
    });
}

fn keep_open(mut stream: UnixStream) {
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_81_one_who_talks_garbage_is_unknown() {
    let imposters: [(&str, fn(UnixStream)); 5] = [
        ("binary", |mut stream| {
            let _ = stream.write_all(&[0xff, 0xfe, 0, 0x80]);
            keep_open(stream);
        }),
        ("other", |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }),
        ("other-cli", |mut stream| {
            let _ = stream.write_all(b"\n> Unknown command.\n\n> ");
            keep_open(stream);
        }),
        ("flood", |mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {}),
        ("endless", |mut stream| {
            let _ = stream.write_all(b"Name: ");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        }),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (name, serve) in imposters {
        let path = dir.path().join(name);
        imposter(&path, serve);
        let mut shown = spawn(&config(Some(&path), None));
        let why = unknown(&mut shown).await;
        assert!(why.contains("not HAProxy"), "{name}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_81_garbage_after_life_is_unknown_and_another_check_speaks() {
    let mut haproxy = Haproxy::start(&[]);
    let both = config(Some(&haproxy.socket()), Some(haproxy.url("/healthz")));
    let mut socket = spawn(&config(Some(&haproxy.socket()), None));
    let mut shown = spawn(&both);
    healthy(&mut socket).await;
    healthy(&mut shown).await;
    haproxy.kill();
    unhealthy(&mut socket).await;
    std::fs::remove_file(haproxy.socket()).unwrap();
    imposter(&haproxy.socket(), |mut stream| {
        let _ = stream.write_all(b"?\n\n");
        keep_open(stream);
    });
    unknown(&mut socket).await;
    let why = unhealthy(&mut shown).await;
    becomes(
        &mut shown,
        "unhealthy by HTTP alone",
        |health| matches!(health, Health::Unhealthy(why) if why.starts_with("http check")),
    )
    .await;
    assert!(why.contains("check") || why.contains("socket"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_socket_is_no_word_where_http_speaks() {
    let haproxy = Haproxy::start(&[]);
    let absent = haproxy.dir.path().join("absent.sock");
    healthy(&mut spawn(&config(Some(&absent), Some(haproxy.url("/healthz"))))).await;
    let why = unhealthy(&mut spawn(&config(Some(&absent), Some(haproxy.url("/other"))))).await;
    assert_eq!(why, format!("http check {}: answers 503", haproxy.url("/other")));
}

/// Answers each connection to a new port with `answer`, then closes it if `then` says so.
fn http_server(answer: &'static [u8], then: Option<Shutdown>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
            if let Some(how) = then {
                let _ = stream.shutdown(how);
            }
            open.push(stream);
        }
    });
    format!("http://127.0.0.1:{port}/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_passes_by_its_status_alone() {
    for answer in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\nx".as_slice(),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 399 x\r\ncontent-length: 0\r\n\r\n",
    ] {
        for then in [None, Some(Shutdown::Both)] {
            healthy(&mut spawn(&config(None, Some(http_server(answer, then))))).await;
        }
    }
    let long: &'static [u8] =
        Box::leak([b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; 100_000]].concat().into_boxed_slice());
    for (answer, then, words) in [
        (b"HTTP/1.1 400 Bad\r\n\r\n".as_slice(), None, "answers 400"),
        (b"HTTP/1.1 503 No\r\n\r\n", None, "answers 503"),
        (b"", None, "no answer within 500 ms"),
        (b"", Some(Shutdown::Both), "no HTTP answer"),
        (b"HTTP/1.1 200", Some(Shutdown::Both), "no HTTP answer"),
        (b"\xff\xfe\r\n\r\n", None, "no HTTP answer"),
        (long, None, "no HTTP answer"),
    ] {
        let why = unhealthy(&mut spawn(&config(None, Some(http_server(answer, then))))).await;
        assert!(why.starts_with("http check http://127.0.0.1") && why.contains(words), "{why}");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let why = unhealthy(&mut spawn(&config(None, Some(format!("http://127.0.0.1:{port}/"))))).await;
    assert!(why.contains("connecting failed"), "{why}");
}

/// A configuration with these checks.
fn in_force(health: HealthConfig) -> InForce {
    const TEXT: &str = "cluster = \"edge\"\nmember = \"az-a\"\npeer.listen = \"10.0.1.10:7400\"\n\
        vip.addresses = [\"192.168.77.10/32\"]\naws.route_tables = [\"rtb-0a\"]\ntls.insecure = true\n\
        [[members]]\nname = \"az-a\"\npeer = \"10.0.1.10:7400\"\n";
    let config = Config::parse(TEXT.as_bytes(), "test", None).unwrap();
    InForce::new(Arc::new(Config { health, ..config }))
}

/// Every verdict that is shown, as it comes.
async fn shows(shown: &mut Shown, wanted: impl Fn(&Health) -> bool) -> Vec<Health> {
    let mut all = Vec::new();
    let until = async {
        loop {
            let health = shown.borrow_and_update().clone();
            all.push(health.clone());
            if wanted(&health) {
                return;
            }
            shown.changed().await.unwrap();
        }
    };
    assert!(timeout(BOUND, until).await.is_ok(), "{all:?}");
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_that_a_reload_brings_take_over_with_their_first_verdict() {
    let haproxy = Haproxy::start(&[]);
    let by_socket = config(Some(&haproxy.socket()), None);
    let (tx, rx) = watch::channel(in_force(by_socket.clone()));
    let mut shown = follow(rx);
    healthy(&mut shown).await;
    // Another check that passes: never unknown in between.
    tx.send_replace(in_force(config(None, Some(haproxy.url("/healthz")))));
    assert!(timeout(Duration::from_millis(500), shown.changed()).await.is_err(), "{:?}", *shown.borrow());
    // One that fails, with its verdict; and it is that one which is run.
    tx.send_replace(in_force(config(None, Some(haproxy.url("/other")))));
    let seen = shows(&mut shown, Health::is_unhealthy).await;
    assert!(seen.iter().all(|h| *h == Health::Healthy || h.is_unhealthy()), "{seen:?}");
    // None at all; and back.
    tx.send_replace(in_force(config(None, None)));
    becomes(&mut shown, "not checked", |health| *health == Health::NotChecked).await;
    tx.send_replace(in_force(by_socket));
    healthy(&mut shown).await;
    // They end with whoever reads.
    drop(shown);
    timeout(BOUND, tx.closed()).await.unwrap();
}
