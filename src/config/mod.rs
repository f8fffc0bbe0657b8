//! `vipd.toml`, from TOML to a checked [`Config`].
//!
//! ```text
//!   bytes --raw--> shape (spans kept) --check--> Config --timeline--> what --check prints
//!             |                            |
//!             +--- one Mistake             +--- all Mistakes together ---> ConfigError
//! ```
//!
//! `docs/CONFIGURATION.md` has every key.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{EniId, Name, RouteTableId, USUAL_PRIORITY, Vip};
pub use crate::model::{Member, OnQuorumLoss};

mod check;
pub mod iam;
mod raw;
mod reason;
mod reload;
mod report;
mod timeline;
mod warnings;

pub use check::{key_exposure, reachable_address};
pub use reason::Reason;
pub use reload::InForce;
pub use report::{ConfigError, Mistake};

/// A file of this many bytes is read; a longer one is refused unread. A thousand route tables take
/// 30 KiB, so that nobody who means it comes near.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Names this member where one file serves all of them; wins over the file's `member`.
pub const MEMBER_ENV: &str = "VIPD_MEMBER";

/// Where the files are that a configuration names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Host {
    This,
    Another,
}

/// What one member runs with. Made only by [`load`](Config::load) and [`parse`](Config::parse), so
/// every relation between its values holds.
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: Name,
    pub member: Name,
    pub data_dir: PathBuf,
    pub peer_listen: SocketAddr,
    pub admin_listen: Option<SocketAddr>,
    pub admin_socket: Option<PathBuf>,
    /// Its processes are operators on the socket, which is made theirs.
    pub admin_group: Option<String>,
    /// In the file's order; `member` is among them.
    pub members: Vec<Member>,
    pub vip: VipConfig,
    pub aws: AwsConfig,
    pub timing: Timing,
    pub health: HealthConfig,
    pub policy: Policy,
    pub tls: Tls,
    pub metrics_listen: Option<SocketAddr>,
    /// The log's filter; `VIPD_LOG` goes before it.
    pub log: Option<String>,
}

impl Config {
    /// What this file says of the member that it is for.
    pub fn own(&self) -> Member {
        let listed = self.members.iter().find(|m| m.name == self.member);
        // The check has seen to it that it is listed.
        listed.cloned().unwrap_or_else(|| Member {
            name: self.member.clone(),
            peer: self.peer_listen.to_string(),
            admin: None,
            zone: None,
            priority: USUAL_PRIORITY,
            witness: false,
        })
    }

    /// Reads and checks `path`. The member's name may come from `VIPD_MEMBER`.
    ///
    /// # Errors
    /// The file cannot be read, or is refused: see [`parse`](Config::parse).
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_for(path, Host::This)
    }

    /// As [`load`](Self::load), of a file that is meant for another host, where its certificates are.
    ///
    /// # Errors
    /// As those of [`load`](Self::load), but for the TLS files.
    pub fn load_for_another_host(path: &Path) -> Result<Self, ConfigError> {
        Self::load_for(path, Host::Another)
    }

    fn load_for(path: &Path, host: Host) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_path_buf(), source };
        let mut text = Vec::new();
        // One byte more than is allowed, so that `parse` sees that there was more.
        File::open(path)
            .map_err(unreadable)?
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        // What is not Unicode is no name either, and is refused as one.
        let member = std::env::var_os(MEMBER_ENV).map(|v| v.to_string_lossy().into_owned());
        Self::parse_for(&text, &path.display().to_string(), member, host)
    }

    /// Checks the text of a file. `origin` names it in errors; `env_member` is the value of
    /// `VIPD_MEMBER`, where an empty one counts as none. Looks at the TLS files, at nothing else.
    ///
    /// # Errors
    /// Not TOML, an unknown key or a wrong type: the first of them. Else everything that does not
    /// hold, in the order of the file, each with its line, column, cause and next step.
    pub fn parse(text: &[u8], origin: &str, env_member: Option<String>) -> Result<Self, ConfigError> {
        Self::parse_for(text, origin, env_member, Host::This)
    }

    fn parse_for(
        text: &[u8],
        origin: &str,
        env_member: Option<String>,
        host: Host,
    ) -> Result<Self, ConfigError> {
        let text = report::decode(text, origin)?;
        let raw = raw::parse(&text)?;
        check::check(&raw, text, env_member.filter(|name| !name.is_empty()), host)
    }
}

#[derive(Clone, Debug)]
pub struct VipConfig {
    /// At least one.
    pub addresses: Vec<Vip>,
    pub interface: String,
    /// 0: no kernel lifetime.
    pub lifetime_s: u32,
}

#[derive(Clone, Debug)]
pub struct AwsConfig {
    pub region: Option<String>,
    pub route_tables: Vec<RouteTableId>,
    /// `(key, value)` of `key=value`.
    pub route_table_tag: Option<(String, String)>,
    pub eni: Option<EniId>,
    pub endpoint_url: Option<String>,
    pub assume_role_arn: Option<String>,
    pub create_missing: bool,
    pub source_dest_check: SourceDestCheck,
    pub attempt_timeout: Duration,
    pub reconcile: Duration,
    pub warm_connections: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceDestCheck {
    Verify,
    Fix,
    Ignore,
}

/// Raft's timings and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat: Duration,
    pub election_min: Duration,
    /// Also the lease that this member grants.
    pub election_max: Duration,
}

impl Timing {
    /// The lease that this member grants to a leader with each acknowledged append.
    pub fn lease(&self) -> Duration {
        self.election_max
    }

    /// What a leader may count on: the lease less 1 % for drifting clocks, less the margin
    /// (FENCING.md, F-a). Zero where nothing is left.
    pub fn usable_lease(&self) -> Duration {
        self.lease().saturating_sub(self.lease() / 100).saturating_sub(self.margin())
    }

    /// How long after its start a member grants no vote and does not campaign, unless it stored a
    /// longer lease (DESIGN.md section 4, hole 2).
    pub fn quarantine(&self) -> Duration {
        self.lease() + self.margin()
    }

    /// The longest time from a silent death of the leader to the first vote request.
    pub fn worst_detection(&self) -> Duration {
        self.lease() + self.election_max
    }

    /// Kept free before a lease's end: a twentieth of it, at least 5 ms (FENCING.md, F-a).
    pub fn margin(&self) -> Duration {
        (self.election_max / 20).max(Duration::from_millis(5))
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthConfig {
    pub haproxy_socket: Option<PathBuf>,
    pub http: Option<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub fall: u32,
    pub rise: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub on_quorum_loss: OnQuorumLoss,
    pub failback: bool,
    pub min_hold: Duration,
}

#[derive(Clone, Debug)]
pub struct Tls {
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Certificates that are taken back.
    pub crl: Option<PathBuf>,
    pub insecure: bool,
}
