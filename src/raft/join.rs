//! Taking in a new incarnation: learner first, then voter (FENCING.md, hole 9).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::form::hello;
use super::types::Node;
use crate::clock;
use crate::model::{GroupId, Incarnation, Name};
use crate::proto;
use crate::runtime;

/// The old incarnation must have been silent for so long before it is replaced.
const SILENT: Duration = Duration::from_secs(10);

/// A member of a group that is being founded, or that has just restarted, hears its leader before it
/// would have to ask.
const FIRST_ASK: Duration = Duration::from_secs(3);

/// How often a newcomer asks.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long one member may take to answer a newcomer: a request that was lost in a partition must not keep it
/// from asking after the partition. What is under way then goes on, and the next request finds it done.
const ASK_DEADLINE: Duration = Duration::from_secs(3);

/// A learner has so long to catch up: the ledger is small.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Why a newcomer is not taken in (yet).
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinError {
    #[error("this member is not the leader")]
    NotLeader,
    #[error("the request is of another cluster or group")]
    Stranger,
    #[error("{0} is not in this member's [[members]] list; add it to every file")]
    NotListed(String),
    #[error("the address listed for {0} does not answer with that data directory")]
    NotAtItsAddress(Name),
    #[error(
        "the old data directory of {0} was heard {1} ms ago: it is replaced once it has been silent for 10 s"
    )]
    OldLives(Name, u128),
    #[error("another membership change is under way")]
    Busy,
    #[error("the membership change failed: {0}")]
    Raft(String),
}

/// Takes the newcomer in, if this member leads and the newcomer is who it says.
pub(super) async fn admit(shared: &Arc<Shared>, request: proto::JoinRequest) -> Result<(), JoinError> {
    let raft = shared.raft.get().filter(|r| r.is_leader()).ok_or(JoinError::NotLeader)?;
    let same = request.cluster == shared.cluster.as_str()
        && GroupId::from_bytes(&request.group) == shared.store.group();
    if !same {
        return Err(JoinError::Stranger);
    }
    let listed = shared.members.iter().find(|m| m.name.as_str() == request.member);
    let member = listed.ok_or_else(|| JoinError::NotListed(request.member.clone()))?;
    let newcomer = Incarnation(request.incarnation);
    let at_address = hello(shared, member)
        .await
        .is_ok_and(|h| Incarnation(h.incarnation) == newcomer && h.member == request.member);
    if !at_address {
        return Err(JoinError::NotAtItsAddress(member.name.clone()));
    }
    let _one_at_a_time = shared.changing.try_lock().map_err(|_| JoinError::Busy)?;
    let old: BTreeSet<u64> = shared
        .nodes()
        .into_iter()
        .filter(|(id, node)| node.name == request.member && *id != newcomer)
        .map(|(id, _)| id.0)
        .collect();
    for id in &old {
        // A leader that was elected a moment ago has not called everybody yet.
        let since = shared.last_answer(Incarnation(*id)).unwrap_or_default().max(shared.led_since());
        {
            let silent = clock::now().since(since);
            if silent < SILENT {
                return Err(JoinError::OldLives(member.name.clone(), silent.as_millis()));
            }
        }
    }
    let failed = |e: String| JoinError::Raft(e);
    let node = Node { name: request.member, peer: member.peer.clone() };
    let learn = raft.add_learner(newcomer.0, node, true);
    runtime::timeout(CATCH_UP, learn)
        .await
        .map_err(|_| failed("the newcomer did not catch up within 10 s".to_owned()))?
        .map_err(|e| failed(e.to_string()))?;
    fault!(wait "join.learner", error(e) => return Err(failed(e.to_string())));
    let mut voters: BTreeSet<u64> = raft.voter_ids().filter(|id| !old.contains(id)).collect();
    voters.insert(newcomer.0);
    let change = raft.change_membership(voters, false);
    runtime::timeout(CATCH_UP, change)
        .await
        .map_err(|_| failed("no quorum within 10 s".to_owned()))?
        .map_err(|e| failed(e.to_string()))?;
    tracing::info!(member = %member.name, incarnation = %newcomer, "taken in as a voter");
    Ok(())
}

/// Asks every member to be taken in, until the membership shows this incarnation as a voter.
pub(super) async fn until_taken_in(shared: Arc<Shared>) {
    let mut told = String::new();
    runtime::sleep(FIRST_ASK).await;
    loop {
        if shared.is_voter() {
            return;
        }
        fault!(wait "join.ask");
        for member in shared.members.iter().filter(|m| m.name != shared.name) {
            let request = proto::JoinRequest {
                cluster: shared.cluster.to_string(),
                group: shared.store.group().map(GroupId::to_bytes).unwrap_or_default(),
                member: shared.name.to_string(),
                incarnation: shared.me.0,
            };
            let (to, address) = (member.name.as_str(), &member.peer);
            let call =
                shared.links.call(to, address, ASK_DEADLINE, |mut c| async move { c.join(request).await });
            let answer = call.await;
            if let Ok(answer) = answer
                && !answer.taken_in
                && answer.reason != JoinError::NotLeader.to_string()
                && answer.reason != told
            {
                tracing::warn!(by = %member.name, "not taken in yet: {}", answer.reason);
                told = answer.reason;
            }
        }
        runtime::sleep(ASK_EVERY).await;
    }
}
