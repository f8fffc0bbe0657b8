//! Changes of the membership, as the judgement wants them. One at a time on this member; another leader's is
//! stopped by the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::raft::Precondition;
use openraft::vote::RaftLeaderId as _;

use super::Shared;
use super::form::hello;
use super::types::{Node, Raft, RaftMetrics, TypeConfig};
use crate::clock;
use crate::decide::{Change, Refusal};
use crate::model::{GroupId, Incarnation, Member, Time};
use crate::mutant::{self, Mutant};
use crate::runtime;

/// A change is two entries at most, and a new leader's first one before it.
const CHANGE_DEADLINE: Duration = Duration::from_secs(5);

/// A newcomer has so long to catch up at least: the ledger is small.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Members report once a second.
const HEARD_OF: Duration = Duration::from_secs(3);

/// How often a newcomer that does not answer yet is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// openraft's, with our ids and nodes.
pub(super) type Members = ChangeMembers<u64, Node>;

/// Makes `change`, if this member leads.
pub(super) async fn make(shared: &Arc<Shared>, change: Change) -> Result<(), Refusal> {
    match change {
        Change::Learn { member, until } => learn(shared, &member, until).await.map(drop),
        Change::Promote(id) => come_to_vote(shared, id, Members::AddVoterIds([id.0].into())).await,
        Change::Remove(ids) => remove(shared, &ids).await,
        Change::Replace { old, member, until } => {
            let new = learn(shared, &member, until).await?;
            if is_voter(shared, old) {
                return come_to_vote(shared, new, swap(new, &[old].into())).await;
            }
            voters(shared, Members::RemoveNodes([old.0].into())).await
        }
        Change::Describe(id, member) => {
            voters(shared, Members::SetNodes(BTreeMap::from([(id.0, Node::from(&member))]))).await
        }
        // Nobody in and nobody out: of two sets of voters the newer one is left.
        Change::Finish => voters(shared, Members::AddVoterIds(BTreeSet::new())).await,
    }
}

/// `new` votes, `old` are out; one change, whatever set of voters is in force.
pub(super) fn swap(new: Incarnation, old: &BTreeSet<Incarnation>) -> Members {
    let old = old.iter().map(|id| id.0).collect();
    Members::Batch(vec![Members::AddVoterIds([new.0].into()), Members::RemoveVoters(old)])
}

fn raft(shared: &Shared) -> Result<&Raft, Refusal> {
    shared.raft.get().filter(|r| r.is_leader()).ok_or(Refusal::NotLeader)
}

pub(super) fn is_voter(shared: &Shared, id: Incarnation) -> bool {
    shared.raft.get().is_some_and(|raft| raft.voter_ids().any(|voter| voter == id.0))
}

async fn remove(shared: &Arc<Shared>, ids: &BTreeSet<Incarnation>) -> Result<(), Refusal> {
    let (out, learners): (BTreeSet<u64>, BTreeSet<u64>) =
        ids.iter().map(|id| id.0).partition(|id| is_voter(shared, Incarnation(*id)));
    if !learners.is_empty() {
        voters(shared, Members::RemoveNodes(learners)).await?;
    }
    if out.is_empty() { Ok(()) } else { voters(shared, Members::RemoveVoters(out)).await }
}

async fn voters(shared: &Arc<Shared>, members: Members) -> Result<(), Refusal> {
    let _one_at_a_time = shared.changing.try_lock().map_err(|_| Refusal::Changing)?;
    write(shared, members).await
}

async fn come_to_vote(shared: &Shared, new: Incarnation, members: Members) -> Result<(), Refusal> {
    let _one_at_a_time = shared.changing.try_lock().map_err(|_| Refusal::Changing)?;
    write_once_known(shared, new, members).await
}

/// Whoever calls holds `changing`. Voters that go leave the membership.
pub(super) async fn write(shared: &Shared, members: Members) -> Result<(), Refusal> {
    write_if(shared, members, None).await
}

