//! What the whole shows once all faults are over: one owner, and route = owner = address.

use std::collections::BTreeSet;

use vipd::model::{Observed, RouteMap, Vip};
use vipd::raft::store::Applied;

/// One living member from outside.
pub struct Member {
    pub name: String,
    pub eni: String,
    pub applied: Applied,
    pub leads: bool,
    pub addresses: BTreeSet<Vip>,
}

/// The owner's place among `members`, or what is not right yet.
pub fn healed(members: &[Member], routes: &RouteMap, seats: usize) -> Result<usize, String> {
    if members.len() < seats {
        return Err(format!("{} of {seats} members run", members.len()));
    }
    let mut claims = members.iter().map(|m| m.applied.ledger.claim.as_ref());
    let Some(Some(claim)) = claims.next() else { return Err("no claim is known".to_owned()) };
    if claims.any(|c| c != Some(claim)) {
        return Err("the members know different claims".to_owned());
    }
    if !claim.done {
        return Err(format!("the move of epoch {} is not over", claim.epoch));
    }
    let Some(owner) = members.iter().position(|m| m.name == claim.member.as_str()) else {
        return Err(format!("{} owns and does not run", claim.member));
    };
    if !members[owner].leads {
        return Err(format!("{} owns and does not lead", claim.member));
    }
    for (route, seen) in routes {
        let right = matches!(seen, Observed::Active(Some(eni)) if eni.as_str() == members[owner].eni);
        if !right {
            return Err(format!("{} is {seen:?}, the owner is {}", route.table, claim.member));
        }
    }
    for (place, member) in members.iter().enumerate() {
        if member.addresses.is_empty() == (place == owner) {
            let words = if place == owner { "owns without" } else { "does not own and has" };
            return Err(format!("{} {words} the address", member.name));
        }
    }
    Ok(owner)
}
