//! The daemon: `vipd --config FILE`.

#[path = "vipd/log.rs"]
mod log;
#[path = "vipd/reload.rs"]
mod reload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use vipd::clock;
use vipd::config::{Config, InForce, SourceDestCheck};
use vipd::decide::{Decide, Event, Gate, Now};
use vipd::doctor::host::Root;
use vipd::doctor::{Doctor, Place};
use vipd::driver::{Driver, EVENTS_MAX, Hands, Inputs, QUERIES_MAX, settings};
use vipd::health;
use vipd::metrics::Metrics;
use vipd::model::{EniId, Vip};
use vipd::net::{Addresses, LoopGuard, may_configure};
use vipd::raft::store::{Store, StoreError};
use vipd::raft::{Lazy, Starting};
use vipd::rpc::desk::Desk;
use vipd::rpc::http::Standing;
use vipd::rpc::listen;
use vipd::rpc::picture::Myself;
use vipd::service::{Pulse, Service, dump_no_core, lock_memory};
use vipd::tls::{Credentials, Files, LoadError, Transport};
use vipd::vpc::ec2::{ConnectError, Ec2, Request};
use vipd::vpc::imds;
use vipd::vpc::{CloudError, Stamp};

/// Keeps an overlay IP on a healthy HAProxy across availability zones.
#[derive(Parser)]
#[command(
    version,
    after_help = "VIPD_LOG sets the log's filter (info, vipd=debug, ...); VIPD_MEMBER the member's name.\n\
SIGHUP reads the file again: tables, health, policy and log, and what the files of [tls] hold; the rest takes a restart, \
and the log says so.\n\
Exit codes: 0 stopped, 1 failed, 2 wrong configuration or data directory in use."
)]
struct Args {
    /// The configuration file.
    #[arg(long, default_value = "/etc/vipd/vipd.toml")]
    config: PathBuf,
    /// Check the file, print the timeline that follows from it, and exit.
    #[arg(long)]
    check: bool,
    /// How the log is written to standard error.
    #[arg(long, value_enum, default_value_t = log::Format::Text)]
    log_format: log::Format,
    /// Print the manual page, for the package.
    #[arg(long, hide = true)]
    man: bool,
}

/// Wrong usage or configuration.
const USAGE: u8 = 2;

pub fn main() -> ExitCode {
    let args = Args::parse();
    if args.man {
        return print_manual();
    }
    // Before a key is read.
    if let Err(error) = dump_no_core() {
        eprintln!("warning: cores of this process are not switched off: {error}");
    }
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{:?}", miette::Report::new(error));
            return ExitCode::from(USAGE);
        }
    };
    let transport = match transport(&config) {
        Ok(transport) => transport,
        Err(error) => {
            eprintln!("error: {error}\nnext: {}", error.next());
            return ExitCode::from(USAGE);
        }
    };
    if args.check {
        print!("{}", config.timeline());
        let of_certificate = transport.credentials().map(|c| c.warnings()).unwrap_or_default();
        for warning in config.warnings().into_iter().chain(of_certificate) {
            println!("warning: {warning}");
        }
        return ExitCode::SUCCESS;
    }
    let log = match log::to_stderr(args.log_format, config.log.as_deref()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!(
                "error: VIPD_LOG is no filter: {error}\nnext: write for instance VIPD_LOG=info or VIPD_LOG=vipd=debug"
            );
            return ExitCode::from(USAGE);
        }
    };
    // One thread: the work is small, nothing on it blocks (the store's flusher is a thread of its own),
    // and waking another costs more than what there is to do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args.config, config, transport, log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let wrong_data = error
                .downcast_ref::<StoreError>()
                .is_some_and(|e| matches!(e, StoreError::Held { .. } | StoreError::Stranger { .. }));
            let wrong_use = wrong_data || error.is::<InsideTheVpc>();
            ExitCode::from(if wrong_use { USAGE } else { 1 })
        }
    }
}

/// How the members and operators reach each other. The files are read and compared before anything starts.
fn transport(config: &Config) -> Result<Transport, LoadError> {
    match Files::of(&config.tls) {
        None => Ok(Transport::Insecure),
        Some(files) => {
            let credentials = Credentials::of_member(files, &config.cluster, &config.member)?;
            Ok(Transport::Mutual(Arc::new(credentials)))
        }
    }
}

