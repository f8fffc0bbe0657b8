//! The fuzz targets' way in (`crate::fuzz`): what operators ask, up to the question to the driver.

use prost::Message as _;

use super::{Failure, LONGEST_WAIT, directive, member, roster, wait, while_paused};
use crate::proto;
use crate::raft;

/// One request: the first byte chooses the method.
pub fn operator(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 6 {
        0 => drop(proto::StatusRequest::decode(bytes).map(|r| verb(&raft::Verb::Status(r)))),
        1 => drop(proto::TransferLeaderRequest::decode(bytes).map(|r| verb(&raft::Verb::Transfer(r)))),
        2 => drop(proto::OrderRequest::decode(bytes).map(|r| verb(&raft::Verb::Order(r)))),
        5 => drop(proto::MembersRequest::decode(bytes).map(|r| verb(&raft::Verb::Members(r)))),
        3 => drop(proto::HistoryRequest::decode(bytes).map(|r| usize::try_from(r.limit))),
        // What another member failed with, on its way to the operator.
        _ => drop(proto::Failure::decode(bytes).map(|f| tonic::Status::from(Failure(f)))),
    }
}

/// What a request becomes.
pub fn verb(verb: &raft::Verb) {
    match verb {
        raft::Verb::Status(_) | raft::Verb::Examine(_) => {}
        raft::Verb::Transfer(request) => {
            drop(request.to.as_deref().map(member).transpose());
            let _ = (wait(request.wait_ms) <= LONGEST_WAIT, while_paused(request.force));
        }
        raft::Verb::Members(request) => drop(roster(request).map_err(tonic::Status::from)),
        raft::Verb::Order(request) => drop(directive(request).map_err(tonic::Status::from)),
    }
}

/// Target, name, bytes.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let with = |which: u8, bytes: Vec<u8>| [&[which], bytes.as_slice()].concat();
    let transfer =
        proto::TransferLeaderRequest { to: Some("az-b".into()), wait_ms: 10_000, dry_run: true, force: true };
    let drain = proto::OrderRequest { order: 1, member: "az-a".into(), force: true, wait_ms: 10_000 };
    let newcomer = proto::Newcomer {
        name: "az-d".into(),
        peer: "10.0.4.10:7400".into(),
        admin: Some("10.0.4.10:7401".into()),
        priority: Some(50),
        witness: true,
    };
    let add = proto::MembersRequest { newcomer: Some(newcomer), ..proto::MembersRequest::default() };
    let add = proto::MembersRequest { change: proto::members_request::Change::Add.into(), ..add };
    let failure = proto::Failure {
        kind: "refused".into(),
        cause: "the group is paused".into(),
        next: "vipctl resume".into(),
    };
    vec![
        ("operator", "status", with(0, proto::StatusRequest { local: true }.encode_to_vec())),
        ("operator", "transfer", with(1, transfer.encode_to_vec())),
        ("operator", "drain", with(2, drain.encode_to_vec())),
        ("operator", "history", with(3, proto::HistoryRequest { limit: 20 }.encode_to_vec())),
        ("operator", "member-add", with(5, add.encode_to_vec())),
        ("operator", "failure", with(4, failure.encode_to_vec())),
    ]
}
