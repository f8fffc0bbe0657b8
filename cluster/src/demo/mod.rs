//! `demo`: a lab, traffic, three faults, and after each what the client saw.

mod paint;
mod view;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock::boot_ns;
use crate::control::{Request, Target, ask};
use crate::lifecycle;
use crate::load::{self, Plan, Report, Samples};
use crate::spec::Spec;
use crate::topology::{Part, Way};
use paint::Paint;
use view::{Move, Status, Vipctl};

/// A new connection every so often.
const EVERY: Duration = Duration::from_millis(5);
/// Longer than the demo may last.
const WHOLE: Duration = Duration::from_secs(110);
/// What a step may wait for: a failover takes a fraction of a second, a member that returns some seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// Traffic before and after each fault; a connect that hangs is known after half a second.
const QUIET: Duration = Duration::from_millis(1500);
/// An outage that is longer has not come from the timings, whatever the machine.
const LONGEST_OUTAGE_MS: f64 = 3_000.0;
/// Exit code after SIGINT, as shells have it.
const INTERRUPTED: i32 = 130;

/// Runs the whole; `Ok(false)`: a step did not do what it should. The lab is taken down in any case.
pub fn run(spec: &Spec, program: &Path) -> anyhow::Result<bool> {
    let interrupted = Interrupted::default();
    interrupted.watch(spec);
    let paint = Paint::for_stdout();
    let result = Demo::start(spec, program, paint, &interrupted).and_then(|demo| demo.play());
    interrupted.leave_to_it();
    let errors = lifecycle::down(&spec.name, &spec.dir);
    for error in &errors {
        eprintln!("vip-lab: {error:#}");
    }
    let good = result?;
    println!("{}", paint.dim("The lab is taken down; its logs are in"));
    println!("{}", paint.dim(&spec.dir.display().to_string()));
    Ok(good && errors.is_empty())
}

/// A signal takes the lab down, once it is wholly up, and ends the process.
#[derive(Clone, Default)]
struct Interrupted {
    came: Arc<AtomicBool>,
    /// Held while the lab comes up: half a lab cannot be taken down.
    coming_up: Arc<Mutex<()>>,
}

impl Interrupted {
    /// On a thread of its own, since the demo's may be waiting for a process.
    fn watch(&self, spec: &Spec) {
        let (name, dir, this) = (spec.name.clone(), spec.dir.clone(), self.clone());
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            let caught = runtime.block_on(async {
                let (mut interrupt, mut end) =
                    (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
                let mut hangup = signal(SignalKind::hangup())?;
                tokio::select! { _ = interrupt.recv() => {}, _ = end.recv() => {}, _ = hangup.recv() => {} }
                Ok::<_, std::io::Error>(())
            });
            if caught.is_ok() {
                this.came.store(true, Ordering::SeqCst);
                eprintln!("\ninterrupted; taking the lab down");
                let _guard = this.coming_up.lock();
                for error in lifecycle::down(&name, &dir) {
                    eprintln!("vip-lab: {error:#}");
                }
                std::process::exit(INTERRUPTED);
            }
        });
    }

    /// After a signal the demo's own thread fails, since its lab goes: it has nothing more to say.
    fn leave_to_it(&self) {
        while self.came.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

/// A running lab with traffic.
struct Demo<'a> {
    spec: &'a Spec,
    paint: Paint,
    vipctl: Vipctl,
    plan: Plan,
    samples: Samples,
    /// The load ends when this goes.
    _stop: watch::Sender<bool>,
    begun: Instant,
    rows: Vec<Row>,
}

/// A line of the summary.
struct Row {
    what: String,
    move_: String,
    outage_ms: Option<f64>,
    failed: usize,
    requests: usize,
    wrong: Vec<String>,
}

/// What may fail in a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// An outage, but a bounded one.
    ShortOutage,
    /// No new connection; one that is open may break if an immediate second try succeeds.
    NoFailedConnection,
}