fn print_manual() -> ExitCode {
    let page = clap_mangen::Man::new(Args::command()).section("8");
    match page.render(&mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the manual page cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A panic in any task ends the process: nothing goes on half alive (FAULTS 5).
fn die_whole() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

async fn run(path: PathBuf, config: Config, transport: Transport, log: log::Filter) -> anyhow::Result<()> {
    let config = Arc::new(config);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    may_configure()?;
    if let Err(error) = lock_memory() {
        tracing::warn!(%error, "the memory is not locked: pages may have to be read back");
    }
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;

    let store = Store::open(&config.data_dir, &config.cluster, &config.member, Arc::new(on_fatal))?;
    // From here on: sled panics on some damage, which `Store::open` has turned into an error.
    die_whole();
    vipd::fault!(wait "start.opened");
    let gate = Arc::new(Gate::new(config.timing.margin()));
    let (events_tx, events) = mpsc::channel(EVENTS_MAX);
    let (queries_tx, queries) = mpsc::channel(QUERIES_MAX);
    let (group_tx, group_rx) = watch::channel(None);
    let (standing, standing_rx) = watch::channel(Standing::default());
    let metrics = Metrics::new()?;
    let desk = Desk::new(queries_tx, group_rx);

    let dial = Arc::new(Lazy::new(transport.clone()));
    let starting = Starting::new(&config, store, dial, Arc::clone(&gate), events_tx.clone())?;
    listen::peers(&config, &transport, starting.service(), starting.lifelines()).await?;
    listen::operators(&config, &transport, desk.clone()).await?;
    listen::monitors(&config, metrics.clone(), standing_rx.clone()).await?;

    vipd::fault!(wait "start.listening");
    let (addresses, present) =
        Addresses::open(&config.vip.interface, config.vip.addresses.clone(), config.vip.lifetime_s).await?;
    let loops = LoopGuard::set(&config.vip.interface, config.vip.addresses.clone());
    let (in_force, in_force_rx) = watch::channel(InForce::new(Arc::clone(&config)));
    let health = health::follow(in_force_rx.clone());
    let (stamp, stamp_rx) = watch::channel(Stamp::default());
    let waits = starting.waits();
    let doctor = Arc::new(Doctor {
        in_force: in_force_rx.clone(),
        place: OnceLock::new(),
        health: health.clone(),
        waits: waits.subscribe(),
        root: Root::new("/"),
        stamp: stamp_rx.clone(),
        events: events_tx.clone(),
        rehearsed: Mutex::default(),
    });
    desk.set_examiner(Arc::clone(&doctor) as _);

    let (service, pulse) = (Service::of_environment(), Pulse::default());
    service.status("starting: asks IMDS, waits for the other members").await;
    service.ready().await;
    tokio::spawn(service.clone().watch(pulse.clone()));
    tokio::spawn(show(service.clone(), standing_rx));

    let mut is_hung_up = false;
    // Whatever still has to be found out, SIGTERM ends the waiting.
    let found = async {
        let myself = until_imds_answers(&waits, || who_am_i(&config)).await?;
        let cloud = Arc::new(until_imds_answers(&waits, || connect(&config, metrics.clone())).await?);
        // Set here alone.
        let _ = doctor.place.set(Place { cloud: Arc::clone(&cloud), eni: myself.eni.clone() });
        // At once: what EC2 is slow to tell keeps nobody from voting.
        let outside = vips_are_outside(&config, &cloud);
        let (group, ()) = tokio::try_join!(async { Ok(starting.start().await?) }, outside)?;
        anyhow::Ok((myself, cloud, group))
    };
    let mut found = Box::pin(found);
    let (myself, cloud, group) = loop {
        tokio::select! {
            found = &mut found => break found?,
            Some(()) = hangup.recv() => is_hung_up = reload::too_early(&service).await,
            _ = terminate.recv() => {
                loops.lift().await;
                return Ok(());
            }
            _ = interrupt.recv() => {
                loops.lift().await;
                return Ok(());
            }
        }
    };
    drop(found);
    let forwarded = desk.clone();
    group.set_desk(Box::new(move |passed| {
        let desk = forwarded.clone();
        Box::pin(async move { desk.answer(passed).await })
    }));
    vipd::fault!(wait "start.grouped");
    group_tx.send_replace(Some(group.clone()));

    tokio::spawn(watch_eni(
        in_force_rx.clone(),
        Arc::clone(&cloud),
        myself.eni.clone(),
        events_tx.clone(),
        stamp_rx.clone(),
    ));
    let witness = config.members.iter().any(|m| m.name == config.member && m.witness);
    if !witness {
        tokio::spawn(async move { doctor.tell_of_ec2().await });
    }
    tokio::spawn(keep_warm(in_force_rx.clone(), Arc::clone(&cloud), stamp_rx));
    let credentials = transport.credentials().cloned();
    let reloader =
        reload::Reloader { path, in_force, cloud: Arc::clone(&cloud), credentials: credentials.clone(), log };
    tokio::spawn(reloader.run(hangup, is_hung_up, service.clone()));
    let raft_ended = tokio::spawn(group.watch());
    let now = Now { time: clock::now(), wall: clock::wall() };
    let decide = Decide::new(settings(&config, group.incarnation(), &myself), now);
    let interface = addresses.watch_interface();
    let config = InForce::new(config);
    if let Some(credentials) = &credentials {
        tokio::spawn(Arc::clone(credentials).warn_as_it_ages());
    }
    let hands = Hands {
        config,
        myself,
        group,
        gate,
        cloud,
        addresses,
        metrics,
        pulse,
        credentials,
        stamp,
        events: events_tx,
    };
    let (stop_tx, stop) = watch::channel(false);
    let driver = Driver::new(hands, decide, standing);
    let running = tokio::spawn(driver.run(Inputs {
        events,
        queries,
        health,
        present,
        interface,
        config: in_force_rx,
        stop,
    }));
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return ended.context("the driver ended"),
        why = raft_ended => anyhow::bail!("Raft ended: {}", why.unwrap_or_else(|e| e.to_string())),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service.stopping().await;
    stop_tx.send_replace(true);
    let ended = running.await.context("the driver ended");
    loops.lift().await;
    vipd::fault!(wait "stop.over");
    ended
}

/// What `systemctl status` says of this member.
async fn show(service: Service, mut standing: watch::Receiver<Standing>) {
    while standing.changed().await.is_ok() {
        let now = *standing.borrow_and_update();
        let line = match (now.owner, now.ready) {
            (true, _) => "owns the VIP",
            (false, true) => "in the group, not the owner",
            (false, false) => "no leader is heard",
        };
        service.status(line).await;
    }
}

/// The data could not be saved: nothing that follows may be acknowledged (FAULTS 12).
fn on_fatal(cause: &str) {
    tracing::error!("the data directory cannot be written: {cause}");
    eprintln!("fatal: the data directory cannot be written: {cause}");
    std::process::abort();
}

/// IMDS may be late on a host that boots: it is asked until it answers. Any other failure ends the
/// process.
async fn until_imds_answers<T, F>(waits: &watch::Sender<String>, ask: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut told = false;
    loop {
        match ask().await {
            Err(error) if error.chain().any(|e| e.is::<imds::ImdsError>() || e.is::<ConnectError>()) => {
                waits.send_replace(format!("{error:#}"));
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(
                        "{error:#}; asking again every 2 s, this member takes no part until then"
                    );
                }
                tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            }
            answer => return answer,
        }
    }
}

/// FAULTS 59, which IMDS can tell, or the route tables where the file says all that IMDS is asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "{vip} lies inside the VPC's CIDR {cidr}: EC2 delivers that by itself, and no route can change it; \
     choose an address outside of every CIDR of the VPC"
)]
struct InsideTheVpc {
    vip: Vip,
    cidr: String,
}

