//! There and back; and whatever else comes over a wire.

use std::fmt::Debug;

use prost::Message;

use super::*;
use crate::model::{Term, WallMs};

pub(in crate::raft) fn id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        peer: format!("{name}.example:7400"),
        admin: Some(format!("{name}.example:7401")),
        zone: Some("eu-west-1a".to_owned()),
        priority: Some(200),
        witness: true,
    }
}

/// A claim on as many routes as a file may ask for is one entry, however long their names are.
#[test]
fn the_longest_claim_fits_into_an_entry() {
    let vip: crate::model::Vip = "fd00:1111:2222:3333:4444:5555:6666:7777/128".parse().unwrap();
    let route = |n: usize| crate::model::RouteKey { table: format!("rtb-{n:017x}").parse().unwrap(), vip };
    let claim = |n: usize| Command::Claim {
        member: "m".repeat(63).parse().unwrap(),
        term: Term(u64::MAX),
        at: WallMs(u64::MAX),
        routes: (0..n).map(route).collect(),
    };
    let max = crate::model::route::ROUTES_MAX;
    let length = serde_json::to_vec(&claim(max)).unwrap().len();
    assert!(length <= MAX_COMMAND_BYTES, "{length}");
    // The bound is no tighter than it has to be.
    assert!(serde_json::to_vec(&claim(max + 30)).unwrap().len() > MAX_COMMAND_BYTES, "{length}");
}

/// A group that was founded before a node said more than its name and address.
#[test]
fn a_node_of_old_data_is_as_usual() {
    let old = proto::RaftNode {
        name: "az-a".to_owned(),
        peer: "az-a:7400".to_owned(),
        ..proto::RaftNode::default()
    };
    // Fields 1 and 2, as they were written then.
    let bytes = b"\x0a\x04az-a\x12\x09az-a:7400";
    assert_eq!(old.encode_to_vec(), bytes);
    let node = Node::from_proto(proto::RaftNode::decode(&bytes[..]).unwrap()).unwrap();
    let member = node.member().unwrap();
    assert_eq!((member.priority, member.witness, member.admin), (100, false, None));
    let json = r#"{"name":"az-a","peer":"az-a:7400"}"#;
    assert_eq!(serde_json::from_str::<Node>(json).unwrap(), node);
}

fn membership() -> Membership {
    let nodes = BTreeMap::from([(1, node("az-a")), (u64::MAX, node("az-b")), (3, node("az-c"))]);
    Membership::new(vec![[1].into(), [1, u64::MAX].into()], nodes).unwrap()
}

fn entry(term: u64, index: u64, payload: EntryPayload<Command, u64, Node>) -> Entry {
    Entry { log_id: id(term, index), payload }
}

fn note(text: &str) -> Command {
    let name = |text: &str| text.parse().expect("a name");
    Command::Handover {
        from: name("az-a"),
        to: name("az-b"),
        term: Term(3),
        reason: text.to_owned(),
        at: WallMs(1),
    }
}

/// A command of every kind, in a log from its beginning, as a group would agree on them.
pub(in crate::raft) fn commands() -> Vec<Entry> {
    use crate::ledger::Phases;
    use crate::model::{Epoch, RouteKey};
    let name = |text: &str| text.parse().expect("a name");
    let route = |table: &str| RouteKey {
        table: table.parse().expect("a table"),
        vip: "192.168.77.10/32".parse().expect("a VIP"),
    };
    let routes = vec![route("rtb-0a"), route("rtb-0b")];
    let phases = Phases { detect: Some(312_000), elect: Some(9_000), ..Phases::default() };
    let claim = |member: &str, at| Command::Claim {
        member: name(member),
        term: Term(3),
        at: WallMs(at),
        routes: routes.clone(),
    };
    let all = [
        Command::Pause { at: WallMs(1) },
        Command::Resume,
        Command::Drain { member: name("az-c") },
        Command::Undrain { member: name("az-c") },
        claim("az-b", 4),
        Command::Intent { epoch: Epoch(4), serial: 1, routes: routes.clone() },
        Command::Outcome { epoch: Epoch(4), serial: 1, settled: vec![route("rtb-0a")] },
        note("asked by an operator"),
        Command::Recall { term: Term(3), at: WallMs(1) },
        claim("az-a", 5),
        Command::Moved {
            epoch: Epoch(9),
            phases,
            total_us: 352_000,
            in_sync: true,
            request_ids: vec!["59dbff89-35bd-4eac-99ed-be587EXAMPLE".to_owned()],
        },
        Command::Calm { epoch: Epoch(9) },
    ];
    (0..).zip(all).map(|(index, command)| entry(3, index, EntryPayload::Normal(command))).collect()
}

