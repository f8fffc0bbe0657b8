//! How long clients are without an answer, fault by fault: vipd, and keepalived with the AWS CLI beside it, in one run.
//!
//! `cargo bench --workspace --bench failover -- [short|full|idle] [--runs N] [--out DIR]`, as root.
//!
//! ```text
//!   plan: what is measured      bed: the lab             run: one fault, the client's view
//!   vipd, keepalived: daemons   idle: the cost at rest   tables, plot: what is written
//!                               yardstick: of calls alone
//! ```
//!
//! It asserts nothing about time. `short` shows within a quarter of an hour that all of it works; figures to be
//! published come from `full`, on a machine that does nothing else.

mod bed;
mod daemons;
mod idle;
mod keepalived;
mod machine;
mod plan;
mod plot;
mod results;
mod run;
mod tables;
mod vipd;
mod yardstick;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use vip_lab::clock::{rfc3339, unix_ms};
use vip_lab::lifecycle;
use vip_lab::spec::{Spec, default_dir};

use bed::Bed;
use daemons::Daemons;
use plan::{Group, LAB_UP, Plan, System};
use results::{Case, Results};
use run::Run;

/// A lab in which more runs fail than this is given up; what was measured is kept.
const MOST_ERRORS: usize = 5;

/// Measures failovers in the lab, of vipd and of keepalived.
#[derive(Parser)]
struct Cli {
    #[arg(value_enum, default_value_t = Form::Short)]
    form: Form,
    /// Of each fault under each setting (full 20, short 3).
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: Option<u16>,
    /// Where failover.json, failover.svg and the tables go at the end (full: docs, and the tables into its
    /// PERFORMANCE.md; else, and with --only, they stay in the folder under target that is written to meanwhile).
    #[arg(long)]
    out: Option<PathBuf>,
    /// Only the labs whose line of progress has this in it: "vipd balanced", "50 tables".
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The lab's name: two of different names may run side by side.
    #[arg(long, default_value = "bench")]
    name: String,
    /// The lab's directory.
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
    /// Whom the yardstick asks, or where it answers.
    #[arg(long, hide = true)]
    at: Vec<SocketAddr>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Under fifteen minutes.
    Short,
    /// Under two hours.
    Full,
    /// Ten minutes: only what the members cost at rest.
    Idle,
    /// The lab's daemon.
    #[value(hide = true)]
    Serve,
    /// The yardstick's two ends.
    #[value(hide = true)]
    Ask,
    #[value(hide = true)]
    Answer,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let dir = cli.dir.clone().unwrap_or_else(|| default_dir(&cli.name));
    let (mut plan, form) = match cli.form {
        Form::Serve => return vip_lab::daemon::run(Spec::load(&dir)?),
        Form::Ask => return yardstick::ask(&cli.at),
        Form::Answer => return yardstick::answer(&cli.at),
        Form::Short => (Plan::short(), "short"),
        Form::Full => (Plan::full(), "full"),
        Form::Idle => (Plan::idle(), "idle"),
    };
    plan.runs = cli.runs.map_or(plan.runs, usize::from);
    if let Some(only) = &cli.only {
        plan.groups.retain(|group| group.to_string().contains(only));
        ensure!(!plan.groups.is_empty(), "no lab's line has {only:?} in it");
    }
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("failover-{}", cli.name));
    let published = cli.form == Form::Full && cli.only.is_none();
    // Cargo runs this in the package's folder; one noted at build time may be another checkout's.
    let out = cli.out.clone().unwrap_or(if published { PathBuf::from("docs") } else { scratch.clone() });
    for folder in [&scratch, &out] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    take_down_when_interrupted(&cli.name, &dir);
    let machine = machine::Machine::look(&dir)?;
    eprintln!(
        "failover: about {} min, as it goes in {}; ^C takes the lab down",
        minutes(plan.takes()),
        scratch.display()
    );
    let at = rfc3339(unix_ms() / 1_000);
    let mut bench = Bench {
        name: &cli.name,
        dir: &dir,
        scratch: &scratch,
        plan: &plan,
        progress: Progress { begun: Instant::now(), planned: plan.takes(), done: Duration::ZERO },
        results: Results::new(form, cli.only.clone(), at, plan.runs, machine),
        ticks: machine::ticks(),
    };
    for group in &plan.groups {
        bench.measure(group);
    }
    let results = bench.results;
    println!("{}", tables::markdown(&results));
    write(&out, &results)?;
    eprintln!("failover: what was written is in {}", out.display());
    let errors = results.errors.len() + results.cases.iter().map(|case| case.errors.len()).sum::<usize>();
    ensure!(errors == 0, "{errors} runs or labs went wrong: see \"errors\" in failover.json");
    Ok(())
}

fn start(bed: &Bed, group: &Group) -> anyhow::Result<Box<dyn Daemons>> {
    Ok(match group.system {
        System::Vipd(_) => Box::new(vipd::Vipd),
        System::Keepalived(tuning) => Box::new(keepalived::Keepalived::start(bed, tuning)?),
        System::Yardstick => Box::new(yardstick::Yardstick::start(bed)?),
    })
}

/// What goes on while all of it is measured.
struct Bench<'a> {
    name: &'a str,
    dir: &'a Path,
    scratch: &'a Path,
    plan: &'a Plan,
    progress: Progress,
    results: Results,
    /// Before the first lab.
    ticks: (u64, u64),
}

