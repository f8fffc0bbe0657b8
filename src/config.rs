//! `vipd.toml`, from TOML to a checked [`Config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::model::OnQuorumLoss;
use crate::model::{EniId, Name, RouteTableId, Vip};

/// What one member runs with. Made only by [`load`](Config::load), so every relation between its
/// values holds.
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: Name,
    pub member: Name,
    pub data_dir: PathBuf,
    pub peer_listen: SocketAddr,
    pub admin_listen: Option<SocketAddr>,
    pub admin_socket: Option<PathBuf>,
    /// In the file's order; `member` is among them.
    pub members: Vec<Member>,
    pub vip: VipConfig,
    pub aws: AwsConfig,
    pub timing: Timing,
    pub health: HealthConfig,
    pub policy: Policy,
    pub tls: Tls,
    pub metrics_listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: Name,
    /// `host:port`, as the others reach it.
    pub peer: String,
    pub admin: Option<String>,
    pub zone: Option<String>,
    pub priority: u32,
    pub witness: bool,
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

    /// Kept free before a lease's end: a twentieth of it, at least 5 ms (FENCING.md, F-a).
    pub fn margin(&self) -> Duration {
        (self.election_max / 20).max(Duration::from_millis(5))
    }
}

#[derive(Clone, Debug)]
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
    pub insecure: bool,
}