fn entries() -> Vec<Entry> {
    let note = |text: &str| EntryPayload::Normal(note(text));
    vec![
        entry(3, 8, EntryPayload::Blank),
        entry(3, 9, note("a \"quoted\" one, für alle")),
        entry(4, 10, EntryPayload::Membership(membership())),
        entry(7, 11, note("")),
    ]
}

pub(in crate::raft) fn append() -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: Vote::new_committed(7, 1),
        prev_log_id: Some(id(2, 7)),
        entries: entries(),
        leader_commit: Some(id(3, 9)),
    }
}

pub(in crate::raft) fn vote_request() -> VoteRequest<TypeConfig> {
    let vote = Vote::new(8, 0xffff_0000_1111_2222);
    VoteRequest { vote, last_log_id: Some(id(7, 11)), leadership_transfer: true }
}

pub(in crate::raft) fn push() -> SnapshotPush {
    let mut ledger = Ledger::default();
    ledger.apply(9, 3, &note("kept"));
    SnapshotPush {
        vote: Some(Vote::new_committed(7, 1)),
        meta: SnapshotMeta {
            last_log_id: Some(id(3, 9)),
            last_membership: StoredMembership::new(Some(id(2, 4)), membership()),
        },
        data: serde_json::to_vec(&ledger).unwrap(),
    }
}

pub(in crate::raft) fn transfer() -> TransferLeaderRequest<TypeConfig> {
    TransferLeaderRequest::new(Vote::new_committed(7, 1), 3, Some(id(7, 11)))
}

/// Through the message and its bytes.
fn round_trip<T>(value: T)
where
    T: Wire + Debug,
    T::Message: Message + Default,
{
    let bytes = value.to_proto().unwrap().encode_to_vec();
    let back = T::from_proto(T::Message::decode(bytes.as_slice()).unwrap()).unwrap();
    assert_eq!(format!("{back:?}"), format!("{value:?}"));
}

#[test]
fn every_value_survives_its_message() {
    round_trip(id(5, 6));
    round_trip(id(0, 0));
    round_trip(Vote::new(0, 0));
    round_trip(Vote::new_committed(9, u64::MAX));
    round_trip(membership());
    for entry in entries().into_iter().chain(commands()) {
        round_trip(entry);
    }
    round_trip(append());
    let beginning = AppendEntriesRequest {
        prev_log_id: None,
        entries: vec![entry(0, 0, EntryPayload::Membership(membership()))],
        leader_commit: None,
        ..append()
    };
    round_trip(beginning);
    round_trip(AppendEntriesRequest { entries: vec![], ..append() });
    type Answer = AppendEntriesResponse<TypeConfig>;
    round_trip(Answer::Success);
    round_trip(Answer::PartialSuccess(None));
    round_trip(Answer::PartialSuccess(Some(id(1, 2))));
    round_trip(Answer::Conflict);
    round_trip(Answer::HigherVote(Vote::new(9, 2)));
    round_trip(vote_request());
    round_trip(VoteRequest { last_log_id: None, leadership_transfer: false, ..vote_request() });
    round_trip(VoteResponse::<TypeConfig>::new(Vote::new(8, 2), Some(id(7, 11)), true));
    round_trip(VoteResponse::<TypeConfig>::new(Vote::new(8, 2), None, false));
    round_trip(push());
    let empty = SnapshotMeta::default();
    round_trip(SnapshotPush { vote: None, meta: empty, ..push() });
    round_trip(SnapshotResponse::<TypeConfig>::new(Vote::new_committed(7, 1)));
    round_trip(transfer());
    round_trip(TransferAnswer::Accepted);
    round_trip(TransferAnswer::Refused("the log is behind".to_owned()));
}

fn refused<T: Wire + Debug>(message: T::Message) -> String {
    T::from_proto(message).expect_err("refused").to_string()
}

