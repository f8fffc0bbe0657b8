//! `vip-lab`: the verbs of the lab.

mod cli;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use cli::{Cli, Direction, Ec2, From, Load, Switch, Up, Verb, Which, Whom};
use serde_json::{Value, json};
use vip_lab::control::{Request, Target, ask};
use vip_lab::ec2::faults::{Effect, Rule};
use vip_lab::spec::{Spec, Vipd, default_dir};
use vip_lab::topology::{Part, Way};
use vip_lab::{daemon, demo, lifecycle, load, ns, watch};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vip-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let usual = if matches!(cli.verb, Verb::Demo(_)) { "demo" } else { "vip" };
    let name = cli.name.unwrap_or_else(|| usual.into());
    let dir = absolute(cli.dir.unwrap_or_else(|| default_dir(&name)))?;
    let request = match cli.verb {
        Verb::Up(up) => {
            let spec = spec(&name, &dir, *up)?;
            return print(&lifecycle::up(&spec, &std::env::current_exe()?)?);
        }
        Verb::Demo(up) => {
            let spec = spec(&name, &dir, *up)?;
            let good = demo::run(&spec, &std::env::current_exe()?)?;
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::Down => return down(&name, &dir),
        Verb::Serve => return daemon::run(Spec::load(&dir)?).map(|()| ExitCode::SUCCESS),
        Verb::Config { set } => {
            let mut spec = Spec::load(&dir)?;
            spec.vipd.sets.extend(set);
            lifecycle::reconfigure(&spec)?;
            return print(&json!({"sets": spec.vipd.sets}));
        }
        Verb::Ns { who, command } => return run_in(&Spec::load(&dir)?, &who, &command),
        Verb::Vipctl { member, arguments } => return vipctl(&Spec::load(&dir)?, &member, arguments),
        Verb::Load(options) => return load(&Spec::load(&dir)?, options),
        Verb::Watch => return watch::run(&Spec::load(&dir)?).map(|()| ExitCode::SUCCESS),
        Verb::Start(whom) => Request::Start(target(whom)),
        Verb::Kill(whom) => Request::Kill(target(whom)),
        Verb::Stop { whom, wait } => {
            Request::Stop { target: target(whom), wait_ms: wait.saturating_mul(1_000) }
        }
        Verb::Freeze(whom) => Request::Freeze(target(whom)),
        Verb::Continue(whom) => Request::Continue(target(whom)),
        Verb::Cut { member, from, direction, loss } => {
            Request::Cut { member, parts: parts(from), ways: ways(direction), percent: loss }
        }
        Verb::Heal { member } => Request::Heal { member },
        Verb::Ec2(ec2) => ec2_request(ec2),
        Verb::Imds { on, credentials } => {
            Request::Imds { on: on.map(is_on), credentials: credentials.map(is_on) }
        }
        Verb::Calls { since } => Request::Calls { since_ns: since },
        Verb::Routes => Request::Routes,
        Verb::Status => Request::Status,
    };
    print(&ask(&dir, &request)?)
}

fn absolute(dir: PathBuf) -> anyhow::Result<PathBuf> {
    std::path::absolute(&dir).with_context(|| format!("{} is no path", dir.display()))
}

fn print(value: &Value) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{value:#}") {
        // Whoever reads (head, grep -q) has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        other => Ok(other.map(|()| ExitCode::SUCCESS)?),
    }
}

/// A program that lies beside this one.
fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    Ok(exe.with_file_name(name))
}

fn spec(name: &str, dir: &Path, up: Up) -> anyhow::Result<Spec> {
    let mut spec = Spec::new(name, dir, up.zones, up.tables)?;
    spec.haproxy = up.haproxy;
    if !up.vip.is_empty() {
        spec.vips = up.vip;
    }
    spec.initial_route = match up.initial_route.as_str() {
        "none" => None,
        member => Some(spec.zone(member)?.eni.clone()),
    };
    let mut enis = Vec::new();
    for (member, eni) in up.eni {
        enis.push((spec.zone(&member)?.member.clone(), eni));
    }
    let path = match up.vipd {
        Some(path) => absolute(path)?,
        None => beside("vipd")?,
    };
    spec.vipd = Vipd {
        enabled: !up.no_vipd,
        path,
        profile: up.profile,
        heartbeat_ms: up.heartbeat,
        election_ms: up.election,
        endpoint_url: up.endpoint_url,
        enis,
        route_tables: up.route_table,
        sets: up.set,
    };
    Ok(spec)
}

fn down(name: &str, dir: &Path) -> anyhow::Result<ExitCode> {
    let errors = lifecycle::down(name, dir);
    for error in &errors {
        eprintln!("vip-lab: {error:#}");
    }
    if errors.is_empty() { print(&json!({"down": name})) } else { Ok(ExitCode::FAILURE) }
}

