//! What verbs ask of the lab's daemon: one JSON line each way over `<dir>/control.sock`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ec2::faults::Rule;
use crate::topology::{Part, Way};

/// The longest verb is `stop`, which waits for a process; 10 minutes is past any such wait.
const PATIENCE: Duration = Duration::from_secs(600);
/// A reply is at most the whole call log: some 100 000 lines of half a KiB.
const LONGEST_REPLY: u64 = 128 << 20;

/// One of the processes that a zone runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// The daemon under test.
    Vipd,
    /// What it keeps the VIP on.
    Haproxy,
}

/// A member, or all; one program, or both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// `az-a`, `a` or `all`.
    pub member: String,
    /// Absent: both.
    pub only: Option<Program>,
}

/// A verb.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Is anybody there?
    Ping,
    /// Every process, cut and switch.
    Status,
    /// Starts what does not run.
    Start(Target),
    /// SIGKILL, and waits until it is gone.
    Kill(Target),
    /// SIGTERM, and waits; after `wait_ms` the verb fails and the process lives on.
    Stop {
        /// Whom.
        target: Target,
        /// How long to wait for each.
        wait_ms: u64,
    },
    /// SIGSTOP, and waits until the kernel says so.
    Freeze(Target),
    /// SIGCONT.
    Continue(Target),
    /// Drops packets.
    Cut {
        /// Whose.
        member: String,
        /// To or from what.
        parts: Vec<Part>,
        /// Which way.
        ways: Vec<Way>,
        /// How many of a hundred; 100: all.
        percent: u8,
    },
    /// Stops dropping packets of a member, or `all`.
    Heal {
        /// Whose.
        member: String,
    },
    /// Every route.
    Routes,
    /// The log.
    Calls {
        /// CLOCK_BOOTTIME; 0: all that is kept.
        since_ns: u64,
    },
    /// One more fault.
    Fault(Rule),
    /// Takes back the faults of a kind, or all.
    ClearFaults {
        /// As in `Effect`, in kebab case.
        kind: Option<String>,
    },
    /// The faults and how often each was applied.
    Faults,
    /// EC2's token buckets.
    Budget {
        /// On or off.
        on: bool,
    },
    /// A route changed by someone else.
    SetRoute {
        /// Route table.
        table: String,
        /// Absent: the lab's first VIP.
        destination: Option<String>,
        /// ENI or member; absent: the route goes.
        eni: Option<String>,
    },
    /// A tag of a table, set by someone else.
    Tag {
        /// Route table.
        table: String,
        /// The tag's.
        key: String,
        /// Absent: the tag goes.
        value: Option<String>,
    },
    /// An ENI that is detached and deleted, or comes back.
    Eni {
        /// ENI or member.
        eni: String,
        /// Absent: as it is.
        gone: Option<bool>,
        /// Absent: as it is.
        source_dest_check: Option<bool>,
    },
    /// The metadata service.
    Imds {
        /// Absent: as it is.
        on: Option<bool>,
        /// Absent: as it is.
        credentials: Option<bool>,
    },
    /// Ends every process, then the daemon.
    Shutdown,
}

/// The daemon's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What the verb prints.
    Ok(Value),
    /// Why it failed.
    Error(String),
}

/// Sends one verb and waits for its answer.
pub fn ask(dir: &Path, request: &Request) -> anyhow::Result<Value> {
    let path = dir.join("control.sock");
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("no lab answers at {} (vip-lab up starts one)", path.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    let mut reader = BufReader::new(std::io::Read::take(stream, LONGEST_REPLY));
    reader.read_line(&mut answer).context("the lab's daemon closed the connection")?;
    match serde_json::from_str(&answer).context("the lab's daemon died (see lab.log)")? {
        Reply::Ok(value) => Ok(value),
        Reply::Error(error) => bail!(error),
    }
}