#[test]
fn what_no_honest_member_says_is_refused() {
    type Append = AppendEntriesRequest<TypeConfig>;
    let base = append().to_proto().unwrap();
    let with = |change: &dyn Fn(&mut proto::AppendRequest)| {
        let mut message = base.clone();
        change(&mut message);
        refused::<Append>(message)
    };
    let index = |m: &mut proto::AppendRequest, at: usize, index| {
        m.entries[at].log_id.as_mut().unwrap().index = index;
    };
    let term = |m: &mut proto::AppendRequest, at: usize, term| {
        m.entries[at].log_id.as_mut().unwrap().term = term;
    };
    assert_eq!(with(&|m| m.vote = None), "an append's vote is missing");
    let uncommitted = with(&|m| m.vote.as_mut().unwrap().committed = false);
    assert!(uncommitted.contains("vote is of the wrong kind"), "{uncommitted}");
    assert!(with(&|m| m.vote.as_mut().unwrap().term = 6).starts_with("term 7 is beyond"));
    assert!(with(&|m| m.vote.as_mut().unwrap().term = u64::MAX).contains("is beyond"));
    assert!(with(&|m| index(m, 0, 9)).contains("follows 8"));
    assert!(with(&|m| index(m, 2, 9)).contains("follows 10"));
    assert!(with(&|m| m.prev_log_id = None).contains("follows 0"));
    assert!(with(&|m| term(m, 2, 2)).contains("follows 10"));
    assert!(with(&|m| m.entries[1].log_id = None).contains("place is missing"));
    assert!(with(&|m| m.entries[1].payload = None).contains("payload is missing"));
    assert!(with(&|m| m.entries = vec![m.entries[0].clone(); MAX_ENTRIES + 1]).contains("4097"));
    assert!(with(&|m| m.leader_commit = Some(proto::LogId { term: 1, index: u64::MAX })).contains("index"));

    let vote = vote_request().to_proto().unwrap();
    let committed = proto::RaftVote { committed: true, ..vote.vote.unwrap() };
    let forged = proto::VoteRequest { vote: Some(committed), ..vote.clone() };
    assert!(refused::<VoteRequest<TypeConfig>>(forged).contains("wrong kind"));
    let greatest = proto::RaftVote { term: u64::MAX, voted_for: 1, committed: false };
    let forged = proto::VoteRequest { vote: Some(greatest), ..vote };
    assert!(refused::<VoteRequest<TypeConfig>>(forged).contains("term 18446744073709551615"));

    let whole = push().to_proto().unwrap();
    let garbled = proto::SnapshotRequest { data: b"{".to_vec(), ..whole.clone() };
    assert!(refused::<SnapshotPush>(garbled).contains("not a ledger"));
    let huge = proto::SnapshotRequest { data: vec![b' '; MAX_SNAPSHOT_BYTES + 1], ..whole.clone() };
    assert!(refused::<SnapshotPush>(huge).contains("more than 2097152"));
    let nowhere = proto::SnapshotRequest { membership_log_id: None, ..whole.clone() };
    assert!(refused::<SnapshotPush>(nowhere).contains("do not go together"));
    let nobodys = proto::SnapshotRequest { vote: None, ..whole };
    assert!(SnapshotPush::from_leader(nobodys.clone()).is_err());
    assert!(SnapshotPush::from_proto(nobodys).is_ok());
    let follower = proto::RaftVote { term: 7, voted_for: 1, committed: false };
    let forged = proto::TransferRequest { from_leader: Some(follower), ..Default::default() };
    assert!(refused::<TransferLeaderRequest<TypeConfig>>(forged).contains("wrong kind"));
}

