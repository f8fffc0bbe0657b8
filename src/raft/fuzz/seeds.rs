//! Real messages, by the codec's own examples.

use super::*;
use crate::model::{Term, WallMs};
use crate::raft::codec::tests::{append, commands, id, push, transfer, vote_request};
use crate::raft::types::Vote;

fn envelope() -> proto::Envelope {
    proto::Envelope { cluster: "edge".into(), group: GroupId(7).to_bytes(), from: 1, to: 3 }
}

fn members() -> Vec<String> {
    vec!["az-a=10.0.1.10:7400".into(), "az-b=10.0.2.10:7400".into(), "az-c=10.0.3.10:7400".into()]
}

fn member() -> proto::Member {
    proto::Member {
        name: "az-b".into(),
        zone: "eu-west-1b".into(),
        role: "follower".into(),
        voter: true,
        reachable: true,
        health: "unhealthy".into(),
        health_reason: "http check: no answer within 500 ms".into(),
        eni: "eni-0b".into(),
        peer: "10.0.2.10:7400".into(),
        admin: "10.0.2.10:7401".into(),
        applied: 93,
        version: "0.1.0".into(),
        priority: 100,
        lease_ms: 200,
        incarnation: "0000000000000003".into(),
        cloud_error: "ReplaceRoute: no answer within 1000 ms".into(),
        cloud_seen_ms: Some(250),
        ..Default::default()
    }
}

/// With the byte in front that chooses the message.
fn chosen(which: u8, message: &impl Message) -> Vec<u8> {
    [&[which], message.encode_to_vec().as_slice()].concat()
}

fn sent<T: Wire>(which: u8, value: &T) -> Vec<u8>
where
    T::Message: Message,
{
    chosen(which, &value.to_proto().expect("an example can be sent"))
}

fn raft() -> Vec<(&'static str, Vec<u8>)> {
    type Appended = AppendEntriesResponse<TypeConfig>;
    vec![
        ("append", sent(0, &append())),
        ("heartbeat", sent(0, &AppendEntriesRequest { entries: vec![], ..append() })),
        ("append-done", sent(1, &Appended::Success)),
        ("append-partial", sent(1, &Appended::PartialSuccess(Some(id(1, 2))))),
        ("append-higher-vote", sent(1, &Appended::HigherVote(Vote::new(9, 2)))),
        ("vote", sent(2, &vote_request())),
        ("voted", sent(3, &VoteResponse::<TypeConfig>::new(Vote::new(8, 2), Some(id(7, 11)), true))),
        ("snapshot", sent(4, &push())),
        ("snapshot-done", sent(5, &SnapshotResponse::<TypeConfig>::new(Vote::new_committed(7, 1)))),
        ("transfer", sent(6, &transfer())),
        ("transfer-refused", sent(7, &TransferAnswer::Refused("the log is behind".to_owned()))),
    ]
}

fn group() -> Vec<(&'static str, Vec<u8>)> {
    use proto::forward_request::Verb;
    let (cluster, group) = ("edge".to_owned(), GroupId(7).to_bytes());
    let hello = proto::HelloRequest { cluster: cluster.clone(), member: "az-a".into(), incarnation: 1 };
    let answer = proto::HelloResponse {
        cluster: cluster.clone(),
        member: "az-b".into(),
        incarnation: 3,
        group: group.clone(),
        members: members(),
        founded: true,
    };
    let form = proto::FormRequest {
        cluster: cluster.clone(),
        group: group.clone(),
        from: "az-a".into(),
        to: "az-b".into(),
        to_incarnation: 3,
        members: members(),
    };
    let join = proto::JoinRequest { cluster, group, member: "az-b".into(), incarnation: 5 };
    let refused = proto::JoinResponse { taken_in: false, reason: "this member is not the leader".into() };
    let forward =
        |verb| proto::ForwardRequest { envelope: Some(envelope()), verb: Some(verb), ..Default::default() };
    let transfer = proto::TransferLeaderRequest { to: Some("az-c".into()), ..Default::default() };
    let report =
        proto::ReportRequest { envelope: Some(envelope()), member: Some(member()), ..Default::default() };
    let order = proto::OrderRequest { order: 1, member: "az-b".into(), ..Default::default() };
    let (who, role) = ("spiffe://edge/operator/alice".into(), "operator".into());
    let named = proto::ForwardRequest { who, role, ..forward(Verb::Order(order)) };
    let told = proto::ReportResponse {
        member: Some(member()),
        membership: 12,
        members: vec!["az-a".into(), "az-b".into()],
        ..Default::default()
    };
    let failure =
        proto::Failure { kind: "refused".into(), cause: "it is paused".into(), next: "vipctl resume".into() };
    let failed = proto::ForwardResponse { answer: Some(proto::forward_response::Answer::Failure(failure)) };
    vec![
        ("hello", chosen(8, &hello)),
        ("hello-answer", chosen(9, &answer)),
        ("form", chosen(10, &form)),
        ("join", chosen(11, &join)),
        ("join-refused", chosen(12, &refused)),
        ("report", chosen(13, &report)),
        ("report-answer", chosen(16, &told)),
        ("forward-failed", chosen(17, &failed)),
        ("forward-status", chosen(14, &forward(Verb::Status(proto::StatusRequest { local: true })))),
        ("forward-transfer", chosen(14, &forward(Verb::Transfer(transfer)))),
        ("forward-order", chosen(14, &named)),
        ("lifeline", chosen(15, &proto::LifelineGreeting { envelope: Some(envelope()), term: 7 })),
    ]
}

/// Target, name, bytes.
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut seeds: Vec<_> = raft().into_iter().chain(group()).map(|(name, b)| ("peer", name, b)).collect();
    seeds.push(("log", "entries", append().to_proto().expect("an example").encode_to_vec()));
    let every = AppendEntriesRequest { prev_log_id: None, entries: commands(), ..append() };
    seeds.push(("log", "every-command", every.to_proto().expect("an example").encode_to_vec()));
    let heartbeat = AppendEntriesRequest { entries: vec![], ..append() };
    seeds.push(("log", "heartbeat", heartbeat.to_proto().expect("an example").encode_to_vec()));
    let mut ledger = Ledger::default();
    for entry in commands() {
        if let EntryPayload::Normal(command) = entry.payload {
            ledger.apply(entry.log_id.index, entry.log_id.leader_id.term, &command);
        }
    }
    let full = SnapshotPush { data: serde_json::to_vec(&ledger).expect("a ledger"), ..push() };
    seeds.push(("snapshot", "sent", sent(0, &full)));
    seeds.push(("snapshot", "kept", sent(1, &SnapshotPush { vote: None, ..full })));
    let founding = br#"{"group":7,"members":{"1":"az-a","3":"az-b"}}"#;
    assert!(serde_json::from_slice::<Founding>(founding).is_ok());
    let founding = [&[2], founding.as_slice()].concat();
    seeds.push(("snapshot", "founding", founding));
    assert!(ledger.claim.is_some_and(|c| c.term == Term(3) && c.at == WallMs(5)));
    seeds
}
