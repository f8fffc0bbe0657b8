//! The sender in a message is the one in the certificate, or the message is refused.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use vipd::ledger::Ledger;
use vipd::model::{GroupId, Term, Time};
use vipd::proto::peer_client::PeerClient;
use vipd::proto::{
    AppendRequest, Blank, Entry, Envelope, ExamineRequest, FormRequest, ForwardRequest, HelloRequest,
    JoinRequest, LogId, MembersRequest, Membership, OrderRequest, RaftNode, RaftVote, ReportRequest,
    SnapshotRequest, StatusRequest, TransferLeaderRequest, TransferRequest, VoteRequest, Voters,
    append_response, entry,
};
use vipd::raft::{Answer, Passed, Verb, Who};
use vipd::tls::{Credentials, Speaker, Transport, Whom};

use crate::member::{self, GROUP, Running, name};
use crate::pki::Pki;

/// The incarnations of az-b and az-c.
const B: u64 = 99;
const C: u64 = 77;

struct Scene {
    pki: Pki,
    address: String,
    running: Running,
}

impl Scene {
    async fn new() -> Self {
        let pki = Pki::new();
        let mine = Credentials::of_member(pki.issue("member/az-a"), &name("edge"), &name("az-a")).unwrap();
        let member = member::new(Some(GROUP)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        member.serve(listener, &Transport::Mutual(Arc::new(mine)));
        Self { pki, address, running: member.start().await }
    }

    /// Speaks with that member's certificate.
    async fn client(&self, who: &str) -> PeerClient<Channel> {
        let files = self.pki.issue(&format!("member/{who}"));
        let credentials = Arc::new(Credentials::of_member(files, &name("edge"), &name(who)).unwrap());
        let address = self.address.clone();
        let connect = tower::service_fn(move |_| {
            let (credentials, address) = (Arc::clone(&credentials), address.clone());
            async move { credentials.connect(Whom::Member(name("az-a")), &address).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://vipd").connect_with_connector(connect).await.unwrap();
        PeerClient::new(channel)
    }

    fn envelope(&self, from: u64) -> Option<Envelope> {
        Some(Envelope { cluster: "edge".into(), group: GROUP.to_bytes(), from, to: self.running.me.0 })
    }

    fn membership(&self) -> Membership {
        let node =
            |name: &str| RaftNode { name: name.into(), peer: "127.0.0.1:1".into(), ..RaftNode::default() };
        let ids = vec![self.running.me.0, B, C];
        let nodes = [(self.running.me.0, node("az-a")), (B, node("az-b")), (C, node("az-c"))];
        Membership { configs: vec![Voters { ids }], nodes: nodes.into_iter().collect() }
    }

    /// As the leader of term 1, with the membership as the first entry.
    fn append(&self, from: u64, voted_for: u64) -> AppendRequest {
        let membership = self.membership();
        let log_id = LogId { term: 1, index: 0 };
        AppendRequest {
            envelope: self.envelope(from),
            vote: Some(RaftVote { term: 1, voted_for, committed: true }),
            prev_log_id: None,
            entries: vec![Entry {
                log_id: Some(log_id),
                payload: Some(entry::Payload::Membership(membership)),
            }],
            leader_commit: Some(log_id),
        }
    }

    fn vote(&self, from: u64, voted_for: u64) -> VoteRequest {
        VoteRequest {
            envelope: self.envelope(from),
            vote: Some(RaftVote { term: 5, voted_for, committed: false }),
            last_log_id: Some(LogId { term: 1, index: 9 }),
            ..VoteRequest::default()
        }
    }
}

#[tokio::test]
async fn fault_65_a_forged_sender_is_refused() {
    let scene = Scene::new().await;
    let (mut b, mut c) = (scene.client("az-b").await, scene.client("az-c").await);
    // While the membership is not known yet, any member that the file lists may bring it: its own way.
    let stranger = scene.client("az-z").await.append(scene.append(B, B)).await.expect_err("not listed");
    assert_eq!(stranger.code(), Code::PermissionDenied, "{stranger}");
    let twisted = b.append(scene.append(B, C)).await.expect_err("another's vote");
    assert!(twisted.message().contains("speaks in the name of"), "{twisted}");
    let answer = b.append(scene.append(B, B)).await.unwrap().into_inner();
    assert_eq!(answer.result, Some(append_response::Result::Success(Blank {})));

    // From now on 99 is az-b's.
    let refused = c.append(scene.append(B, B)).await.expect_err("az-c says it is az-b");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("spiffe://edge/member/az-c"), "{refused}");
    for (from, voted_for) in [(B, B), (B, C), (C, B)] {
        let words =
            if from == C { "speaks in the name of" } else { "and comes from spiffe://edge/member/az-c" };
        let refused = c.vote(scene.vote(from, voted_for)).await.expect_err("forged");
        assert!(refused.message().contains(words), "{from} {voted_for}: {refused}");
        let refused = c.pre_vote(scene.vote(from, voted_for)).await.expect_err("forged");
        assert!(refused.message().contains(words), "{from} {voted_for}: {refused}");
    }
    let report = |from: u64, name: &str, membership: u64| ReportRequest {
        envelope: scene.envelope(from),
        member: Some(vipd::proto::Member { name: name.into(), ..Default::default() }),
        membership,
    };
    // One more membership, so that whoever knows the first and is in neither was removed.
    let (first, second) = (LogId { term: 1, index: 0 }, LogId { term: 1, index: 1 });
    let payload = Some(entry::Payload::Membership(scene.membership()));
    let newer = AppendRequest {
        prev_log_id: Some(first),
        entries: vec![Entry { log_id: Some(second), payload }],
        leader_commit: Some(second),
        ..scene.append(B, B)
    };
    let answer = b.append(newer).await.unwrap().into_inner();
    assert_eq!(answer.result, Some(append_response::Result::Success(Blank {})));
    let told = b.report(report(55, "az-b", 1)).await.unwrap().into_inner();
    assert_eq!(told.removed_at, Some(2), "an earlier directory of az-b");
    for forged in [report(B, "az-b", 0), report(B, "az-c", 0), report(55, "az-b", 1)] {
        assert_eq!(c.report(forged).await.expect_err("forged").code(), Code::PermissionDenied);
    }
    // Its own words it may say.
    assert_eq!(
        c.report(report(C, "az-c", 0)).await.unwrap().into_inner().member.map(|m| m.name),
        Some(String::new())
    );
}

#[tokio::test]
async fn fault_65_nobody_greets_founds_or_joins_in_anothers_name() {
    let scene = Scene::new().await;
    let mut c = scene.client("az-c").await;
    let hello = |member: &str| HelloRequest { cluster: "edge".into(), member: member.into(), incarnation: C };
    assert_eq!(c.hello(hello("az-b")).await.expect_err("forged").code(), Code::PermissionDenied);
    assert_eq!(c.hello(hello("az-c")).await.unwrap().into_inner().member, "az-a");
    let join = |member: &str| JoinRequest {
        cluster: "edge".into(),
        group: GroupId(7).to_bytes(),
        member: member.into(),
        incarnation: C,
    };
    assert_eq!(c.join(join("az-b")).await.expect_err("forged").code(), Code::PermissionDenied);
    assert!(!c.join(join("az-c")).await.unwrap().into_inner().taken_in);
    let form = FormRequest { cluster: "edge".into(), from: "az-a".into(), ..FormRequest::default() };
    assert_eq!(c.form(form).await.expect_err("forged").code(), Code::PermissionDenied);
}

/// Who a message says that it is of.
#[derive(Clone, Copy, Debug)]
struct Says {
    name: &'static str,
    from: u64,
    /// In whose name a vote, an append, a snapshot or a transfer is.
    voted_for: u64,
}

/// What carries a vote: in whose name it is.
const OF_A_VOTE: [&str; 5] = ["Append", "Vote", "PreVote", "Snapshot", "Transfer"];

/// The methods of the peer port, from their descriptors.
fn methods() -> Vec<String> {
    let all = crate::roles::methods();
    all.iter().filter_map(|path| path.strip_prefix("/vipd.v1.Peer/")).map(str::to_owned).collect()
}

impl Scene {
    /// The message of a method, whole but for who sends it. It would change the term, where it has one.
    async fn say(&self, client: &mut PeerClient<Channel>, method: &str, says: Says) -> Result<(), Status> {
        let Says { name, from, voted_for } = says;
        let (cluster, group, envelope) = ("edge".to_owned(), GROUP.to_bytes(), self.envelope(from));
        let vote = Some(RaftVote { term: 5, voted_for, committed: true });
        let (at, to) = (Some(LogId { term: 1, index: 0 }), self.running.me.0);
        match method {
            "Hello" => {
                let request = HelloRequest { cluster, member: name.into(), incarnation: from };
                client.hello(request).await.map(drop)
            }
            "Form" => {
                let (from, to_incarnation) = (name.into(), to);
                let members = vec!["az-a=127.0.0.1:7400".into()];
                let request =
                    FormRequest { cluster, group, from, to: "az-a".into(), to_incarnation, members };
                client.form(request).await.map(drop)
            }
            "Join" => {
                let request = JoinRequest { cluster, group, member: name.into(), incarnation: from };
                client.join(request).await.map(drop)
            }
            "Append" => {
                let entries = vec![Entry {
                    log_id: Some(LogId { term: 5, index: 1 }),
                    payload: Some(entry::Payload::Blank(Blank {})),
                }];
                let leader_commit = at;
                let request = AppendRequest { envelope, vote, prev_log_id: at, entries, leader_commit };
                client.append(request).await.map(drop)
            }
            "Vote" => client.vote(self.vote(from, voted_for)).await.map(drop),
            "PreVote" => client.pre_vote(self.vote(from, voted_for)).await.map(drop),
            "Snapshot" => {
                let data = serde_json::to_vec(&Ledger::default()).unwrap();
                let (last, membership_at) = (Some(LogId { term: 5, index: 9 }), at);
                let membership = self.membership();
                let request = SnapshotRequest {
                    envelope,
                    vote,
                    last_log_id: last,
                    membership_log_id: membership_at,
                    membership: Some(membership),
                    data,
                };
                client.snapshot(request).await.map(drop)
            }
            "Transfer" => {
                let request = TransferRequest { envelope, from_leader: vote, to, last_log_id: at };
                client.transfer(request).await.map(drop)
            }
            "Report" => {
                let member = Some(vipd::proto::Member { name: name.into(), ..Default::default() });
                client.report(ReportRequest { envelope, member, membership: 0 }).await.map(drop)
            }
            "Forward" => {
                let verb = Some(Verb::Order(OrderRequest { order: 1, ..OrderRequest::default() }));
                let (who, role) = ("spiffe://edge/operator/alice".into(), "operator".into());
                client.forward(ForwardRequest { envelope, verb, who, role }).await.map(drop)
            }
            other => panic!("{other}: write its message here"),
        }
    }

    /// What a forged message would have changed.
    fn known(&self) -> (Term, u64, u64, Option<Time>, u64) {
        let view = self.running.group.view();
        let applied = self.running.group.applied().borrow().index;
        (view.term, view.last_index, view.membership, view.heard, applied)
    }
}

#[tokio::test]
async fn fault_65_no_message_is_taken_from_another_than_its_sender() {
    let scene = Scene::new().await;
    let mut b = scene.client("az-b").await;
    b.append(scene.append(B, B)).await.unwrap();
    let before = scene.known();
    let (mut c, mut z) = (scene.client("az-c").await, scene.client("az-z").await);
    let methods = methods();
    assert!(OF_A_VOTE.iter().all(|method| methods.iter().any(|m| m == method)));
    for method in &methods {
        // As az-b; as this member itself.
        for (name, from) in [("az-b", B), ("az-a", scene.running.me.0)] {
            let says = Says { name, from, voted_for: from };
            for (client, who) in [(&mut c, "az-c"), (&mut z, "az-z")] {
                let refused = scene.say(client, method, says).await.expect_err(method);
                assert_eq!(refused.code(), Code::PermissionDenied, "{method} of {name} by {who}: {refused}");
                let by = format!("comes from spiffe://edge/member/{who}");
                assert!(refused.message().contains(&by), "{method} of {name} by {who}: {refused}");
            }
        }
        // By its right sender, in another's name.
        if OF_A_VOTE.contains(&method.as_str()) {
            let says = Says { name: "az-c", from: C, voted_for: B };
            let refused = scene.say(&mut c, method, says).await.expect_err(method);
            assert!(refused.message().contains("speaks in the name of"), "{method}: {refused}");
        }
        // By one of the CA's that is in no list, as itself: all that has an envelope.
        if !["Hello", "Form", "Join"].contains(&method.as_str()) {
            let says = Says { name: "az-z", from: 1234, voted_for: 1234 };
            let refused = scene.say(&mut z, method, says).await.expect_err(method);
            assert_eq!(refused.code(), Code::PermissionDenied, "{method}: {refused}");
            assert!(refused.message().contains("is no member of this group"), "{method}: {refused}");
        }
    }
    assert_eq!(scene.known(), before, "a forged message has changed something");
    // Each of them by its sender gets as far as what it asks for.
    for method in &methods {
        if let Err(status) = scene.say(&mut b, method, Says { name: "az-b", from: B, voted_for: B }).await {
            let sender = ["speaks in the name of", "comes from", "is no member of"];
            let because = sender.iter().any(|words| status.message().contains(words));
            assert!(status.code() != Code::PermissionDenied && !because, "{method}: {status}");
        }
    }
    assert_ne!(scene.known(), before, "what was forged would have changed something");
}

/// What an operator may ask, and a viewer may not.
fn orders() -> [Verb; 5] {
    use vipd::proto::members_request::Change;
    let members = |change: Change| MembersRequest {
        change: change.into(),
        member: "az-b".into(),
        ..Default::default()
    };
    [
        Verb::Transfer(TransferLeaderRequest::default()),
        Verb::Order(OrderRequest { order: 1, member: "az-b".into(), ..OrderRequest::default() }),
        Verb::Members(members(Change::Remove)),
        Verb::Members(members(Change::List)),
        Verb::Examine(ExamineRequest {}),
    ]
}

/// The kind of failure: this member has a desk that belongs to no group, so that what comes there is answered so.
fn kind(answer: Option<Answer>) -> String {
    let Some(Answer::Failure(failure)) = answer else { panic!("{answer:?}") };
    assert!(!failure.cause.is_empty() && !failure.next.is_empty(), "{failure:?}");
    failure.kind
}

#[tokio::test]
async fn fault_64_what_a_member_passes_on_needs_the_role_of_an_operator() {
    let scene = Scene::new().await;
    let mut b = scene.client("az-b").await;
    b.append(scene.append(B, B)).await.unwrap();
    let (desk, _kept) = member::desk();
    let answering = desk.clone();
    scene.running.group.set_desk(Box::new(move |passed| {
        let desk = answering.clone();
        Box::pin(async move { desk.answer(passed).await })
    }));
    let mut pass_on = async |verb: &Verb, who: &str, role: &str| {
        let request = ForwardRequest {
            envelope: scene.envelope(B),
            verb: Some(verb.clone()),
            who: who.into(),
            role: role.into(),
        };
        kind(b.forward(request).await.unwrap().into_inner().answer)
    };
    for verb in orders() {
        let viewer = "spiffe://edge/viewer/eve";
        for (who, role) in
            [(viewer, "viewer"), (viewer, "member"), (viewer, "Operator"), ("", ""), (viewer, "")]
        {
            assert_eq!(pass_on(&verb, who, role).await, "refused", "{verb:?} of {who:?} as {role:?}");
        }
        let operator = pass_on(&verb, "spiffe://edge/operator/alice", "operator").await;
        assert!(["no-quorum", "usage"].contains(&operator.as_str()), "{verb:?}: {operator}");
        // Without TLS nobody has a role, here as on every port.
        let passed = Passed { verb: verb.clone(), by: Speaker::Unproven, who: Who::default() };
        assert_ne!(kind(Some(desk.answer(passed).await)), "refused", "{verb:?}");
    }
    // Members read each other's status for themselves.
    let status = Verb::Status(StatusRequest { local: true });
    assert_eq!(pass_on(&status, "", "").await, "no-quorum");
}