impl<'a> Demo<'a> {
    fn start(
        spec: &'a Spec,
        program: &Path,
        paint: Paint,
        interrupted: &Interrupted,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let vipctl = Vipctl::new(spec);
        if !vipctl.program.exists() {
            bail!("{} is not there; build it (cargo build --workspace)", vipctl.program.display());
        }
        println!(
            "{}",
            paint.bold("Three zones, one VIP: a new connection every 5 ms, and then things break.")
        );
        println!();
        let coming_up = interrupted.coming_up.lock();
        lifecycle::up(spec, program)?;
        drop(coming_up);
        let plan = Plan::new(spec, EVERY, WHOLE)?;
        let (stop, stopped) = watch::channel(false);
        let samples = Samples::default();
        let demo = Self { spec, paint, vipctl, plan, samples, _stop: stop, begun, rows: Vec::new() };
        let first = demo.wait("a first owner", |status| status.owner.is_some() && status.settled())?;
        for zone in &spec.zones {
            demo.line("zone", &format!("{}  {}  {}  {}", zone.zone, zone.member, zone.ip, zone.eni));
        }
        demo.line("owner", &demo.ownership(&first));
        let (ns, plan, samples) = (spec.namespace("client")?, demo.plan.clone(), demo.samples.clone());
        std::thread::spawn(move || {
            if let Err(error) = load::run(&ns, &plan, &samples, None, stopped) {
                eprintln!("load: {error:#}");
            }
        });
        demo.line("up", &format!("in {:.1} s", demo.begun.elapsed().as_secs_f64()));
        Ok(demo)
    }

    fn play(mut self) -> anyhow::Result<bool> {
        let since = boot_ns();
        std::thread::sleep(QUIET);
        let owner = self.owner()?;
        self.title(1, "the client asks the VIP");
        self.calm(since, "steady", &owner)?;

        self.title(2, &format!("kill -9 of {owner}'s vipd and HAProxy"));
        let since = boot_ns();
        self.ask(&Request::Kill(self.whom(&owner)))?;
        let new = self.failover(since, "owner killed", &owner)?;
        self.come_back(&owner, &new, "starts again", &Request::Start(self.whom(&owner)))?;

        let owner = new;
        self.title(3, &format!("{owner}'s zone is cut off from the members, EC2 and the client"));
        let since = boot_ns();
        let parts = vec![Part::Members, Part::Ec2, Part::Imds, Part::Client];
        self.ask(&Request::Cut {
            member: owner.clone(),
            parts,
            ways: vec![Way::In, Way::Out],
            percent: 100,
        })?;
        let new = self.failover(since, "zone cut off", &owner)?;
        self.come_back(&owner, &new, "is connected again", &Request::Heal { member: owner.clone() })?;

        let owner = new;
        self.title(4, &format!("vipctl transfer-leader, while {owner} owns the VIP"));
        self.transfer(&owner)?;
        Ok(self.summary())
    }

    fn transfer(&mut self, owner: &str) -> anyhow::Result<()> {
        let since = boot_ns();
        let printed = self.vipctl.json(&["transfer-leader", "--wait", "10s"])?;
        let made = Move::read(&printed).context("vipctl transfer-leader printed no move")?;
        let to = made.to.clone();
        let status = self.wait("the new owner", |status| {
            status.owner.as_deref() == Some(to.as_str()) && status.settled()
        })?;
        std::thread::sleep(QUIET);
        self.account(since, "leader transferred", owner, &status, Some(&made), Expect::NoFailedConnection)
    }

    /// Waits for another owner and tells what the move cost.
    fn failover(&mut self, since: u64, what: &str, old: &str) -> anyhow::Result<String> {
        let status = self.wait("a new owner", |status| {
            status.owner.as_deref().is_some_and(|owner| owner != old)
                && status.moved_here()
                && status.routes_agree()
        })?;
        std::thread::sleep(QUIET);
        let last = status.last_move.clone();
        self.account(since, what, old, &status, last.as_ref(), Expect::ShortOutage)?;
        status.owner.context("the new owner is gone again")
    }

    /// A member that returns must change nothing.
    fn come_back(&mut self, member: &str, owner: &str, how: &str, request: &Request) -> anyhow::Result<()> {
        let since = boot_ns();
        self.ask(request)?;
        self.wait(&format!("{member} to be back"), |status| status.state == "steady")?;
        std::thread::sleep(QUIET);
        self.line("back", &format!("{member} {how}"));
        self.calm(since, &format!("{member} {how}"), owner)
    }

