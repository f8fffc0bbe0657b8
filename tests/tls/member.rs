//! One member's peer service, and a desk that belongs to no group.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use vipd::config::Config;
use vipd::decide::{Event, Gate};
use vipd::model::{GroupId, Incarnation, Name};
use vipd::raft::store::{Stable as _, Store};
use vipd::raft::{Group, Lazy, Starting};
use vipd::rpc::desk::{Desk, Query};
use vipd::rpc::listen::serve_peers;
use vipd::tls::Transport;

pub const GROUP: GroupId = GroupId(7);

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// az-a of a group of three, before it runs.
pub struct Member {
    pub starting: Starting<Store>,
    me: Incarnation,
    dir: tempfile::TempDir,
    events: mpsc::Receiver<Event>,
}

const FILE: &str = r#"
cluster = "edge"
member = "az-a"
data_dir = "DIR/data"
[peer]
listen = "127.0.0.1:7400"
[[members]]
name = "az-a"
peer = "127.0.0.1:7400"
[[members]]
name = "az-b"
peer = "127.0.0.1:1"
[[members]]
name = "az-c"
peer = "127.0.0.1:2"
[vip]
addresses = ["192.168.77.10/32"]
[aws]
route_tables = ["rtb-0a"]
[raft]
heartbeat_ms = 200
election_ms = [1000, 1500]
[tls]
insecure = true
"#;

/// What az-a runs with; the tests choose the transport themselves.
pub fn config(dir: &std::path::Path, more: &str) -> Config {
    let text = FILE.replace("DIR", &dir.display().to_string()) + more;
    Config::parse(text.as_bytes(), "test", None).unwrap()
}

/// It knows its group where there is one.
pub async fn new(group: Option<GroupId>) -> Member {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "");
    by(&config, dir, group).await
}

/// It and nobody else: it founds its group by itself, and leads it.
pub async fn alone() -> Member {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), "");
    config.members.truncate(1);
    by(&config, dir, None).await
}

async fn by(config: &Config, dir: tempfile::TempDir, group: Option<GroupId>) -> Member {
    let on_fatal = Arc::new(|cause: &str| panic!("{cause}"));
    let store = Store::open(&config.data_dir, &config.cluster, &config.member, on_fatal).unwrap();
    if let Some(group) = group {
        store.set_group(group).await.unwrap();
    }
    let me = store.incarnation();
    let gate = Arc::new(Gate::new(config.timing.margin()));
    let (tx, events) = mpsc::channel(1024);
    let starting = Starting::new(config, store, Arc::new(Lazy::new(Transport::Insecure)), gate, tx).unwrap();
    Member { starting, me, dir, events }
}

impl Member {
    pub fn serve(&self, listener: TcpListener, transport: &Transport) {
        serve_peers(listener, transport, self.starting.service(), self.starting.lifelines());
    }

    /// Runs its Raft.
    pub async fn start(self) -> Running {
        let group = self.starting.start().await.unwrap();
        Running { me: self.me, group, _events: self.events, _dir: self.dir }
    }
}

pub struct Running {
    pub me: Incarnation,
    pub group: Group,
    _events: mpsc::Receiver<Event>,
    _dir: tempfile::TempDir,
}

/// It answers every question by saying that it belongs to no group.
pub fn desk() -> (Desk, (mpsc::Receiver<Query>, watch::Sender<Option<Group>>)) {
    let (queries, asked) = mpsc::channel(8);
    let (group, known) = watch::channel(None);
    (Desk::new(queries, known), (asked, group))
}
