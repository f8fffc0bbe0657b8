//! The first start (FENCING.md, hole 9). A group is made only when every listed member answers, has
//! an empty directory and the same list; a member that finds a group asks to be taken in.
//!
//! ```text
//!   hello to all --- a group answers ---------------------------> keep its id, join
//!        |   '------ all are empty, same list, I am the first --> Form to all --> initialize
//!        '---------- all are empty, same list, I am not --------> wait for Form
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Shared;
use super::links::CallError;
use super::store::StoreError;
use super::types::Node;
use crate::config::Member;
use crate::model::{GroupId, Incarnation, Name, brief};
use crate::proto;
use crate::runtime;

/// How often the others are asked while there is no group.
const ASK_EVERY: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_millis(500);

/// The way out where a member's directory was emptied while the group was being founded.
const START_OVER: &str = "if that does not end, stop every member, empty every data_dir and start them again";

/// Why this member will not found a group with the one that asked.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    #[error("the request is for another cluster, member or data directory")]
    NotMe,
    #[error(
        "the member lists differ: here [{mine}], there [{theirs}]; make [[members]] the same in every file"
    )]
    ListsDiffer { mine: String, theirs: String },
    #[error("{0} is not the first of the list: only that one founds the group")]
    NotFirst(String),
    #[error("this member belongs to another group already")]
    OtherGroup,
    #[error("the message cannot be read")]
    Garbled,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the founder keeps, so that a crash before the first log entry repeats the same founding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Founding {
    group: GroupId,
    members: BTreeMap<Incarnation, Name>,
}

/// The list as it is compared: names and addresses in the file's order.
pub(super) fn list(members: &[Member]) -> Vec<String> {
    members.iter().map(|m| format!("{}={}", m.name, m.peer)).collect()
}

impl Shared {
    /// Answers a founder. Durable before it returns.
    pub(super) async fn form(&self, request: &proto::FormRequest) -> Result<(), FormError> {
        let for_me = request.cluster == self.cluster.as_str()
            && request.to == self.name.as_str()
            && Incarnation(request.to_incarnation) == self.me;
        if !for_me {
            return Err(FormError::NotMe);
        }
        let mine = list(&self.members);
        if mine != request.members {
            return Err(FormError::ListsDiffer { mine: mine.join(", "), theirs: request.members.join(", ") });
        }
        if self.members.first().is_none_or(|m| m.name.as_str() != request.from) {
            return Err(FormError::NotFirst(request.from.clone()));
        }
        let group = GroupId::from_bytes(&request.group).ok_or(FormError::Garbled)?;
        match self.store.group() {
            Some(known) if known == group => Ok(()),
            Some(_) => Err(FormError::OtherGroup),
            None => Ok(self.store.set_group(group).await?),
        }
    }
}

/// What the search for a group came to.
pub(super) enum Found {
    /// This member founds it: initialize Raft with these.
    Founder(BTreeMap<u64, Node>),
    /// There is one, and this member is in it or will ask to be taken in.
    Member,
}

/// Returns once this member belongs to a group. `log_is_empty` tells a founder that crashed before
/// its first entry from one that has started.
pub(super) async fn find_group(shared: &Shared, log_is_empty: bool) -> Result<Found, StoreError> {
    let founding = read_founding(shared);
    if let Some(founding) = founding.filter(|_| log_is_empty) {
        return found(shared, founding).await;
    }
    while shared.store.group().is_none() {
        match ask_all(shared).await {
            Search::Group(group) => {
                tracing::info!(%group, "a group answers: this member asks to be taken in");
                shared.store.set_group(group).await?;
            }
            Search::AllEmpty(members) if shared.is_first() => {
                let founding = Founding { group: GroupId(random_u128()), members };
                shared.store.set_forming(&serde_json::to_vec(&founding).unwrap_or_default()).await?;
                return found(shared, founding).await;
            }
            Search::AllEmpty(_) => {
                tell(shared, "every member answers: waiting for the first of the list to found the group")
            }
            Search::Wait(why) => tell(shared, &why),
        }
        runtime::sleep(ASK_EVERY).await;
    }
    Ok(Found::Member)
}