impl Bench<'_> {
    /// One lab.
    fn measure(&mut self, group: &Group) {
        let first = self.results.cases.len();
        self.results.cases.extend(group.faults.iter().map(|fault| Case::new(group, *fault, self.plan.runs)));
        if let Err(error) = self.lab(group, first) {
            self.wrong(group, &error);
        }
        self.keep();
    }

    /// Each fault in turn, again and again, so that a noisy minute hits all of them.
    fn lab(&mut self, group: &Group, first: usize) -> anyhow::Result<()> {
        let (mut bed, mut daemons) = self.up(group)?;
        self.progress.done += LAB_UP;
        if group.idle {
            self.progress.tell(&format!("{group}: watching"));
            let (settle, watch) = (self.plan.settle, self.plan.watch);
            self.results.idle.extend(idle::watch(&bed, daemons.as_mut(), group, settle, watch)?);
            self.progress.done += settle + watch;
        }
        let mut errors = 0;
        for number in 1..=self.plan.runs {
            for nth in 0..group.faults.len() {
                if self.run(&bed, daemons.as_mut(), group, first + nth, number) {
                    continue;
                }
                errors += 1;
                ensure!(errors <= MOST_ERRORS, "given up after {errors} runs that went wrong");
                // The daemons end before their lab does, and the new lab has the old one's name.
                drop(daemons);
                drop(bed);
                (bed, daemons) = self.up(group)?;
            }
            self.keep();
        }
        drop(daemons);
        drop(bed);
        Ok(())
    }

    /// What the machine did to one lab is not to cost all that would have been measured in it.
    fn up(&mut self, group: &Group) -> anyhow::Result<(Bed, Box<dyn Daemons>)> {
        let once = || {
            let bed = Bed::up(self.name, self.dir, group)?;
            let daemons = start(&bed, group)?;
            anyhow::Ok((bed, daemons))
        };
        let error = match once() {
            Ok(up) => return Ok(up),
            Err(error) => error.context("it did not come up, and is tried again"),
        };
        let again = once();
        self.wrong(group, &error);
        again
    }

    /// Whether the lab may be used on. What was measured counts, whatever comes after it.
    fn run(
        &mut self,
        bed: &Bed,
        daemons: &mut dyn Daemons,
        group: &Group,
        place: usize,
        number: usize,
    ) -> bool {
        let Some(case) = self.results.cases.get_mut(place) else { return false };
        self.progress.done += group.run_takes();
        let what = format!("{} {number}/{}", case.name(), case.planned);
        let (run, error) = match Run::measure(bed, daemons, case.fault) {
            Ok(mut run) => {
                let after = run.put_in_order(bed, daemons, case.fault);
                (Some(run), after.err())
            }
            Err(error) => (None, Some(error)),
        };
        if let Some(run) = run {
            let (ms, failed, all) = (run.outage_ms, run.failed, run.requests);
            self.progress.tell(&format!("{what}: {ms:.0} ms, {failed} of {all} failed"));
            case.runs.push(run);
        }
        if let Some(error) = &error {
            self.progress.tell(&format!("{what}: {error:#}"));
            case.errors.push(format!("run {number}: {error:#}"));
        }
        case.sum_up();
        error.is_none()
    }

    fn wrong(&mut self, group: &Group, error: &anyhow::Error) {
        self.progress.tell(&format!("{group}: {error:#}"));
        self.results.errors.push(format!("{group}: {error:#}"));
    }

    /// A run of two hours that is broken off leaves what it has; what is published stays as it was until all is done.
    fn keep(&mut self) {
        self.results.took_s = self.progress.begun.elapsed().as_secs();
        let ((all, stolen), (all_then, stolen_then)) = (machine::ticks(), self.ticks);
        let (part, whole) = (stolen.saturating_sub(stolen_then), all.saturating_sub(all_then));
        self.results.stolen_percent = 100.0 * idle::number(part) / idle::number(whole).max(1.0);
        if let Err(error) = write(self.scratch, &self.results) {
            self.progress.tell(&format!("cannot write into {}: {error:#}", self.scratch.display()));
        }
    }
}

/// All that is written, but for what is printed.
fn write(out: &Path, results: &Results) -> anyhow::Result<()> {
    results.write(out)?;
    tables::write(out, &tables::markdown(results))?;
    plot::write(out, results)
}

/// How far it is, in planned time.
struct Progress {
    begun: Instant,
    planned: Duration,
    done: Duration,
}

impl Progress {
    fn tell(&self, text: &str) {
        let share = self.done.as_secs_f64() / self.planned.as_secs_f64().max(1.0);
        let gone = self.begun.elapsed();
        // The plan's own pace, until there is one to go by.
        let left = if share > 0.05 { gone.mul_f64((1.0 / share - 1.0).max(0.0)) } else { self.planned };
        eprintln!("[{:3.0} %, {:3} min to go] {text}", share * 100.0, minutes(left));
    }
}

fn minutes(time: Duration) -> u64 {
    time.as_secs().div_ceil(60)
}

/// On a thread of its own, since the main one waits for processes.
fn take_down_when_interrupted(name: &str, dir: &Path) {
    let (name, dir) = (name.to_owned(), dir.to_owned());
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let caught = runtime.block_on(async {
            let (mut interrupt, mut end) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! { _ = interrupt.recv() => {}, _ = end.recv() => {} }
            Ok::<_, std::io::Error>(())
        });
        if caught.is_ok() {
            eprintln!("failover: interrupted; taking the lab down");
            for error in lifecycle::down(&name, &dir) {
                eprintln!("failover: {error:#}");
            }
            std::process::exit(130);
        }
    });
}