/// What the file does not name comes from IMDS.
async fn who_am_i(config: &Config) -> anyhow::Result<Myself> {
    let listed = config.members.iter().find(|m| m.name == config.member);
    let witness = listed.is_some_and(|m| m.witness);
    let zone = listed.and_then(|m| m.zone.clone());
    let eni = config.aws.eni.clone();
    if witness || (zone.is_some() && eni.is_some()) {
        return Ok(Myself { zone: zone.unwrap_or_default(), eni });
    }
    let identity = match imds::identity(None).await {
        Ok(identity) => identity,
        // The zone is for people to read.
        Err(_) if eni.is_some() => return Ok(Myself { zone: String::new(), eni }),
        Err(error) => return Err(error).context("aws.eni is not in the file and IMDS does not tell it"),
    };
    outside(config, &identity.vpc_cidrs)?;
    Ok(Myself { zone: zone.unwrap_or(identity.zone), eni: Some(eni.unwrap_or(identity.eni)) })
}

fn outside<'a>(
    config: &Config,
    cidrs: impl IntoIterator<Item = &'a imds::Cidr> + Clone,
) -> Result<(), InsideTheVpc> {
    for vip in &config.vip.addresses {
        if let Some(cidr) = cidrs.clone().into_iter().find(|c| c.contains(vip.ip())) {
            return Err(InsideTheVpc { vip: *vip, cidr: cidr.to_string() });
        }
    }
    Ok(())
}

