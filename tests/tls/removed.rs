//! Four members over TLS, each a process as far as that goes: one that was removed, and the files that list it still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tonic::Code;
use vipd::clock;
use vipd::decide::{Change, Refusal, Role};
use vipd::model::{Incarnation, Member};
use vipd::proto::peer_client::PeerClient;
use vipd::proto::{self, AppendRequest, Envelope, HelloRequest, RaftVote};
use vipd::raft::Group;
use vipd::tls::Credentials;

use crate::age::{came_too_late, channel};
use crate::lifeline::{Running, run};
use crate::pki::Pki;

const BOUND: Duration = Duration::from_secs(20);

const NAMES: [&str; 4] = ["az-a", "az-b", "az-c", "az-d"];

/// All that they share.
struct Lab {
    pki: Pki,
    dir: tempfile::TempDir,
    peers: [SocketAddr; 4],
}

/// One member, on a runtime of its own that ends with it.
struct Process {
    runtime: Option<Runtime>,
    running: Running,
}

impl Process {
    async fn start(lab: &Arc<Lab>, at: usize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::clone(lab);
        let begun = runtime.spawn(async move {
            let listener = TcpListener::bind(shared.peers[at]).await.unwrap();
            run(&shared.pki, shared.dir.path(), NAMES[at], listener, &shared.peers).await
        });
        let running = begun.await.unwrap();
        // What the daemon does, which is not there.
        runtime.spawn(running.group.watch());
        // Without a name nobody takes its reports.
        running.group.reports().set(proto::Member { name: NAMES[at].into(), ..Default::default() });
        Self { runtime: Some(runtime), running }
    }