/// Says a thing once until something else is to be said.
fn tell(shared: &Shared, words: &str) {
    let is_new = shared.waits.send_if_modified(|told| {
        let is_new = told != words;
        words.clone_into(told);
        is_new
    });
    if is_new {
        tracing::warn!("no group yet: {words}");
    }
}

fn read_founding(shared: &Shared) -> Option<Founding> {
    let bytes = shared.store.forming()?;
    serde_json::from_slice(&bytes).ok()
}

fn random_u128() -> u128 {
    u128::from(runtime::random_u64()) << 64 | u128::from(runtime::random_u64())
}

enum Search {
    Group(GroupId),
    AllEmpty(BTreeMap<Incarnation, Name>),
    Wait(String),
}

async fn ask_all(shared: &Shared) -> Search {
    fault!(wait "form.ask");
    let mut empty = BTreeMap::from([(shared.me, shared.name.clone())]);
    let mut wait = Vec::new();
    for member in shared.members.iter().filter(|m| m.name != shared.name) {
        match hello(shared, member).await {
            Err(error) => wait.push(format!("{} ({}) does not answer: {error}", member.name, member.peer)),
            Ok(answer) if answer.member != member.name.as_str() => {
                wait.push(format!("{} is listed at {}, but {} answers there", member.name, member.peer, brief(&answer.member)));
            }
            Ok(answer) => match GroupId::from_bytes(&answer.group) {
                Some(group) if answer.founded => return Search::Group(group),
                Some(_) => wait.push(format!("{} is about to found a group; {START_OVER}", member.name)),
                None if answer.members != list(&shared.members) => wait.push(format!(
                    "the member lists differ: here [{}], {} has [{}]; make [[members]] the same in every file",
                    list(&shared.members).join(", "),
                    member.name,
                    brief(&answer.members.join(", "))
                )),
                None => {
                    empty.insert(Incarnation(answer.incarnation), member.name.clone());
                }
            },
        }
    }
    if wait.is_empty() { Search::AllEmpty(empty) } else { Search::Wait(wait.join("; ")) }
}

pub(super) async fn hello(shared: &Shared, member: &Member) -> Result<proto::HelloResponse, CallError> {
    let request = proto::HelloRequest {
        cluster: shared.cluster.to_string(),
        member: shared.name.to_string(),
        incarnation: shared.me.0,
    };
    let (name, address) = (member.name.as_str(), &member.peer);
    shared.links.call(name, address, DEADLINE, |mut c| async move { c.hello(request).await }).await
}

/// Has every member keep the group's id; repeats until all have.
async fn found(shared: &Shared, founding: Founding) -> Result<Found, StoreError> {
    loop {
        let mut missing = Vec::new();
        for (incarnation, name) in founding.members.iter().filter(|(id, _)| **id != shared.me) {
            let Some(member) = shared.members.iter().find(|m| m.name == *name) else { continue };
            let request = proto::FormRequest {
                cluster: shared.cluster.to_string(),
                group: founding.group.to_bytes(),
                from: shared.name.to_string(),
                to: name.to_string(),
                to_incarnation: incarnation.0,
                members: list(&shared.members),
            };
            let (to, address) = (name.as_str(), &member.peer);
            let call = shared.links.call(to, address, DEADLINE, |mut c| async move { c.form(request).await });
            if let Err(error) = call.await {
                missing.push(format!("{name}: {error}"));
            }
        }
        if missing.is_empty() {
            break;
        }
        tell(shared, &format!("founding the group: {}; {START_OVER}", missing.join("; ")));
        runtime::sleep(ASK_EVERY).await;
    }
    fault!(wait "form.agreed");
    shared.store.set_group(founding.group).await?;
    fault!(wait "form.founded");
    tracing::info!(group = %founding.group, members = founding.members.len(), "the group is founded");
    let node = |name: &Name| {
        let listed = shared.members.iter().find(|m| m.name == *name);
        listed.map_or_else(|| Node { name: name.to_string(), ..Node::default() }, Node::from)
    };
    Ok(Found::Founder(founding.members.iter().map(|(id, name)| (id.0, node(name))).collect()))
}
