//! Taking in a new incarnation of a member: learner first, then voter (FENCING.md, hole 9). A name that the group
//! does not know is taken in when an operator says so (`change.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::form::hello;
use super::types::Node;
use super::{Shared, change};
use crate::clock;
use crate::decide::Refusal;
use crate::model::{GroupId, Incarnation, brief};
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
    #[error("the group has no member {0}: vipctl member add {0} --peer HOST:PORT takes it in")]
    NoMember(String),
    #[error("{0} lives at {1}, with another data directory: two members of one name cannot be")]
    AnotherLives(String, String),
    #[error("{1}, where the group knows {0}, does not answer with that data directory")]
    NotAtItsAddress(String, String),
    #[error(
        "the old data directory of {0} was heard {1} ms ago: it is replaced once it has been silent for 10 s"
    )]
    OldLives(String, u128),
    #[error("another membership change is under way")]
    Busy,
    #[error("{0}")]
    Change(#[from] Refusal),
}

/// Takes the newcomer in, if this member leads and the newcomer is who it says.
pub(super) async fn admit(shared: &Arc<Shared>, request: proto::JoinRequest) -> Result<(), JoinError> {
    shared.raft.get().filter(|r| r.is_leader()).ok_or(JoinError::NotLeader)?;
    let same = request.cluster == shared.cluster.as_str()
        && GroupId::from_bytes(&request.group) == shared.store.group();
    if !same {
        return Err(JoinError::Stranger);
    }
    let (name, newcomer) = (brief(&request.member), Incarnation(request.incarnation));
    let of_name: Vec<(Incarnation, Node)> =
        shared.nodes().into_iter().filter(|(_, node)| node.name == name).collect();
    let voter = of_name.iter().find(|(id, _)| change::is_voter(shared, *id));
    let Some((_, node)) = voter.or(of_name.first()) else { return Err(JoinError::NoMember(name)) };
    let old: BTreeSet<Incarnation> = of_name.iter().map(|(id, _)| *id).filter(|id| *id != newcomer).collect();
    if old.is_empty() {
        // A learner that an operator has added; an operator promotes it.
        return Ok(());
    }
    let Some(known) = node.member() else { return Err(JoinError::NoMember(name)) };
    let there = hello(shared, &known).await.map(|h| (Incarnation(h.incarnation), h.member));
    match there {
        Ok((id, member)) if id == newcomer && member == name => {}
        Ok((id, member)) if old.contains(&id) && member == name => {
            return Err(JoinError::AnotherLives(name, node.peer.clone()));
        }
        Ok(_) | Err(_) => return Err(JoinError::NotAtItsAddress(name, node.peer.clone())),
    }
    let _one_at_a_time = shared.changing.try_lock().map_err(|_| JoinError::Busy)?;
    for id in &old {
        // A leader that was elected a moment ago has not called everybody yet.
        let since = shared.last_answer(*id).unwrap_or_default().max(shared.led_since());
        let silent = clock::now().since(since);
        if silent < SILENT {
            return Err(JoinError::OldLives(name, silent.as_millis()));
        }
    }
    change::add_learner(shared, newcomer, node.clone(), CATCH_UP).await?;
    fault!(wait "join.learner", error(e) => return Err(Refusal::Unchanged(e.to_string()).into()));
    let (out, learners): (BTreeSet<Incarnation>, BTreeSet<Incarnation>) =
        old.iter().partition(|id| change::is_voter(shared, **id));
    if !out.is_empty() {
        change::write_once_known(shared, newcomer, change::swap(newcomer, &out)).await?;
    }
    if !learners.is_empty() {
        // Of a time when that member was wiped before it had become a voter again.
        let learners = learners.iter().map(|id| id.0).collect();
        change::write(shared, change::Members::RemoveNodes(learners)).await?;
    }
    tracing::info!(member = %name, incarnation = %newcomer, voter = !out.is_empty(), "taken in");
    Ok(())
}

impl Shared {
    /// Nothing is left to ask for: it votes, or it is a learner that waits to be promoted.
    fn is_settled(&self) -> bool {
        let mine = |node: &Node| node.name == self.name.as_str();
        let nodes = self.nodes();
        let alone = nodes.contains_key(&self.me) && nodes.values().filter(|n| mine(n)).count() == 1;
        alone || self.is_voter()
    }

    /// Whom to ask: where the membership says, else where the file says.
    fn askable(&self) -> BTreeSet<(String, String)> {
        let known = self.others().into_iter().map(|(_, node)| (node.name, node.peer));
        let listed = self.members.iter().filter(|m| m.name != self.name);
        known.chain(listed.map(|m| (m.name.to_string(), m.peer.clone()))).collect()
    }
}

/// Asks every member to be taken in, until the membership shows this incarnation in its place.
pub(super) async fn until_taken_in(shared: Arc<Shared>) {
    let mut told = String::new();
    runtime::sleep(FIRST_ASK).await;
    loop {
        if shared.is_settled() {
            return;
        }
        fault!(wait "join.ask");
        for (name, address) in shared.askable() {
            let request = proto::JoinRequest {
                cluster: shared.cluster.to_string(),
                group: shared.store.group().map(GroupId::to_bytes).unwrap_or_default(),
                member: shared.name.to_string(),
                incarnation: shared.me.0,
            };
            let call = shared
                .links
                .call(&name, &address, ASK_DEADLINE, |mut c| async move { c.join(request).await });
            let answer = call.await;
            if let Ok(answer) = answer
                && !answer.taken_in
                && answer.reason != JoinError::NotLeader.to_string()
                && answer.reason != told
            {
                tracing::warn!(by = %address, "not taken in yet: {}", brief(&answer.reason));
                told = answer.reason;
            }
        }
        runtime::sleep(ASK_EVERY).await;
    }
}