/// As `write`, once `new`, which comes to vote, has the entry that took it in. To openraft a newcomer has caught up that
/// lacks a few entries, that one among them; and who was in the group before, and thinks that it is out, votes for nobody.
/// Where such a one were to vote at once, and the leader died with the only copy of the change, nobody could be elected
/// any more. A leader that was deposed and elected anew meanwhile does not know it of its followers: it is asked again.
pub(super) async fn write_once_known(
    shared: &Shared,
    new: Incarnation,
    members: Members,
) -> Result<(), Refusal> {
    let has_it = |metrics: &RaftMetrics| {
        let taken_in = metrics.membership_config.log_id().as_ref();
        let matched = metrics.replication.as_ref().map(|replication| replication.get(&new.0));
        matched.map(|matched| matched.is_some_and(|matched| matched.as_ref() >= taken_in))
    };
    // Who leads no more cannot know.
    let over = |metrics: &RaftMetrics| has_it(metrics) != Some(false) || mutant::on(Mutant::VoterKnowsItIsIn);
    let wait = raft(shared)?.wait(Some(CHANGE_DEADLINE));
    let waited = wait.metrics(over, "the new voter knows that it is in").await;
    let metrics = waited.map_err(|_| no_match(CHANGE_DEADLINE))?;
    has_it(&metrics).ok_or(Refusal::NotLeader)?;
    let committed_leader_id = metrics.vote.leader_id.to_committed();
    write_if(shared, members, Some(Precondition::CommittedLeaderId { committed_leader_id })).await
}

async fn write_if(
    shared: &Shared,
    members: Members,
    only: Option<Precondition<TypeConfig>>,
) -> Result<(), Refusal> {
    fault!(wait "member.change", error(e) => return Err(Refusal::Unchanged(e.to_string())));
    let change = raft(shared)?.change_membership_if(members, false, only);
    match runtime::timeout(CHANGE_DEADLINE, change).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Refusal::Unchanged(error.to_string())),
        Err(_) => Err(Refusal::Unchanged(format!("no quorum took it within {CHANGE_DEADLINE:?}"))),
    }
}

/// Waits until whoever answers at the address is `member`, then gives it the log.
async fn learn(shared: &Arc<Shared>, member: &Member, until: Time) -> Result<Incarnation, Refusal> {
    let id = loop {
        raft(shared)?;
        let why = match newcomer(shared, member).await? {
            Ok(id) => break id,
            Err(why) => why,
        };
        if clock::now() >= until {
            return Err(Refusal::NotThere(member.name.clone(), member.peer.clone(), why));
        }
        runtime::sleep(ASK_EVERY).await;
    };
    let _one_at_a_time = shared.changing.try_lock().map_err(|_| Refusal::Changing)?;
    add_learner(shared, id, Node::from(member), until.since(clock::now()).max(CATCH_UP)).await?;
    // Of a learner that was emptied meanwhile the earlier directory is gone: nobody else would take it out.
    let of_name = shared.nodes().into_iter().filter(|(_, node)| node.name == member.name.as_str());
    let gone = of_name.map(|(of, _)| of).filter(|of| *of != id && !is_voter(shared, *of));
    let gone: BTreeSet<u64> = gone.map(|of| of.0).collect();
    if !gone.is_empty() {
        write(shared, Members::RemoveNodes(gone)).await?;
    }
    tracing::info!(member = %member.name, incarnation = %id, "gets the log, as a learner");
    // Who promotes it next is not to hear that it does not answer.
    shared.reports.until_heard_of(&member.name, HEARD_OF).await;
    fault!(wait "member.learner", error(e) => return Err(Refusal::Unchanged(e.to_string())));
    Ok(id)
}

/// Whoever calls holds `changing`.
pub(super) async fn add_learner(
    shared: &Shared,
    id: Incarnation,
    node: Node,
    patience: Duration,
) -> Result<(), Refusal> {
    let learn = raft(shared)?.add_learner(id.0, node, true);
    match runtime::timeout(patience, learn).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Refusal::Unchanged(error.to_string())),
        Err(_) => Err(no_match(patience)),
    }
}

fn no_match(patience: Duration) -> Refusal {
    Refusal::Unchanged(format!("the newcomer did not catch up within {patience:?}"))
}

/// Its incarnation; or why it is not ready yet.
async fn newcomer(shared: &Shared, member: &Member) -> Result<Result<Incarnation, String>, Refusal> {
    let there = match hello(shared, member).await {
        Ok(there) => there,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let another = |who: String| Refusal::AnotherThere(member.peer.clone(), who, member.name.clone());
    if there.member != member.name.as_str() {
        return Err(another(there.member));
    }
    let id = Incarnation(there.incarnation);
    if shared.nodes().get(&id).is_some_and(|node| node.name != there.member) {
        return Err(another(format!("a data directory that is a member already, {id},")));
    }
    match GroupId::from_bytes(&there.group) {
        Some(group) if Some(group) == shared.store.group() => Ok(Ok(id)),
        Some(group) => Err(another(format!("{} of another group, {group},", there.member))),
        None => Ok(Err("it has not found this group yet".to_owned())),
    }
}