/// As long as an honest group can make it.
fn full() -> Ledger {
    use crate::ledger::{Kind, Move, Phases};
    use crate::model::{Epoch, RouteKey};
    let name = |i: usize| -> crate::model::Name { format!("{i:063}").parse().unwrap() };
    let us = Some(u64::MAX);
    let a_move = |i: usize| Move {
        kind: Kind::Switchover,
        from: Some(name(i)),
        to: name(i),
        term: Term(MAX_NUMBER),
        epoch: Epoch(MAX_NUMBER),
        reason: "az-b, \"az-c\" [az-d]".repeat(15),
        at: WallMs(u64::MAX),
        total_us: us,
        in_sync: true,
        phases: Phases { detect: us, elect: us, claim: us, address: us, route: us, verify: us },
        request_ids: vec!["59dbff89-35bd-4eac-99ed-be587EXAMPLE".to_owned(); REQUEST_IDS_KEPT],
    };
    let vip = "192.168.77.10/32".parse().unwrap();
    let route = |i: usize| RouteKey { table: format!("rtb-{i:017x}").parse().unwrap(), vip };
    // One intent has so many; routes that were changed by hand, or found by a tag, have intents of their own.
    let routes = 0..2 * crate::model::route::ROUTES_MAX;
    Ledger {
        unsettled: routes.map(|i| (route(i), u64::MAX)).collect(),
        stray: true,
        moves: (0..MOVES_KEPT).map(a_move).collect(),
        drained: (0..MAX_NODES).map(name).collect(),
        paused: Some(WallMs(u64::MAX)),
        seated: (0..MAX_NODES).map(name).collect(),
        removed: (0..REMOVED_KEPT).map(name).collect(),
        ..Ledger::default()
    }
}

#[test]
fn fault_66_a_ledger_is_counted_through_and_no_longer_than_entries_make_it() {
    let sent = |data: Vec<u8>| {
        let taken = SnapshotPush::from_leader(proto::SnapshotRequest { data, ..push().to_proto().unwrap() });
        taken.map(drop).map_err(|error| error.to_string())
    };
    let of = |ledger: &Ledger| sent(serde_json::to_vec(ledger).unwrap());
    of(&full()).unwrap();
    let with = |change: &dyn Fn(&mut Ledger)| {
        let mut ledger = full();
        change(&mut ledger);
        of(&ledger).unwrap_err()
    };
    let first = |l: &Ledger| l.moves[0].clone();
    assert_eq!(with(&|l| l.moves.push_back(first(l))), "past moves are 257, more than 256");
    assert_eq!(
        with(&|l| l.removed.push_back("x".parse().unwrap())),
        "removed members are 257, more than 256"
    );
    assert_eq!(
        with(&|l| l.seated.extend(["x".parse::<crate::model::Name>().unwrap()])),
        "members are 65, more than 64"
    );
    let ids = with(&|l| l.moves[0].request_ids.push(String::new()));
    assert_eq!(ids, "request ids are 65, more than 64");
    // What is no ledger either, where it were looked at: it is counted first.
    for (open, value, close) in
        [("{\"removed\":[\"a\"", ",\"a\"", "]}"), ("[0", ",[]", "]"), ("", "{\"a\":", "")]
    {
        let long = [open.to_owned(), value.repeat(MAX_LEDGER_VALUES), close.to_owned()].concat();
        let refused = sent(long.into_bytes()).unwrap_err();
        assert!(
            refused.starts_with("a ledger's values are ") && refused.ends_with("more than 65536"),
            "{refused}"
        );
    }
    // The store reads as many values as entries have made.
    let many: BTreeSet<crate::model::Name> = (0..70_000).map(|i| format!("{i}").parse().unwrap()).collect();
    let drained = serde_json::to_vec(&Ledger { drained: many, ..Ledger::default() }).unwrap();
    assert!(sent(drained.clone()).is_err());
    let kept = proto::SnapshotRequest { data: drained, ..push().to_proto().unwrap() };
    assert!(SnapshotPush::from_proto(kept).is_ok());
}

#[test]
fn fault_66_the_commands_of_an_append_are_counted_before_they_are_read() {
    let command = format!("[{}]", vec!["\"\""; 4_096].join(","));
    let append = |commands: usize| {
        let entry = |index| proto::Entry {
            log_id: Some(proto::LogId { term: 1, index }),
            payload: Some(proto::entry::Payload::Command(command.clone().into_bytes())),
        };
        let entries = (1..=commands as u64).map(entry).collect();
        let vote = Vote::new_committed(1, 7).to_proto().unwrap();
        let prev_log_id = Some(proto::LogId { term: 1, index: 0 });
        let request = proto::AppendRequest { vote: Some(vote), prev_log_id, entries, ..Default::default() };
        AppendEntriesRequest::from_proto(request).unwrap_err().to_string()
    };
    assert_eq!(append(65), "the commands' values are 266305, more than 262144");
    assert!(!append(63).starts_with("the commands' values"), "read, and no command");
}