    /// Nothing was to happen: no failed request, the same owner.
    fn calm(&mut self, since: u64, what: &str, owner: &str) -> anyhow::Result<()> {
        let report = self.report(since);
        let mut wrong = Vec::new();
        if report.failed > 0 {
            wrong.push(format!(
                "{} of {} requests failed ({})",
                report.failed,
                report.requests,
                report.kinds()
            ));
        }
        if report.ok == 0 {
            wrong.push("no request was answered".into());
        }
        if report.owners.iter().any(|o| o.member != owner) {
            wrong.push(format!("others than {owner} answered"));
        }
        self.line("client", &self.client(&report, Expect::NoFailedConnection));
        self.finish(what, format!("stays at {owner}"), &report, wrong);
        Ok(())
    }

    fn account(
        &mut self,
        since: u64,
        what: &str,
        old: &str,
        status: &Status,
        made: Option<&Move>,
        expect: Expect,
    ) -> anyhow::Result<()> {
        let report = self.report(since);
        let owner = status.owner.clone().unwrap_or_default();
        let mut wrong = Vec::new();
        if owner == old {
            wrong.push(format!("{old} owns the VIP still"));
        }
        if report.owners.last().map(|o| o.member.as_str()) != Some(owner.as_str()) {
            wrong.push(format!("the client is not served by {owner}"));
        }
        let astray = self.astray(&owner)?;
        if !astray.is_empty() {
            wrong.push(format!("not on {owner}: {}", astray.join(", ")));
        }
        match expect {
            Expect::ShortOutage if report.outage_ms > LONGEST_OUTAGE_MS => {
                wrong.push(format!("the outage took {:.0} ms", report.outage_ms))
            }
            Expect::ShortOutage => {}
            Expect::NoFailedConnection => {
                let new_failed = report.failed.saturating_sub(report.retried_ok);
                if new_failed > 0 {
                    wrong.push(format!("{new_failed} connections failed ({})", report.kinds()));
                }
            }
        }
        self.line("client", &self.client(&report, expect));
        self.line("owner", &self.ownership(status));
        match self.fenced(since)? {
            Ok(text) => self.line("EC2", &text),
            Err(text) => wrong.push(text),
        }
        match made {
            Some(made) => {
                let reason =
                    if made.reason.is_empty() { String::new() } else { format!(", {}", made.reason) };
                self.line("move", &format!("{}{reason}", made.kind));
                for line in self.paint.waterfall(&made.phases) {
                    println!("{line}");
                }
            }
            None => wrong.push("no move is recorded".into()),
        }
        self.finish(what, format!("{old} -> {owner}"), &report, wrong);
        Ok(())
    }

    /// The swaps since then: their terms must never fall in the order in which EC2 executed them.
    fn fenced(&self, since: u64) -> anyhow::Result<Result<String, String>> {
        let calls = self.ask(&Request::Calls { since_ns: since })?;
        let mut swaps: Vec<_> = calls.as_array().into_iter().flatten().filter_map(view::swap).collect();
        swaps.sort_by_key(|(executed, _)| *executed);
        let terms: Vec<u64> = swaps.iter().map(|(_, term)| *term).collect();
        if !terms.is_sorted() {
            return Ok(Err(format!("a swap of an older term came after one of a newer: {terms:?}")));
        }
        let different: BTreeSet<_> = terms.iter().map(u64::to_string).collect();
        let under = different.into_iter().collect::<Vec<_>>().join(", ");
        Ok(Ok(format!("{} routes swapped, under term {under}", terms.len())))
    }

    /// Tables whose VIP routes are elsewhere.
    fn astray(&self, owner: &str) -> anyhow::Result<Vec<String>> {
        let routes = self.ask(&Request::Routes)?;
        let list = routes.as_array().cloned().unwrap_or_default();
        if list.len() < self.spec.tables.len() {
            bail!("only {} routes are there", list.len());
        }
        let elsewhere = list.iter().filter(|route| view::text(route, "member") != owner);
        Ok(elsewhere.map(|route| view::text(route, "table").to_owned()).collect())
    }