    async fn end(mut self) {
        let runtime = self.runtime.take().unwrap();
        drop(self);
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(BOUND)).await.unwrap();
    }

    fn group(&self) -> &Group {
        &self.running.group
    }

    /// Makes a change, once the first membership, or the one before, is agreed.
    async fn change(&self, change: Change) {
        let made = async {
            loop {
                let (group, change) = (self.group().clone(), change.clone());
                match self.on_its_own(async move { group.change(change).await }).await {
                    Ok(()) => return,
                    Err(Refusal::Unchanged(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(other) => panic!("{other}"),
                }
            }
        };
        tokio::time::timeout(BOUND, made).await.expect("the change");
    }

    /// Makes it hand its leadership to `to`, and asks again where the election was lost.
    async fn until_leads(&self, to: &Process) {
        let moved = async {
            while !leads(to) {
                let (group, id) = (self.group().clone(), to.group().incarnation());
                let _ = self.on_its_own(async move { group.transfer(id).await }).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(BOUND, moved).await.expect("it leads");
    }

    async fn on_its_own<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.as_ref().unwrap().spawn(work).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, waited).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn lab() -> Arc<Lab> {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bound = [bind().await, bind().await, bind().await, bind().await];
    let peers = [0, 1, 2, 3].map(|i| bound[i].local_addr().unwrap());
    Arc::new(Lab { pki: Pki::new(), dir: tempfile::tempdir().unwrap(), peers })
}

/// The group, az-a leading.
async fn group(lab: &Arc<Lab>) -> [Process; 4] {
    let start = |at| Process::start(lab, at);
    let (a, b, c, d) = tokio::join!(start(0), start(1), start(2), start(3));
    let all = [a, b, c, d];
    until("somebody leads", || all.iter().any(leads)).await;
    if let Some(leader) = all.iter().find(|p| leads(p)) {
        leader.until_leads(&all[0]).await;
    }
    all
}

fn learn(lab: &Lab, at: usize) -> Change {
    let member = Member {
        name: NAMES[at].parse().unwrap(),
        peer: lab.peers[at].to_string(),
        admin: None,
        zone: None,
        priority: 100,
        witness: false,
    };
    Change::Learn { member, until: clock::now() + BOUND }
}

fn leads(process: &Process) -> bool {
    process.group().view().role == Role::Leader
}

fn has_removed(process: &Process, name: &str) -> bool {
    process.group().applied().borrow().ledger.removed.iter().any(|n| n.as_str() == name)
}

/// What the key of the member `name` is told when it speaks as the leader of a term, in the name of `from`.
async fn leads_by(
    (name, key): (&str, &Arc<Credentials>),
    at: SocketAddr,
    from: Incarnation,
    to: Incarnation,
    term: u64,
) -> Code {
    loop {
        let mut client = PeerClient::new(channel(Arc::clone(key), at).0);
        let hello = HelloRequest { cluster: "edge".into(), member: name.into(), incarnation: from.0 };
        let group = client.hello(hello).await.expect("anybody of the cluster may greet").into_inner().group;
        let request = AppendRequest {
            envelope: Some(Envelope { cluster: "edge".into(), group, from: from.0, to: to.0 }),
            vote: Some(RaftVote { term, voted_for: from.0, committed: true }),
            ..Default::default()
        };
        match client.append(request).await {
            Ok(_) => return Code::Ok,
            Err(status) if came_too_late(&status) || status.code() == Code::Unavailable => {}
            Err(status) => return status.code(),
        }
    }
}

#[tokio::test]
async fn fault_65_who_was_removed_deposes_nobody_whatever_the_files_list() {
    let lab = lab().await;
    let [a, b, c, d] = group(&lab).await;
    let (id, key) = (c.group().incarnation(), Arc::clone(&c.running.mine));
    c.end().await;
    a.change(Change::Remove([id].into())).await;
    until("all know", || [&a, &b, &d].into_iter().all(|p| has_removed(p, "az-c"))).await;
    let term = a.group().view().term;
    for (at, member) in [(0, &a), (1, &b)] {
        let to = member.group().incarnation();
        for from in [id, Incarnation(4242)] {
            let said = leads_by(("az-c", &key), lab.peers[at], from, to, term.0 + 5).await;
            assert_eq!(said, Code::PermissionDenied, "{from}");
        }
        assert_eq!(member.group().view().term, term);
    }
    assert!(leads(&a));

    // After a restart of all nobody has said yet how far the log is committed.
    for member in [a, b, d] {
        member.end().await;
    }
    let b = Process::start(&lab, 1).await;
    let said = leads_by(("az-c", &key), lab.peers[1], id, b.group().incarnation(), term.0 + 5).await;
    assert_eq!(said, Code::PermissionDenied, "it has not forgotten");
    assert_eq!(b.group().view().term, term);
}

#[tokio::test]
async fn who_was_away_follows_one_that_was_removed_and_taken_in_again() {
    let lab = lab().await;
    let [a, b, c, d] = group(&lab).await;
    let id = c.group().incarnation();
    a.change(Change::Remove([id].into())).await;
    until("az-b knows", || has_removed(&b, "az-c")).await;
    b.end().await;
    // For whom its peer port keeps places.
    let kept = |lab: &Lab| a.running.lifelines.addresses().contains(&lab.peers[2].to_string());
    assert!(!kept(&lab), "its file lists it still");
    a.change(learn(&lab, 2)).await;
    assert!(kept(&lab), "it came at run time");
    a.change(Change::Promote(id)).await;
    a.until_leads(&c).await;

    let b = Process::start(&lab, 1).await;
    assert!(has_removed(&b, "az-c"), "that is what it knows");
    until("it follows az-c", || b.group().view().leader == Some(id) && !has_removed(&b, "az-c")).await;
    drop(d);
}

#[tokio::test]
async fn who_was_out_meanwhile_is_taken_in_by_one_that_it_saw_removed() {
    let lab = lab().await;
    let [a, b, c, d] = group(&lab).await;
    let [id_a, id_b, id_c, id_d] = [&a, &b, &c, &d].map(|p| p.group().incarnation());
    a.change(Change::Remove([id_d].into())).await;
    until("az-c knows", || has_removed(&c, "az-d")).await;
    a.change(Change::Remove([id_c].into())).await;
    until("az-c knows that it is out", || c.group().view().removed.is_some()).await;
    // As long as it hears a leader it takes nothing from one that was removed. az-d's term is over: nobody follows it.
    let led = async |by: &Process, id, term| {
        leads_by((NAMES[if id == id_a { 0 } else { 3 }], &by.running.mine), lab.peers[2], id, id_c, term)
            .await
    };
    assert_eq!(led(&a, id_a, a.group().view().term.0).await, Code::Ok);
    assert_eq!(led(&d, id_d, 1).await, Code::PermissionDenied);
    let alone = async {
        while led(&d, id_d, 1).await != Code::Ok {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(BOUND, alone).await.expect("it goes by its file");

    a.change(learn(&lab, 3)).await;
    a.change(Change::Promote(id_d)).await;
    a.until_leads(&d).await;
    // Nobody is left that could tell it of the return.
    d.change(Change::Remove([id_a].into())).await;
    d.change(Change::Remove([id_b].into())).await;
    a.end().await;
    b.end().await;
    assert!(has_removed(&c, "az-d"));
    d.change(learn(&lab, 2)).await;
    d.change(Change::Promote(id_c)).await;
    until("it follows az-d", || c.group().view().leader == Some(id_d)).await;
    assert!(!has_removed(&c, "az-d"));
}