#[test]
fn a_membership_has_voters_that_have_nodes_and_is_not_too_large() {
    let of = |configs: Vec<Vec<u64>>, nodes: u64| proto::Membership {
        configs: configs.into_iter().map(|ids| proto::Voters { ids }).collect(),
        nodes: (1..=nodes).map(|id| (id, proto::RaftNode::default())).collect(),
    };
    assert!(Membership::from_proto(of(vec![vec![1, 2]], 3)).is_ok());
    assert!(refused::<Membership>(of(vec![vec![1, 4]], 3)).contains("0000000000000004 has no node"));
    assert!(refused::<Membership>(of(vec![vec![1], vec![]], 3)).contains("without voters"));
    assert!(refused::<Membership>(of(vec![vec![1]; 8], 3)).contains("8, more than 7"));
    assert!(refused::<Membership>(of(vec![vec![1]], 65)).contains("65, more than 64"));
    assert!(refused::<Membership>(of(vec![vec![1; 65]], 3)).contains("65, more than 64"));
    let mut long = of(vec![vec![1]], 1);
    long.nodes.get_mut(&1).unwrap().peer = "x".repeat(261);
    assert!(refused::<Membership>(long).contains("261 bytes"));
    // With no configuration at all every set would be a quorum.
    let payload = Some(proto::entry::Payload::Membership(of(vec![], 0)));
    let log_id = Some(proto::LogId::default());
    assert!(refused::<Entry>(proto::Entry { log_id, payload }).contains("without voters"));
}

#[test]
fn a_command_too_long_for_the_log_is_refused_before_it_is_proposed() {
    let fits = note(&"x".repeat(MAX_COMMAND_BYTES - 120));
    assert!(command_bytes(&fits).is_ok());
    let long = note(&"x".repeat(MAX_COMMAND_BYTES));
    assert!(matches!(command_bytes(&long), Err(CodecError::TooLong { .. })));
    assert!(entry(1, 1, EntryPayload::Normal(long)).to_proto().is_err());
    // The longest that an owner proposes when a move is over: 64 request ids of 64 bytes.
    let ids = vec!["r".repeat(64); crate::ledger::REQUEST_IDS_KEPT];
    let phases = crate::ledger::Phases { detect: Some(u64::MAX), ..Default::default() };
    let epoch = crate::model::Epoch(MAX_NUMBER);
    let moved = Command::Moved { epoch, phases, total_us: u64::MAX, in_sync: true, request_ids: ids };
    assert!(command_bytes(&moved).is_ok());
}

/// xorshift64: the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Random bytes, and `good` with some bytes changed, cut or doubled. How many passed both decoders.
fn abused<T>(random: &mut Random, good: &T) -> usize
where
    T: Wire,
    T::Message: Message + Default,
{
    let good = good.to_proto().unwrap().encode_to_vec();
    let mut passed = 0;
    for round in 0..20_000 {
        let mut bytes = good.clone();
        if round % 4 == 0 {
            bytes = (0..random.below(200)).map(|_| random.next() as u8).collect();
        }
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(at..),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = random.next() as u8;
                    }
                }
            }
        }
        if let Ok(message) = T::Message::decode(bytes.as_slice()) {
            // What passes can be told on: what a member took, it must be able to send.
            if let Ok(value) = T::from_proto(message) {
                assert!(value.to_proto().is_ok());
                passed += 1;
            }
        }
    }
    passed
}

#[test]
fn fault_68_random_bytes_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let r = &mut random;
    let passed = [
        abused(r, &id(5, 6)),
        abused(r, &Vote::new_committed(9, 4)),
        abused(r, &membership()),
        abused(r, &entries()[1]),
        abused(r, &entries()[2]),
        abused(r, &append()),
        abused(r, &AppendEntriesResponse::<TypeConfig>::PartialSuccess(Some(id(1, 2)))),
        abused(r, &vote_request()),
        abused(r, &VoteResponse::<TypeConfig>::new(Vote::new(8, 2), Some(id(7, 11)), true)),
        abused(r, &push()),
        abused(r, &SnapshotResponse::<TypeConfig>::new(Vote::new_committed(7, 1))),
        abused(r, &transfer()),
        abused(r, &TransferAnswer::Refused("busy".to_owned())),
    ];
    // Both ways were taken by each.
    assert!(passed.iter().all(|n| (100..20_000).contains(n)), "{passed:?}");
}