    fn client(&self, report: &Report, expect: Expect) -> String {
        if report.failed == 0 {
            return format!(
                "none of {} requests failed; the slowest took {:.1} ms",
                report.requests, report.slowest_ok_ms
            );
        }
        let open = match report.open_connections_broken {
            0 => String::new(),
            broken => format!(
                "; {broken} open ones broke, {} of them answered at once on a second try",
                report.retried_ok
            ),
        };
        let outage = match expect {
            Expect::ShortOutage => {
                format!("outage {}, ", self.paint.bold(&format!("{:.0} ms", report.outage_ms)))
            }
            Expect::NoFailedConnection => String::new(),
        };
        format!("{outage}{} of {} requests failed: {}{open}", report.failed, report.requests, report.kinds())
    }

    fn ownership(&self, status: &Status) -> String {
        let owner = status.owner.as_deref().unwrap_or("nobody");
        let eni = self.spec.zone(owner).map_or("-", |zone| &zone.eni);
        let tables: Vec<_> = self.spec.tables.iter().map(|t| t.id.as_str()).collect();
        format!("{} since term {}: {} -> {eni}", self.paint.bold(owner), status.term, tables.join(" "))
    }

    fn finish(&mut self, what: &str, move_: String, report: &Report, wrong: Vec<String>) {
        if wrong.is_empty() {
            println!("  {}", self.paint.good("as it should"));
        }
        for text in &wrong {
            println!("  {}", self.paint.bad(&format!("not as it should: {text}")));
        }
        let outage_ms = (report.failed > 0).then_some(report.outage_ms);
        self.rows.push(Row {
            what: what.into(),
            move_,
            outage_ms,
            failed: report.failed,
            requests: report.requests,
            wrong,
        });
    }

    /// Prints the table; true where nothing went wrong.
    fn summary(&self) -> bool {
        println!();
        println!("{}", self.paint.bold("What the client saw"));
        println!("  {:<26}{:<20}{:>10}{:>20}", "", "owner", "outage", "failed requests");
        for row in &self.rows {
            let outage = row.outage_ms.map_or_else(|| "none".into(), |ms| format!("{ms:.0} ms"));
            let failed = format!("{} of {}", row.failed, row.requests);
            let line = format!("  {:<26}{:<20}{outage:>10}{failed:>20}", row.what, row.move_);
            println!("{}", if row.wrong.is_empty() { line } else { self.paint.bad(&line) });
        }
        println!();
        let good = self.rows.iter().all(|row| row.wrong.is_empty());
        let seconds = self.begun.elapsed().as_secs_f64();
        match good {
            true => {
                println!("{}", self.paint.good(&format!("Every step did what it should, in {seconds:.0} s.")))
            }
            false => println!("{}", self.paint.bad("Not every step did what it should.")),
        }
        good
    }

    fn report(&self, since: u64) -> Report {
        let all: Vec<_> = self.samples.all().into_iter().filter(|s| s.start_ns >= since).collect();
        Report::new(&self.plan, &all)
    }

    /// Asks until the group's status is as wanted.
    fn wait(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> anyhow::Result<Status> {
        let begun = Instant::now();
        let mut last: anyhow::Result<Status>;
        loop {
            last = self.vipctl.json(&["status"]).map(|value| Status::read(&value));
            match last {
                Ok(status) if wanted(&status) => return Ok(status),
                Ok(_) | Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
                Ok(status) => bail!("waited {} s for {what}; the group says: {status}", PATIENCE.as_secs()),
                Err(error) => {
                    return Err(error.context(format!("waited {} s for {what}", PATIENCE.as_secs())));
                }
            }
        }
    }

    fn owner(&self) -> anyhow::Result<String> {
        Status::read(&self.vipctl.json(&["status"])?).owner.context("nobody owns the VIP")
    }

    fn whom(&self, member: &str) -> Target {
        Target { member: member.into(), only: None }
    }

    fn ask(&self, request: &Request) -> anyhow::Result<Value> {
        ask(&self.spec.dir, request)
    }

    fn title(&self, number: u8, text: &str) {
        println!();
        println!("{}", self.paint.bold(&format!("{number} {text}")));
    }

    fn line(&self, label: &str, text: &str) {
        println!("  {}{text}", self.paint.dim(&format!("{label:<9}")));
    }
}
