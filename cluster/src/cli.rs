//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vip_lab::control::Program;
use vip_lab::ec2::faults::Garbage;

/// A VPC with three zones on one machine: real HAProxy and vipd in network namespaces, an EC2 endpoint and IMDS.
///
/// Needs root; where that is not to be had: unshare -rnm sh -c 'mount -t tmpfs tmpfs /run; vip-lab ...'.
/// What a verb prints is JSON, except for demo, watch and load.
#[derive(Parser)]
#[command(name = "vip-lab", version)]
pub struct Cli {
    /// Prefix of the network namespaces; labs of different names live side by side (default vip; the demo's: demo).
    #[arg(long, global = true)]
    pub name: Option<String>,
    /// Where state, logs and sockets are (default /run/vip-lab/NAME).
    #[arg(long, global = true)]
    pub dir: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Bring up a lab; one of the same name is taken down first.
    Up(Box<Up>),
    /// End every process and delete the namespaces; logs stay.
    Down,
    /// Start what does not run.
    Start(Whom),
    /// SIGKILL.
    Kill(Whom),
    /// SIGTERM; waits, and prints exit code and time.
    Stop {
        #[command(flatten)]
        whom: Whom,
        /// Seconds to wait for each process.
        #[arg(long, default_value_t = 15)]
        wait: u64,
    },
    /// SIGSTOP.
    Freeze(Whom),
    /// SIGCONT.
    Continue(Whom),
    /// Drop a member's packets.
    Cut {
        /// az-a, or a.
        member: String,
        /// From what: all is the whole zone, ec2 is the endpoint with IMDS.
        #[arg(long, value_enum, default_value_t = From::All)]
        from: From,
        /// Which packets, seen from the member.
        #[arg(long, value_enum, default_value_t = Direction::Both)]
        direction: Direction,
        /// How many of a hundred packets.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
        loss: u8,
    },
    /// Drop nothing of a member's any more.
    Heal {
        /// az-a, a, or all.
        member: String,
    },
    /// What shall go wrong in EC2, and changes by hand.
    #[command(subcommand)]
    Ec2(Ec2),
    /// The metadata service.
    Imds {
        /// Answer, or 503.
        #[arg(value_enum)]
        on: Option<Switch>,
        /// The role's credentials: there, or 404.
        #[arg(long, value_enum)]
        credentials: Option<Switch>,
    },
    /// Every call that reached EC2.
    Calls {
        /// Only those received at this CLOCK_BOOTTIME (ns) or later.
        #[arg(long, default_value_t = 0)]
        since: u64,
    },
    /// Every route.
    Routes,
    /// Processes, cuts and switches.
    Status,
    /// Write the members' vipd.toml again with one more setting each; processes are left alone.
    Config {
        /// [MEMBER:]section.key=value; an empty value takes the key out.
        #[arg(long, required = true)]
        set: Vec<String>,
    },
    /// Run a command in a namespace.
    Ns {
        /// az-a, a, client or router.
        who: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run vipctl against a member's socket.
    Vipctl {
        /// az-a, or a.
        member: String,
        /// vipctl's arguments.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Open connection after connection to the VIP and tell what the client saw; ^C or SIGTERM ends it early.
    Load(Load),
    /// Show processes and routes, again and again until ^C.
    Watch,
    /// Bring up a lab, break it in three ways under traffic, show what the client saw, take it down.
    Demo(Box<Up>),
    /// The lab's daemon; `up` starts it.
    #[command(hide = true)]
    Serve,
}

#[derive(Args)]
pub struct Up {
    /// Leave vipd out: HAProxy, EC2 and IMDS only.
    #[arg(long)]
    pub no_vipd: bool,
    /// The vipd program (default: beside vip-lab).
    #[arg(long)]
    pub vipd: Option<PathBuf>,
    /// The HAProxy program.
    #[arg(long, default_value = "haproxy")]
    pub haproxy: PathBuf,
    /// Zones, one member each.
    #[arg(long, default_value_t = 3)]
    pub zones: usize,
    /// Route tables; the client's subnet has the first, the zones take turns.
    #[arg(long, default_value_t = 3)]
    pub tables: usize,
    /// The ENI or member that every VIP route names at the start, or none.
    #[arg(long, default_value = "a")]
    pub initial_route: String,
    /// The overlay addresses, as IPv4 /32 or IPv6 /128; `load` asks the first (default: 192.168.77.10/32).
    #[arg(long)]
    pub vip: Vec<String>,
    /// vipd's Raft profile.
    #[arg(long)]
    pub profile: Option<String>,
    /// Milliseconds.
    #[arg(long)]
    pub heartbeat: Option<u64>,
    /// Milliseconds.
    #[arg(long, value_name = "MIN,MAX", value_parser = pair)]
    pub election: Option<(u64, u64)>,
    /// A vipd setting: [MEMBER:]section.key=value; an empty value takes the key out.
    #[arg(long)]
    pub set: Vec<String>,
    /// Another EC2 endpoint for vipd; the lab's routes do not follow it.
    #[arg(long)]
    pub endpoint_url: Option<String>,
    /// vipd's ENI by member, in place of IMDS: az-a=eni-0123.
    #[arg(long, value_name = "MEMBER=ENI", value_parser = assignment)]
    pub eni: Vec<(String, String)>,
    /// vipd's route tables, in place of the lab's.
    #[arg(long)]
    pub route_table: Vec<String>,
}

#[derive(Args)]
pub struct Load {
    /// How long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// A new connection and request every so many milliseconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub every_ms: u64,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the JSON report here in the end; FILE.on appears with the first answer.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// From where: client, router, or a member.
    #[arg(long, default_value = "client")]
    pub from: String,
}

#[derive(Args)]
pub struct Whom {
    /// az-a, a, or all.
    pub member: String,
    /// One of its programs; both where absent.
    #[arg(long, value_enum)]
    pub only: Option<Program>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum From {
    Members,
    Ec2,
    Imds,
    Client,
    All,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Direction {
    Both,
    In,
    Out,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

/// Which calls a fault is for.
#[derive(Args)]
pub struct Which {
    /// Only this action, such as ReplaceRoute.
    #[arg(long)]
    pub action: Option<String>,
    /// Only this route table.
    #[arg(long)]
    pub table: Option<String>,
    /// Only this member's calls.
    #[arg(long)]
    pub member: Option<String>,
    /// Only so many times.
    #[arg(long)]
    pub times: Option<u64>,
    /// DryRuns too, or not (default: delay, throttle and deny hit them).
    #[arg(long, value_enum)]
    pub dry_run: Option<Switch>,
}

#[derive(Subcommand)]
pub enum Ec2 {
    /// Take effect after half of MS, answer after all of it.
    Delay {
        ms: u64,
        #[command(flatten)]
        which: Which,
    },
    /// RequestLimitExceeded.
    Throttle {
        #[arg(value_enum)]
        on: Switch,
        #[command(flatten)]
        which: Which,
    },
    /// EC2's own budget: 50 changes at once and 5 a second, 100 reads and 20, for each action.
    Budget {
        #[arg(value_enum)]
        on: Switch,
    },
    /// An error code, such as InternalError.
    Error {
        code: String,
        #[command(flatten)]
        which: Which,
    },
    /// Neither effect nor answer.
    Hang {
        #[command(flatten)]
        which: Which,
    },
    /// No answer, and the effect comes MS later.
    Late {
        ms: u64,
        #[command(flatten)]
        which: Which,
    },
    /// The effect comes, the answer never.
    Lost {
        #[command(flatten)]
        which: Which,
    },
    /// UnauthorizedOperation for an action.
    Deny {
        action: String,
        #[arg(long)]
        member: Option<String>,
    },
    /// The effect comes; what comes back is no answer.
    Garbage {
        #[arg(value_enum)]
        what: Garbage,
        #[command(flatten)]
        which: Which,
    },
    /// Reads show the state of MS ago.
    ReadLag { ms: u64 },
    /// Drop a member's packets to and from the endpoint (IMDS still answers).
    Unreachable { member: String },
    /// Take back the faults of one kind (delay, throttle, ...), or all and the budget; prints what was in force.
    Clear { kind: Option<String> },
    /// The faults in force, and how often each was applied.
    Faults,
    /// Point a route at an ENI, as somebody else would.
    SetRoute {
        #[arg(long)]
        table: String,
        /// ENI or member.
        #[arg(long)]
        eni: String,
        #[arg(long)]
        destination: Option<String>,
    },
    /// Take a route away, as somebody else would.
    DeleteRoute {
        #[arg(long)]
        table: String,
        #[arg(long)]
        destination: Option<String>,
    },
    /// Tag a table.
    Tag {
        #[arg(long)]
        table: String,
        /// KEY=VALUE, split at the first =.
        #[arg(value_parser = assignment)]
        tag: (String, String),
    },
    /// Take a tag that was put by hand off a table.
    Untag {
        #[arg(long)]
        table: String,
        key: String,
    },
    /// An ENI's source/dest check, or its absence.
    Eni {
        /// ENI or member.
        eni: String,
        #[arg(long, value_enum)]
        source_dest_check: Option<Switch>,
        /// Deleted: its routes become black holes.
        #[arg(long, value_enum)]
        gone: Option<Switch>,
    },
}

fn pair(text: &str) -> Result<(u64, u64), String> {
    let parsed =
        text.split_once(',').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    parsed.ok_or_else(|| format!("want MIN,MAX in milliseconds, not {text:?}"))
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    split.ok_or_else(|| format!("there is no = in {text:?}"))
}