/// So long a member waits for it at most, whatever `aws.attempt_timeout_ms` is: one that leads and does not judge yet leaves
/// the VIP to nobody.
const EC2_TELLS: Duration = Duration::from_secs(2);

/// By what the tables route locally. Where EC2 does not tell, the doctor and the log do later; a witness asks it nothing.
async fn vips_are_outside(config: &Config, cloud: &Ec2) -> anyhow::Result<()> {
    if config.members.iter().any(|m| m.name == config.member && m.witness) {
        return Ok(());
    }
    let error = match tokio::time::timeout(EC2_TELLS, cloud.survey(Stamp::default())).await {
        Ok(Ok(tables)) => return Ok(outside(config, tables.iter().flat_map(|t| &t.local))?),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("EC2 did not answer within {} s", EC2_TELLS.as_secs()),
    };
    tracing::warn!(%error, "whether a VIP lies inside the VPC is not known: the tables cannot be read");
    Ok(())
}

async fn connect(config: &Config, metrics: Metrics) -> anyhow::Result<Ec2> {
    let cloud = Ec2::connect(&config.aws, &config.cluster, &config.member, &config.vip.addresses).await?;
    Ok(cloud.on_request(Arc::new(move |r: Request| metrics.request(r.operation, r.outcome, r.took))))
}

/// While the source/dest check is on, EC2 drops the VIP's packets: the member may not own, or the
/// check is switched off, as the file says. Looked at again once a minute.
async fn watch_eni(
    mut config: watch::Receiver<InForce>,
    cloud: Arc<Ec2>,
    eni: Option<EniId>,
    events: mpsc::Sender<Event>,
    stamp: watch::Receiver<Stamp>,
) {
    let Some(eni) = eni else { return };
    let mut is_barred = false;
    loop {
        let check = config.borrow_and_update().config.aws.source_dest_check;
        let barred = match check {
            // A reload may lift what was found before.
            SourceDestCheck::Ignore => is_barred.then_some(None),
            SourceDestCheck::Verify | SourceDestCheck::Fix => {
                let now = *stamp.borrow();
                is_eni_barred(&cloud, &eni, check, now).await
            }
        };
        if let Some(why) = barred {
            is_barred = why.is_some();
            if events.send(Event::Barred(why)).await.is_err() {
                return;
            }
        }
        let _ = tokio::time::timeout(std::time::Duration::from_secs(60), config.changed()).await;
    }
}

/// Why the member may not own; `None` where that cannot be read, which bars nobody.
async fn is_eni_barred(
    cloud: &Ec2,
    eni: &EniId,
    check: SourceDestCheck,
    now: Stamp,
) -> Option<Option<String>> {
    match (cloud.eni_facts(eni, now).await, check) {
        (Ok(facts), _) if !facts.source_dest_check => Some(None),
        (Ok(_), SourceDestCheck::Fix) => match cloud.fix_source_dest_check(eni, now).await {
            Ok(()) => Some(None),
            Err(error) => Some(Some(format!("its source/dest check is on: {error}"))),
        },
        (Ok(_), SourceDestCheck::Verify | SourceDestCheck::Ignore) => Some(Some(format!(
            "the source/dest check of {eni} is on; switch it off, or set aws.source_dest_check = \"fix\""
        ))),
        (Err(CloudError::NotFound { .. }), _) => {
            Some(Some(format!("EC2 knows no network interface {eni}; correct aws.eni, or attach one")))
        }
        (Err(error), _) => {
            tracing::warn!(%eni, %error, "the source/dest check cannot be read");
            None
        }
    }
}

/// Connections to EC2 stay open, credentials fresh and permissions known, off the path of a failover
/// (DESIGN.md section 5, "Warm").
async fn keep_warm(config: watch::Receiver<InForce>, cloud: Arc<Ec2>, stamp: watch::Receiver<Stamp>) {
    loop {
        vipd::fault!(wait "start.warm");
        let (now, config) = (*stamp.borrow(), Arc::clone(&config.borrow().config));
        let witness = config.members.iter().any(|m| m.name == config.member && m.witness);
        let connections = if witness { 0 } else { config.aws.warm_connections };
        if let Err(error) = cloud.warm(connections, now).await {
            tracing::debug!(%error, "a warming read failed");
        }
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    }
}