fn run_in(spec: &Spec, who: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else { bail!("no command") };
    ns::enter(&spec.namespace(who)?)?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}

fn vipctl(spec: &Spec, member: &str, arguments: Vec<String>) -> anyhow::Result<ExitCode> {
    let socket = spec.member_dir(spec.zone(member)?).join("admin.sock");
    let program = spec.vipd.path.with_file_name("vipctl");
    let error = Command::new(&program)
        .arg("--endpoint")
        .arg(format!("unix:{}", socket.display()))
        .args(arguments)
        .exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

fn load(spec: &Spec, options: Load) -> anyhow::Result<ExitCode> {
    let plan =
        load::Plan::new(spec, Duration::from_millis(options.every_ms), Duration::from_secs(options.seconds))?;
    let on = options.out.as_ref().map(|out| PathBuf::from(format!("{}.on", out.display())));
    let samples = load::Samples::default();
    load::run_until_signal(&spec.namespace(&options.from)?, &plan, &samples, on.as_deref())?;
    let report = load::Report::new(&plan, &samples.all());
    if let Some(out) = &options.out {
        let draft = PathBuf::from(format!("{}.part", out.display()));
        std::fs::write(&draft, serde_json::to_vec_pretty(&report)?)?;
        std::fs::rename(&draft, out)?;
    }
    if options.json {
        return print(&serde_json::to_value(&report)?);
    }
    println!("{report}");
    Ok(ExitCode::SUCCESS)
}

fn target(whom: Whom) -> Target {
    Target { member: whom.member, only: whom.only }
}

fn is_on(switch: Switch) -> bool {
    switch == Switch::On
}

fn parts(from: From) -> Vec<Part> {
    match from {
        From::Members => vec![Part::Members],
        From::Ec2 => vec![Part::Ec2, Part::Imds],
        From::Imds => vec![Part::Imds],
        From::Client => vec![Part::Client],
        From::All => vec![Part::Members, Part::Ec2, Part::Imds, Part::Client],
    }
}

fn ways(direction: Direction) -> Vec<Way> {
    match direction {
        Direction::Both => vec![Way::In, Way::Out],
        Direction::In => vec![Way::In],
        Direction::Out => vec![Way::Out],
    }
}

fn fault(effect: Effect, which: Which) -> Request {
    let member = which.member.map(|m| if m.len() == 1 { format!("az-{m}") } else { m });
    Request::Fault(Rule {
        action: which.action,
        table: which.table,
        member,
        times: which.times,
        dry_run: which.dry_run.map(is_on),
        ..Rule::always(effect)
    })
}

fn ec2_request(ec2: Ec2) -> Request {
    match ec2 {
        Ec2::Delay { ms, which } => fault(Effect::Delay { ms }, which),
        Ec2::Throttle { on: Switch::On, which } => fault(Effect::Throttle, which),
        Ec2::Throttle { on: Switch::Off, .. } => Request::ClearFaults { kind: Some("throttle".into()) },
        Ec2::Budget { on } => Request::Budget { on: is_on(on) },
        Ec2::Error { code, which } => fault(Effect::Error { code }, which),
        Ec2::Hang { which } => fault(Effect::Hang, which),
        Ec2::Late { ms, which } => fault(Effect::Late { ms }, which),
        Ec2::Lost { which } => fault(Effect::Lost, which),
        Ec2::Deny { action, member } => {
            let which = Which { action: Some(action), table: None, member, times: None, dry_run: None };
            fault(Effect::Deny, which)
        }
        Ec2::Garbage { what, which } => fault(Effect::Garbage { what }, which),
        Ec2::ReadLag { ms } => Request::Fault(Rule::always(Effect::ReadLag { ms })),
        Ec2::Unreachable { member } => {
            Request::Cut { member, parts: vec![Part::Ec2], ways: vec![Way::In, Way::Out], percent: 100 }
        }
        Ec2::Clear { kind } => Request::ClearFaults { kind },
        Ec2::Faults => Request::Faults,
        Ec2::SetRoute { table, eni, destination } => Request::SetRoute { table, destination, eni: Some(eni) },
        Ec2::DeleteRoute { table, destination } => Request::SetRoute { table, destination, eni: None },
        Ec2::Tag { table, tag: (key, value) } => Request::Tag { table, key, value: Some(value) },
        Ec2::Untag { table, key } => Request::Tag { table, key, value: None },
        Ec2::Eni { eni, source_dest_check, gone } => {
            Request::Eni { eni, gone: gone.map(is_on), source_dest_check: source_dest_check.map(is_on) }
        }
    }
}
